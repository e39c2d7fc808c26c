"""A worker's sandboxes, kept ready between jobs, and the images and limits that it has been given for them."""

from __future__ import annotations

import mmap
import os
import pickle
from collections import OrderedDict, deque
from collections.abc import Callable

from parallel_exec.limits import Limits
from parallel_exec.pool._transport.channel import Record, RecordKind, read_segment
from parallel_exec.sandbox import Image, Sandbox, load_image

# Bytes of linear memory of the sandboxes that are kept ready.
KEPT_SANDBOX_BYTES = 64 << 20


class Stale(Exception):
    """The image was given back: the `warm_up` that asked for this sandbox is over."""


class Sandboxes:
    """The sandboxes of a worker, the most recently used last.

    Args:
        receive: takes in the worker's next record; False: there will be none.
        on_console: for all sandboxes.
    """

    def __init__(self, receive: Callable[[], bool], on_console: Callable[[int, str], None]) -> None:
        self._receive = receive
        self._on_console = on_console
        self._images: dict[int, Image] = {}
        self._maps: dict[int, mmap.mmap] = {}
        self._hosts: dict[int, bytes] = {}
        self._limits: dict[int, Limits] = {}
        self._sandboxes: OrderedDict[tuple[int, int], Sandbox] = OrderedDict()
        self._latest = 0, 0  # key of the sandbox that the last job ran in
        self._held: dict[tuple[int, int], int] = {}  # bytes of each sandbox, as of when the worker turned from it
        self._forgotten: deque[int] = deque(maxlen=1024)

    def latest(self, image: int, limits: int) -> Sandbox | None:
        """Return the sandbox for an image and limits if it is the one that was asked for last."""
        return self._sandboxes[self._latest] if (image, limits) == self._latest else None

    def get(self, image: int, limits: int) -> Sandbox:
        """Return the sandbox for an image and limits, whose records have been sent before what asks for it.

        Raises:
            Stale: the image was given back.
            PexecError: there is no memory for the sandbox.
        """
        key = image, limits
        self._tidy()
        sandbox = self._sandboxes.get(key) or self._open(image, limits)
        self._sandboxes[key] = sandbox
        self._sandboxes.move_to_end(key)
        self._latest = key
        return sandbox

    def take(self, record: Record) -> bool:
        """Take in a record that is about images or limits; False: it is not."""
        match record.kind:
            case RecordKind.IMAGE:
                self._maps[record.ident] = mmap.mmap(record.fds[0], record.value, access=mmap.ACCESS_READ)
            case RecordKind.LIMITS:
                # Of this process's own parent, which is trusted; nothing else is unpickled here.
                self._limits[record.ident] = pickle.loads(read_segment(record.fds[0], record.value))  # noqa: S301 -- as above
            case RecordKind.HOST:
                self._hosts[record.ident] = read_segment(record.fds[0], record.value)
            case RecordKind.FORGET:
                self._forget(record.ident)
            case _:
                return False
        record.close()
        return True

    def drop(self, image: int, limits: int) -> None:
        """Close a sandbox, which may be in any state."""
        self._latest = 0, 0
        self._held.pop((image, limits), None)
        sandbox = self._sandboxes.pop((image, limits), None)
        if sandbox is not None:
            sandbox.close()

    def _open(self, image: int, limits: int) -> Sandbox:
        while limits not in self._limits:
            self._expect()
        while image not in self._maps:
            if image in self._forgotten:
                raise Stale
            self._expect()
        if image not in self._images:
            self._images[image] = load_image(self._maps[image])
        host = pickle.loads(self._hosts[image]) if image in self._hosts else None  # noqa: S301 -- as above
        return Sandbox(self._images[image], limits=self._limits[limits], on_console=self._on_console, host=host)

    def _tidy(self) -> None:
        """The worker turns to another sandbox: close those that it has not used for longest, if all have too much."""
        if self._latest in self._sandboxes:
            self._held[self._latest] = self._sandboxes[self._latest].memory_bytes
        while sum(self._held.values()) > KEPT_SANDBOX_BYTES:
            self.drop(*next(iter(self._sandboxes)))

    def _forget(self, image: int) -> None:
        self._forgotten.append(image)
        for key in [each for each in self._sandboxes if each[0] == image]:
            self.drop(*key)
        for known in (self._images, self._maps, self._hosts):
            known.pop(image, None)

    def _expect(self) -> None:
        if not self._receive():
            os._exit(0)
