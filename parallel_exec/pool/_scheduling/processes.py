"""The parent's side of the pool's processes: the zygote, and each worker from its fork to its end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from enum import Enum

from parallel_exec.errors import PexecError
from parallel_exec.pool._scheduling.job import Job
from parallel_exec.pool._scheduling.process_target import ProcessTarget
from parallel_exec.pool._scheduling.scheduler import WINDOW_BATCHES, Batch
from parallel_exec.pool._stats import Tally
from parallel_exec.pool._transport.bell import new_bell, ring_bell
from parallel_exec.pool._transport.block import BLOCK_BYTES, RESERVE, Block
from parallel_exec.pool._transport.channel import (
    Channel,
    ProtocolError,
    Record,
    RecordKind,
    new_memory,
    new_segment,
    read_segment,
)
from parallel_exec.pool._transport.frames import (
    MOST_BATCHED,
    NEEDS,
    PREPARE,
    REQUEST,
    Entry,
    RequestFrame,
    load_error,
    pack_request,
    unpack_report,
)
from parallel_exec.pool._transport.ring import RingCorrupted

_BOOTSTRAP = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from parallel_exec.pool._workers.zygote import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)


# How long a zygote may take to end, milliseconds' work, before it is killed: it may have been stopped (SIGSTOP).
STOP_S = 5.0
# Segments that a worker may send before its reports are read: one for each job in flight.
MOST_SEGMENTS = WINDOW_BATCHES * MOST_BATCHED


class WorkerState(Enum):
    """Where a worker is in its life, as its parent knows it. See README.md for the transitions."""

    STARTING = "the zygote has been asked to fork it; its ring takes requests already"
    RUNNING = "its process exists"
    BROKEN = "it broke the protocol: it gets no more jobs and is being killed; what it says no longer counts"
    RETIRED = "it is being killed, through no fault of its own: another process takes its place"
    OVERDUE = "it is being killed because its job outlived deadline and grace; what it ends meanwhile counts"
    DEAD = "its exit is known; its memory and descriptors are given back"


class Worker:
    """One worker: its shared memory, its descriptors, and what it has been sent.

    Attributes:
        id: number in its pool, never used twice.
        state: see `WorkerState`.
        pid: its process id, or None before the zygote has told it.
        fault: why it is being killed, or "".
        tally: what it has done.
        asked_at: time of a monotonic clock at which the zygote was asked to fork it or, later, to kill it.
        since: time of that clock at which it was last given a job while it had none, or last ended one.
    """

    def __init__(self, id: int, result_bell: int) -> None:
        """Make what the worker will share with this process.

        Args:
            id: its number.
            result_bell: the pool's doorbell, for the worker to ring.
        """
        self.id = id
        self.state = WorkerState.STARTING
        self.pid: int | None = None
        self.fault = ""
        self.asked_at = 0.0
        self.since = 0.0
        self.tally = Tally()
        self._preparing: set[tuple[int, int]] = set()
        self._ready: dict[tuple[int, int], PexecError | None] = {}
        self._known: set[tuple[RecordKind, int]] = set()
        self._introduced: set[tuple[int, int]] = set()
        self._to_forget: list[int] = []
        self._segments: dict[int, Record] = {}
        # The worker's ends, open here until they are on their way to it.
        self._theirs: list[int] = []
        with ExitStack() as opened:
            opened.callback(self._close_theirs)
            self._theirs.append(new_memory(BLOCK_BYTES))
            self.block = Block(self._theirs[0])
            opened.callback(self.block.close)
            self.request_bell, theirs = new_bell()
            opened.callback(os.close, self.request_bell)
            self._theirs.append(theirs)
            self._theirs.append(os.dup(result_bell))
            self.control, control = Channel.pair()
            self._theirs.append(control.socket.detach())
            opened.pop_all()

    def fork(self, zygote: Channel) -> None:
        """Ask the zygote for the process."""
        try:
            zygote.send(RecordKind.FORK, self.id, 0, self._theirs)
        finally:
            self._close_theirs()

    def send(self, batch: Batch[Job[ProcessTarget]]) -> None:
        """Hand the batch over: into the ring, or, if it has no room there, in a segment.

        Raises:
            OSError: there is no memory or no descriptor left for a segment. The worker's death is no error here: its
                exit will be reported, and the jobs are still in its window.
        """
        jobs = batch.jobs
        target = jobs[0].target
        try:
            if target.needs not in self._introduced:
                self._introduce(target)
            job = jobs[0]
            if len(jobs) == 1:
                lengths, parts = [job.size], [job.document]
            else:
                lengths, parts = [each.size for each in jobs], [b"".join([each.document for each in jobs])]
            ring = self.block.requests
            request = RequestFrame(
                batch.sequence, target.image, target.limits, job.kind, batch.quiet, 0, target.name, lengths
            )
            if not ring.write(REQUEST, pack_request(request), parts, reserve=RESERVE):
                fd, size = new_segment(parts)
                try:
                    self.control.send(RecordKind.SEGMENT, batch.sequence, size, (fd,))
                finally:
                    os.close(fd)
                if not ring.write(REQUEST, pack_request(request._replace(segment=size))):
                    raise RingCorrupted("no room for a request that is in the window")
            if ring.peer_sleeps():
                ring_bell(self.request_bell)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _introduce(self, target: ProcessTarget) -> None:
        """Give the worker what it does not have of what a target needs."""
        for shared in target.shared:
            if (shared.kind, shared.ident) not in self._known:
                shared.send(self.control)
                self._known.add((shared.kind, shared.ident))
        self._introduced.add(target.needs)

    def warms(self, target: ProcessTarget) -> bool:
        """Whether the worker has a sandbox for the target; if not, it is asked to make one, unless it was asked before.

        Raises:
            PexecError: it cannot make one.
            OSError: as of `send`.
        """
        needs = target.needs
        if needs not in self._preparing:
            if needs not in self._introduced:
                self._introduce(target)
            if self.block.requests.write(PREPARE, NEEDS.pack(*needs)):
                self._preparing.add(needs)
                if self.block.requests.peer_sleeps():
                    ring_bell(self.request_bell)
        failure = self._ready.get(needs)
        if failure is not None:
            raise failure.at(plugin=target.plugin, function=target.function)
        return needs in self._ready

    def forget(self, images: Sequence[int]) -> None:
        """Tell the worker to give back images of which there will be no more jobs. If its socket, which holds hundreds
        of records, has no room because it is busy, it is told another time.
        """
        self._to_forget += [image for image in images if (RecordKind.IMAGE, image) in self._known]
        try:
            while self._to_forget:
                image = self._to_forget[-1]
                self.control.send(RecordKind.FORGET, image, wait=False)
                self._to_forget.pop()
                self._known -= {(RecordKind.IMAGE, image), (RecordKind.HOST, image)}
                self._preparing = {needs for needs in self._preparing if needs[0] != image}
                self._ready = {needs: how for needs, how in self._ready.items() if needs[0] != image}
                self._introduced = {needs for needs in self._introduced if needs[0] != image}
        except OSError:
            return  # it has no room, or is dead

    def receive(self) -> bool:
        """Take in a record, if there is one. False: the worker's end is closed.

        Raises:
            ProtocolError: it is nothing that a worker sends.
        """
        try:
            record = self.control.receive(wait=False)
        except BlockingIOError:
            return True
        if record is None:
            return False
        if record.kind is RecordKind.READY and len(record.fds) == 1:
            self._take_ready(record)
            return True
        if record.kind is not RecordKind.SEGMENT or len(record.fds) != 1 or record.ident in self._segments:
            record.close()
            raise ProtocolError(f"a worker cannot send the record {record.kind.name}")
        if len(self._segments) >= MOST_SEGMENTS:
            record.close()
            raise ProtocolError("more segments than reports that could name them")
        self._segments[record.ident] = record
        return True

    def _take_ready(self, record: Record) -> None:
        try:
            failure = read_segment(record.fds[0], record.value)
        finally:
            record.close()
        self._ready[record.ident >> 32, record.ident & 0xFFFFFFFF] = load_error(failure) if failure else None

    def take_reports(self) -> tuple[list[tuple[int, list[Entry], bytes]], str]:
        """Take what is in the result ring out of it: sequences, entries and payloads; with it, what is wrong with the
        rest of it, or "".
        """
        ring = self.block.results
        taken: list[tuple[int, list[Entry], bytes]] = []
        try:
            while (frame := ring.read()) is not None:
                sequence, segment, entries = unpack_report(frame.meta)
                payload = self._take_segment(sequence, segment) if segment else bytes(frame.payload)
                if sum([entry[2] + entry[3] for entry in entries]) != len(payload):
                    raise ProtocolError("a report whose lengths are not its payload's")
                taken.append((sequence, entries, payload))
                ring.release(frame)
        except (RingCorrupted, ProtocolError, struct.error, OSError, MemoryError) as error:
            return taken, str(error) or type(error).__name__
        return taken, ""

    def _take_segment(self, sequence: int, size: int) -> bytes:
        """Return the payload that the worker sent in a segment before it wrote the frame that says so."""
        while sequence not in self._segments:
            known = len(self._segments)
            if not self.receive() or len(self._segments) == known:
                raise ProtocolError("a report without its segment")
        record = self._segments.pop(sequence)
        try:
            return read_segment(record.fds[0], size)
        finally:
            record.close()

    def wake(self) -> None:
        """Ring the worker's bell, whether it sleeps or not."""
        ring_bell(self.request_bell)

    def release(self) -> None:
        """The process is gone: give memory and descriptors back."""
        if self.state is WorkerState.DEAD:
            return
        self.state = WorkerState.DEAD
        self._close_theirs()
        for record in self._segments.values():
            record.close()
        self.control.close()
        os.close(self.request_bell)
        self.block.close()

    def _close_theirs(self) -> None:
        while self._theirs:
            os.close(self._theirs.pop())


