"""A worker: reads requests from its ring, runs them in its sandboxes, writes results to its other ring, and sleeps
between.

It is forked by the zygote and ends by being killed, by the end of its control socket, or by finding its ring corrupt.
It never blocks on anything but its doorbell and its control socket, and holds no lock that another process could need.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

from parallel_exec._codec import arrays
from parallel_exec.errors import PexecError
from parallel_exec.pool._transport.bell import ring_bell, silence_bell
from parallel_exec.pool._transport.block import RESERVE, Block
from parallel_exec.pool._transport.channel import Channel, ProtocolError, Record, RecordKind, new_segment
from parallel_exec.pool._transport.frames import (
    DONE,
    FAILED,
    NEEDS,
    PREPARE,
    REPORT,
    REVOKED,
    Entry,
    RequestFrame,
    dump_console,
    dump_error,
    pack_report,
)
from parallel_exec.pool._transport.ring import Buffer, Frame, RingCorrupted
from parallel_exec.pool._workers.sandboxes import Sandboxes, Stale
from parallel_exec.sandbox import Sandbox

KEPT_NAMES = 256
EXIT_BROKEN = 70  # the worker found what its parent cannot have sent
# A report is sent when the jobs so far of a batch took this long, so that a slow job delays few results.
REPORT_NS = 1_000_000
# Quiet reports are announced when no more than this part of the requests is left that there were at most since the last
# announcement: about two of eight, which keep the worker busy while it is sent more.
LOW_WATER = 1 / 3
START_NS = 5_000_000_000  # what making a sandbox may take, an import of host functions included

_PR_SET_PDEATHSIG = 1
_FAILURE_MAX = 8000  # characters of a host function's failure, its traceback included, that are logged


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
        sys.stderr.write(f"parallel_exec worker {os.getpid()}: {error}\n")
        sys.stderr.flush()
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


class _Forward(logging.Handler):
    """Sends what host functions fail with to the parent's log, where the console's records go, too."""

    def __init__(self, send: Callable[[int, str], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(record.levelno, self.format(record)[-_FAILURE_MAX:].encode("utf-8", "replace").decode())


class _Worker:
    def __init__(self, block: Block, request_bell: int, result_bell: int, control: Channel) -> None:
        self._block = block
        self._request_bell = request_bell
        self._result_bell = result_bell
        self._control = control
        self._poll = select.poll()
        self._poll.register(request_bell, select.POLLIN)
        self._poll.register(control.fileno(), select.POLLIN)
        self._segments: dict[int, Record] = {}
        self._sandboxes = Sandboxes(self._receive, self._log)
        self._names: dict[bytes, str] = {}
        self._console: list[tuple[int, str]] = []
        failures = logging.getLogger("parallel_exec.host")
        failures.addHandler(_Forward(self._log))
        failures.propagate = False
        self._unannounced = False
        self._high_water = 0  # bytes of requests, at most, since the last announcement

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
        if self._unannounced:
            self._announce()
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
        if frame.kind == PREPARE:
            self._prepare(frame)
            return
        request = RequestFrame.unpack(frame.meta)
        if request.segment:
            payload, opened = self._open_segment(request)
        else:
            payload, opened = frame.payload, None
        if sum(request.lengths) != len(payload):
            raise ProtocolError(f"documents of {request.lengths} bytes in a payload of {len(payload)}")
        entries: list[Entry] = []
        parts: list[Buffer] = []
        sequence = first = request.sequence
        now = reported = time.monotonic_ns()
        at = 0
        for length in request.lengths:
            if now - reported > REPORT_NS:
                self._reply(first, entries, parts)
                ring_bell(self._result_bell)
                entries, parts, first, reported = [], [], sequence, now
            with payload[at : at + length] as document:
                status, kind, records, result, reset_ns, fuel = self._perform(request, sequence, now, document)
            start, now = now, time.monotonic_ns()
            entries.append((status, kind, len(records), len(result), now - start, start, reset_ns, fuel))
            if records:
                parts.append(records)
            parts.append(result)
            at += length
            sequence += 1
        if opened is not None:
            payload.release()
            opened.close()
        requests = self._block.requests
        size = requests.unread
        requests.release(frame)
        size -= requests.unread
        self._reply(first, entries, parts)
        left = requests.unread
        # With one batch left, whatever there was before: the parent has the time that one takes to send more.
        if request.quiet and left > max(self._high_water * LOW_WATER, size * 3 // 2):
            self._unannounced = True
            self._high_water = max(self._high_water, left + size)
        else:
            self._announce()

    def _announce(self) -> None:
        """Ring for what has been reported, unless the parent is awake."""
        self._unannounced = False
        self._high_water = 0
        if self._block.results.peer_sleeps():
            ring_bell(self._result_bell)

    def _prepare(self, frame: Frame) -> None:
        """Make a sandbox ready, and say so."""
        image, limits = NEEDS.unpack(frame.meta)
        self._block.requests.release(frame)
        failure = b""
        try:
            self._sandboxes.get(image, limits)
        except Stale:
            pass
        except PexecError as error:
            failure = dump_error(error)
        fd, size = new_segment((failure,))
        try:
            self._control.send(RecordKind.READY, image << 32 | limits, size, (fd,))
        finally:
            os.close(fd)

    def _perform(
        self, request: RequestFrame, sequence: int, now_ns: int, document: memoryview
    ) -> tuple[int, int, bytes, bytes, int, int]:
        """Run one job; return its status, the kind of its result, its console records, its result or error, and what it
        took: nanoseconds of the reset, and fuel.
        """
        if self._console:
            self._console = []
        status, kind = DONE, arrays.JSON
        sandbox: Sandbox | None = None
        try:
            # From here on the worker's death is this job's failure (README: who was it).
            if not self._block.begin(sequence, now_ns):
                return REVOKED, kind, b"", b"", 0, 0
            sandbox = self._sandboxes.latest(request.image, request.limits)
            if sandbox is None:
                # Making a sandbox is not the job's doing: its time begins anew afterwards.
                self._block.begin(sequence, now_ns + START_NS)
                sandbox = self._sandboxes.get(request.image, request.limits)
                self._block.begin(sequence, time.monotonic_ns())
            kind, result = sandbox.run(
                self._names.get(request.name) or self._name(request.name), document, request.kind
            )
        except PexecError as error:
            status, result = FAILED, dump_error(error)
        except (RingCorrupted, ProtocolError):
            raise
        except Exception as error:
            # Not a failure of the plugin but of this package or this machine; the sandbox may be in any state.
            traceback.print_exc()
            self._sandboxes.drop(request.image, request.limits)
            sandbox = None
            text = f"the worker failed to run the job: {type(error).__name__}: {error}"
            status, result = FAILED, dump_error(PexecError(text))
        reset_ns, fuel = (0, 0) if sandbox is None else (sandbox.reset_ns, sandbox.fuel_used or 0)
        return status, kind, dump_console(self._console) if self._console else b"", result, reset_ns, fuel

    def _name(self, name: bytes) -> str:
        if len(self._names) >= KEPT_NAMES:
            self._names.clear()
        known = self._names[name] = name.decode("utf-8", "surrogatepass")
        return known

    def _open_segment(self, request: RequestFrame) -> tuple[memoryview, mmap.mmap]:
        while request.sequence not in self._segments:
            self._expect()
        segment = self._segments.pop(request.sequence)
        try:
            content = mmap.mmap(segment.fds[0], segment.value, access=mmap.ACCESS_READ)
        finally:
            segment.close()
        return memoryview(content), content

    def _reply(self, sequence: int, entries: list[Entry], parts: list[Buffer]) -> None:
        try:
            self._send(sequence, entries, parts)
        except OSError as error:
            for number, entry in enumerate(entries, sequence):
                failure = dump_error(PexecError(f"the result ({entry[3]} bytes) cannot be sent: {error.strerror}"))
                self._send(number, [(FAILED, arrays.JSON, 0, len(failure), *entry[4:])], [failure])

    def _send(self, sequence: int, entries: list[Entry], parts: list[Buffer]) -> None:
        ring = self._block.results
        if len(parts) > 1:
            parts = [b"".join(parts)]
        if ring.write(REPORT, pack_report(sequence, 0, entries), parts, reserve=RESERVE):
            return
        fd, size = new_segment(parts)
        try:
            self._control.send(RecordKind.SEGMENT, sequence, size, (fd,))
        finally:
            os.close(fd)
        if not ring.write(REPORT, pack_report(sequence, size, entries)):
            raise RingCorrupted("no room for the report on jobs that were in the window")

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
        if record.kind is RecordKind.SEGMENT:
            self._segments[record.ident] = record
        elif not self._sandboxes.take(record):
            raise ProtocolError(f"a worker cannot serve the record {record.kind.name}")
        return True
