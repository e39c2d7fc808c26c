"""A worker: reads requests from its ring, runs them in its sandboxes, writes results to its other ring, and sleeps
between.

It is forked by the zygote and ends by being killed, by the end of its control socket, or by finding its ring corrupt.
It never blocks on anything but its doorbell and its control socket, and holds no lock that another process could need.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import select
import signal
import sys
import threading
import traceback
from collections import OrderedDict

from .. import arrays
from ..errors import PexecError
from ..limits import Limits
from ..sandbox import MemoryImage, Sandbox
from .bell import ring_bell, silence_bell
from .block import RESERVE, Block
from .channel import Channel, Kind, ProtocolError, Record, new_segment, read_segment
from .job import RESULT, Request, Result, Status, dump_console, dump_error
from .ring import Frame, RingCorrupted

KEPT_SANDBOXES = 8
EXIT_BROKEN = 70  # the worker found what its parent cannot have sent

_PR_SET_PDEATHSIG = 1


def run(block: Block, request_bell: int, result_bell: int, control: Channel, zygote: int) -> None:
    """Be a worker until the end of the process.

    Args:
        block: the shared memory.
        request_bell, result_bell: descriptors of the doorbells, the worker's own and its parent's.
        control: to the parent.
        zygote: process id of the parent process, without which the worker must not stay.
    """
    _die_with_parent(zygote, control)
    try:
        _Worker(block, request_bell, result_bell, control).run()
    except (RingCorrupted, ProtocolError) as error:
        print(f"parallel_exec worker {os.getpid()}: {error}", file=sys.stderr, flush=True)
        os._exit(EXIT_BROKEN)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _die_with_parent(zygote: int, control: Channel) -> None:
    """Have the kernel kill this process, busy or not, when the zygote ends (as it does with the pool's process)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(control,), daemon=True).start()
    if os.getppid() != zygote:  # it ended before the kernel was told
        os._exit(0)


def _watch(control: Channel) -> None:
    poll = select.poll()
    poll.register(control.fileno(), select.POLLHUP)
    poll.poll()
    os._exit(0)


class _Worker:
    def __init__(self, block: Block, request_bell: int, result_bell: int, control: Channel) -> None:
        self._block = block
        self._request_bell = request_bell
        self._result_bell = result_bell
        self._control = control
        self._poll = select.poll()
        self._poll.register(request_bell, select.POLLIN)
        self._poll.register(control.fileno(), select.POLLIN)
        self._images: dict[int, MemoryImage] = {}
        self._image_maps: dict[int, mmap.mmap] = {}
        self._limits: dict[int, Limits] = {}
        self._segments: dict[int, Record] = {}
        self._sandboxes: OrderedDict[tuple[int, int], Sandbox] = OrderedDict()
        self._console: list[tuple[int, str]] = []

    def run(self) -> None:
        requests = self._block.requests
        while True:
            frame = requests.read()
            if frame is not None:
                self._serve(frame)
            elif not self._sleep():
                return

    def _sleep(self) -> bool:
        """Block until something may have come; False: the parent has closed the control socket."""
        requests = self._block.requests
        if not requests.doze():
            return True
        ready = self._poll.poll()
        requests.wake()
        for fd, _ in ready:
            if fd == self._request_bell:
                silence_bell(fd)
            elif not self._receive():
                return False
        return True

    def _serve(self, frame: Frame) -> None:
        block = self._block
        request = Request.unpack(frame.meta)
        # From here on the worker's death is this job's failure (README: who was it).
        block.running = request.job
        self._console = []
        kind = arrays.JSON
        try:
            status = Status.DONE
            kind, payload = self._perform(request, frame)
        except PexecError as error:
            status, payload = Status.FAILED, dump_error(error)
        except (RingCorrupted, ProtocolError):
            raise
        except Exception as error:
            # Not a failure of the plugin but of this package or this machine; the sandbox may be in any state.
            traceback.print_exc()
            self._forget_sandbox((request.image, request.limits))
            text = f"the worker failed to run the job: {type(error).__name__}: {error}"
            status, payload = Status.FAILED, dump_error(PexecError(text))
        block.requests.release(frame)
        try:
            self._reply(request.job, status, kind, payload)
        except OSError as error:
            failure = PexecError(f"the result ({len(payload)} bytes) cannot be sent: {error.strerror}")
            self._console = []
            self._reply(request.job, Status.FAILED, kind, dump_error(failure))
        block.running = 0
        if block.results.peer_sleeps():
            ring_bell(self._result_bell)

    def _perform(self, request: Request, frame: Frame) -> tuple[int, bytes]:
        split = request.name_length
        sandbox = self._sandbox(request.image, request.limits)
        if not request.segment:
            with frame.payload[:split] as name, frame.payload[split:] as document:
                return sandbox.run(str(name, "utf-8", "surrogatepass"), document, request.kind)
        while request.job not in self._segments:
            self._expect()
        segment = self._segments.pop(request.job)
        try:
            content = mmap.mmap(segment.fds[0], segment.value, access=mmap.ACCESS_READ)
        finally:
            segment.close()
        with content, memoryview(content) as view, view[:split] as name, view[split:] as document:
            return sandbox.run(str(name, "utf-8", "surrogatepass"), document, request.kind)

    def _reply(self, job: int, status: Status, kind: int, payload: bytes) -> None:
        console = dump_console(self._console)
        result = Result(job, status, kind, len(console), 0)
        ring = self._block.results
        if ring.write(RESULT, result.pack(), (console, payload), reserve=RESERVE):
            return
        fd, size = new_segment((console, payload))
        try:
            self._control.send(Kind.SEGMENT, job, size, (fd,))
        finally:
            os.close(fd)
        if not ring.write(RESULT, result._replace(segment=size).pack()):
            raise RingCorrupted("no room for the result of a job that was in the window")

    def _sandbox(self, image: int, limits: int) -> Sandbox:
        key = image, limits
        sandbox = self._sandboxes.get(key)
        if sandbox is not None:
            self._sandboxes.move_to_end(key)
            return sandbox
        while limits not in self._limits:
            self._expect()
        while image not in self._image_maps:
            self._expect()
        if image not in self._images:
            self._images[image] = MemoryImage.from_bytes(self._image_maps[image])
        if len(self._sandboxes) >= KEPT_SANDBOXES:
            self._sandboxes.popitem(last=False)[1].close()
        sandbox = Sandbox(self._images[image], limits=self._limits[limits], on_console=self._log)
        self._sandboxes[key] = sandbox
        return sandbox

    def _forget_sandbox(self, key: tuple[int, int]) -> None:
        sandbox = self._sandboxes.pop(key, None)
        if sandbox is not None:
            sandbox.close()

    def _log(self, level: int, text: str) -> None:
        self._console.append((level, text))

    def _expect(self) -> None:
        """Take in the next record; what a request refers to was sent before the request."""
        if not self._receive():
            os._exit(0)

    def _receive(self) -> bool:
        record = self._control.receive()
        if record is None:
            return False
        match record.kind:
            case Kind.IMAGE:
                self._image_maps[record.ident] = mmap.mmap(record.fds[0], record.value, access=mmap.ACCESS_READ)
                record.close()
            case Kind.LIMITS:
                # Of this process's own parent, which is trusted; nothing else is unpickled here.
                self._limits[record.ident] = pickle.loads(read_segment(record.fds[0], record.value))
                record.close()
            case Kind.SEGMENT:
                # A job is sent twice when an exception interrupted its sending (README: interrupted hand-over).
                if record.ident in self._segments:
                    self._segments[record.ident].close()
                self._segments[record.ident] = record
            case _:
                raise ProtocolError(f"a worker cannot serve the record {record.kind.name}")
        return True