class Zygote:
    """The parent's side of the zygote: the process and the connection to it.

    Attributes:
        has_forked: whether it has forked a worker yet; one that dies before that will not do better next time.
        heard: time of a monotonic clock at which it last said something.
    """

    def __init__(self) -> None:
        if not sys.executable:
            raise RuntimeError("a pool needs sys.executable, the Python interpreter to start; this program has none")
        if os.name != "posix":
            raise RuntimeError("a pool of processes needs Linux or macOS: it forks its workers")
        self.has_forked = False
        self.heard = 0.0
        self.channel, theirs = Channel.pair()
        try:
            self._process = subprocess.Popen(
                # -P: no module in the working directory can stand in for one that is imported before sys.path is set.
                [sys.executable, "-P", "-c", _BOOTSTRAP, str(theirs.fileno()), str(os.getpid()), *map(str, sys.path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                process_group=0,  # the terminal's Ctrl-C does not reach it, not even before it can ignore it
            )
        except BaseException:
            self.channel.close()
            raise
        finally:
            theirs.close()

    def kill_worker(self, worker: Worker) -> None:
        """Have the worker killed; does nothing if it is dead."""
        with contextlib.suppress(OSError):  # the zygote is dead, and the worker with it
            self.channel.send(RecordKind.KILL, worker.id)

    def kill(self) -> None:
        """End it whatever it does, and its workers with it."""
        self._process.kill()

    def stop(self) -> int:
        """Have all workers killed and the zygote end; return its exit code. No process is left when this returns."""
        self.channel.close()
        if not _ends(self._process, STOP_S):
            self.kill()
        return self._process.wait()

    def forget(self) -> None:
        """In a fork of the pool's process, whose child the zygote is not: let go of it."""
        self.channel.close()
        self._process.returncode = 0


def _ends(process: subprocess.Popen[bytes], within_s: float) -> bool:
    """Wait for the end of a process, for so many seconds at most."""
    try:
        ended = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not every system has it
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(within_s)  # looks again and again, and so notices some milliseconds later
        return process.returncode is not None
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        return bool(poll.poll(within_s * 1000))
    finally:
        os.close(ended)


def how_it_died(status: int) -> str:
    """What a process's wait status says, in words.

    >>> how_it_died(9), how_it_died(3 << 8)
    ('killed by SIGKILL', 'exited with code 3')
    """
    return exit_text(os.waitstatus_to_exitcode(status))


def exit_text(code: int) -> str:
    """The same of an exit code, negative for a signal."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
