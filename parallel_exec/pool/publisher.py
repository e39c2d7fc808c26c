"""What all workers of a pool share: memory images and limits, published once, handed to each worker on first use."""

from __future__ import annotations

import os
import pickle
import threading
from typing import NamedTuple

from ..limits import Limits
from ..plugin import Plugin
from .channel import Kind, new_segment


class Shared(NamedTuple):
    """One published thing: its bytes in a segment, and under which kind and number workers are given it."""

    kind: Kind
    ident: int
    fd: int
    size: int

    @classmethod
    def publish(cls, kind: Kind, ident: int, content: bytes) -> Shared:
        """Put the content into shared memory.

        Raises:
            OSError: there is no memory or no descriptor left.
        """
        return cls(kind, ident, *new_segment((content,)))


class Publisher:
    """The images and limits of a pool by their numbers. Usable by any thread.

    Attributes:
        limits: the pool's limits.
    """

    def __init__(self, limits: Limits) -> None:
        self._lock = threading.Lock()
        self._images: dict[int, Shared] = {}
        self._ids: dict[str, int] = {}
        self.limits = Shared.publish(Kind.LIMITS, 1, pickle.dumps(limits))
        self._open = [self.limits.fd]

    def publish(self, plugin: Plugin) -> int:
        """Return the number of the plugin's image; it is captured and published if that has not been done.

        Raises:
            PluginError: the plugin cannot be loaded.
        """
        ident = self._ids.get(plugin.digest)
        if ident is not None:
            return ident
        with self._lock:
            ident = self._ids.get(plugin.digest)
            if ident is None:
                ident = len(self._images) + 1
                shared = Shared.publish(Kind.IMAGE, ident, plugin.image().to_bytes())
                self._open.append(shared.fd)
                self._images[ident] = shared
                self._ids[plugin.digest] = ident
        return ident

    def image(self, ident: int) -> Shared:
        """Return the image with this number."""
        return self._images[ident]

    def close(self) -> None:
        """Give the memory back; workers that have it mapped keep it. Calling it again does nothing."""
        open_fds, self._open = self._open, []
        for fd in open_fds:
            os.close(fd)
