"""The supervisor: starts the zygote and the workers, kills workers that break the protocol or overrun a deadline, and
replaces the dead.

Everything here runs with the pool's lock held, most of it in the collector's thread. What a death means for a job is
appended to `losses`.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Sequence

from parallel_exec.errors import JobTimeout, PexecError, WorkerCrashed
from parallel_exec.pool._events import EventKind, Events, PoolEvent
from parallel_exec.pool._scheduling.job import Job
from parallel_exec.pool._scheduling.process_target import ProcessTarget
from parallel_exec.pool._scheduling.processes import Worker, WorkerState, Zygote, exit_text, how_it_died
from parallel_exec.pool._scheduling.scheduler import Scheduler
from parallel_exec.pool._stats import PoolStats, Tally
from parallel_exec.pool._transport.bell import new_bell, silence_bell
from parallel_exec.pool._transport.channel import ProtocolError, RecordKind
from parallel_exec.pool._transport.poller import Poller

# Allowed on top of deadline and grace to a worker that does not begin a job, or does not say that it has begun none of
# those that were taken back: nothing a plugin does takes that long, but a machine with more to do than CPUs may.
START_S = 5.0
# A zygote that says nothing for so long after it was asked to fork or kill a worker, milliseconds' work, is replaced:
# it may have been stopped (SIGSTOP).
ZYGOTE_S = 30.0

_ENDING = (WorkerState.BROKEN, WorkerState.OVERDUE, WorkerState.RETIRED)


class Supervisor:
    """The processes of a pool.

    Attributes:
        workers: those that have not been removed, by their number.
        broken: why the pool cannot go on, or None.
        departed: what workers that are gone have done.
        losses: jobs that their workers' deaths have ended, and the errors; whoever holds the lock takes them.

    Args:
        wanted: number of workers.
        retries: how often a job is retried after its worker died.
        take: takes the results that a worker has sent.
        events: is told what happens to workers.
    """

    def __init__(
        self,
        wanted: int,
        retries: int,
        scheduler: Scheduler[Job[ProcessTarget]],
        poller: Poller,
        take: Callable[[Worker], None],
        events: Events,
    ) -> None:
        self.workers: dict[int, Worker] = {}
        self.broken: str | None = None
        self.losses: list[tuple[Job[ProcessTarget], PexecError]] = []
        self.departed = Tally()
        self._events = events
        self._wanted = wanted
        self._retries = retries
        self._scheduler = scheduler
        self._poller = poller
        self._take = take
        self._last_worker = 0
        self._bell, self._ringing = new_bell()
        self._poller.register(self._bell, self.silence)
        self._zygote: Zygote | None = None

    def start_zygote(self) -> None:
        """Start the process that forks the workers.

        Raises:
            OSError: it cannot be started.
        """
        self._zygote = zygote = Zygote()
        self._poller.register(zygote.channel.fileno(), self._on_zygote)

    def start_workers(self) -> None:
        """Start as many workers as are missing; those that are being killed count as gone.

        Raises:
            OSError: there is no memory or no descriptor left.
        """
        assert self._zygote is not None, "start_zygote comes first"
        while sum(worker.state not in _ENDING for worker in self.workers.values()) < self._wanted:
            self._last_worker += 1
            worker = Worker(self._last_worker, self._ringing)
            self.workers[worker.id] = worker
            worker.asked_at = time.monotonic()
            self._scheduler.add_worker(worker.id)
            self._poller.register(worker.control.fileno(), lambda worker=worker: self._on_control(worker))  # type: ignore[misc]
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the zygote's end will be noticed
                worker.fork(self._zygote.channel)

    def warms(self, worker: Worker, targets: Sequence[ProcessTarget]) -> bool:
        """Whether the worker's process runs and has sandboxes for the targets; it is asked for what it lacks. One
        that is being killed is not waited for, but those that take its place are.
        """
        if worker.state in _ENDING:
            return len(self.workers) > self._wanted
        try:
            ready = [worker.warms(target) for target in targets]
        except (BrokenPipeError, ConnectionResetError):
            return False  # its exit will be reported
        return worker.state is WorkerState.RUNNING and all(ready)

    def stats(self) -> PoolStats:
        """What all workers have done so far."""
        total = Tally()
        total.merge(self.departed)
        workers = []
        for worker in self.workers.values():
            total.merge(worker.tally)
            workers.append(worker.tally.worker(worker.id, worker.pid))
        return total.pool(tuple(workers), *self._scheduler.counts, dict(self._events.counts))

    def silence(self) -> None:
        """Silence the doorbell that all workers ring for their results."""
        silence_bell(self._bell)

    def kill(self, worker: Worker, fault: str, state: WorkerState = WorkerState.BROKEN) -> None:
        """Kill a worker that is no longer useful; its exit will be reported."""
        if worker.state not in _ENDING:
            worker.state = state
            worker.fault = fault
            worker.asked_at = time.monotonic()
            self._scheduler.close_window(worker.id)
            assert self._zygote is not None
            self._zygote.kill_worker(worker)

    def retire(self, worker: Worker) -> None:
        """Let a new worker take the place of one that has nothing to do, or nothing that anybody waits for."""
        self.kill(worker, "", WorkerState.RETIRED)
        self.replace()

    def next_due(self) -> float:
        """The time of `time.monotonic` before which none of the jobs in flight is overdue; infinite: never."""
        return min(map(self._due, self.workers.values()), default=math.inf)

    def overdue(self, now: float) -> list[Worker]:
        """The workers that should have ended a job by now, deadline and grace included, or been forked or killed."""
        return [worker for worker in self.workers.values() if self._due(worker) <= now]

    def kill_overdue(self, now: float) -> None:
        """Kill the workers that outlived their job's deadline by the grace: a native loop that never polls, or a
        stopped process. Replacements start at once. If it is the zygote that has stopped, kill that.
        """
        for worker in self.overdue(now):
            if worker.state is not WorkerState.RUNNING:
                assert self._zygote is not None
                self._zygote.kill()  # its end will be noticed
                self._zygote.heard = now
                return
            self.kill(worker, "its job outlived deadline and grace", WorkerState.OVERDUE)
            self.replace()

    def _due(self, worker: Worker) -> float:
        if worker.state is not WorkerState.RUNNING:
            zygote = self._zygote
            if zygote is None or not zygote.has_forked:
                return math.inf  # one that starts may take its time: the machine may be busy
            return max(worker.asked_at, zygote.heard) + ZYGOTE_S
        job = self._scheduler.job(worker.id, worker.block.running)
        if job is not None:
            return max(worker.since, worker.block.started_s) + job.target.patience_s
        job = self._scheduler.first(worker.id)  # not begun: its worker may have been stopped
        if job is not None:
            return worker.since + job.target.patience_s + START_S
        return worker.since + START_S if self._scheduler.stalled(worker.id) else math.inf

    def take_losses(self) -> list[tuple[Job[ProcessTarget], PexecError]]:
        """Return `losses`, and begin new ones."""
        losses, self.losses = self.losses, []
        return losses

    def replace(self, *, zygote: bool = False) -> None:
        """Start what is missing; if that is impossible, the pool is broken."""
        try:
            if zygote:
                self.start_zygote()
            self.start_workers()
        except OSError as error:
            self.broken = f"the pool cannot start another worker: {error}"

    def close(self) -> None:
        """End all processes and give back what they used. Calling it again does nothing."""
        if self._zygote is not None:
            self._zygote.stop()
        self._close_descriptors()

    def forget(self) -> None:
        """In a fork of the pool's process: let go of the copies of the descriptors."""
        if self._zygote is not None:
            self._zygote.forget()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        # Nothing is closed twice: a number that was closed may be another file's by then.
        for worker in self.workers.values():
            worker.release()
        self.workers.clear()
        fds, self._bell, self._ringing = {self._bell, self._ringing} - {-1}, -1, -1
        for fd in fds:
            os.close(fd)

    # Events

    def _on_control(self, worker: Worker) -> None:
        # Another event of the same round may have been its end; its descriptors are other files' then.
        if worker.state is WorkerState.DEAD:
            return
        try:
            if worker.receive():
                return
            fault = ""
        except ProtocolError as error:
            fault = str(error)
        self._poller.unregister(worker.control.fileno())
        self.kill(worker, fault)  # no fault: it is dying, and would be useless without its socket

    def _on_zygote(self) -> None:
        assert self._zygote is not None
        self._zygote.heard = time.monotonic()
        record = self._zygote.channel.receive()
        if record is None:
            self._zygote_died(self._zygote)
            return
        worker = self.workers.get(record.ident)
        if worker is None:
            return
        match record.kind:
            case RecordKind.FORKED:
                self._zygote.has_forked = True
                worker.pid = record.value
                self._events.note(PoolEvent("worker started", worker=worker.id, pid=worker.pid))
                if worker.state is WorkerState.STARTING:
                    worker.state = WorkerState.RUNNING
            case RecordKind.EXITED:
                self._worker_died(worker, how_it_died(record.value))
            case RecordKind.NOT_FORKED:
                self._worker_died(worker, f"it could not be forked: {os.strerror(record.value)}")

    def _worker_died(self, worker: Worker, how: str) -> None:
        self._take(worker)  # what it finished before it died is finished
        crashed = worker.state not in (WorkerState.OVERDUE, WorkerState.RETIRED)
        self._remove(worker, how)
        if crashed:
            self._scheduler.count_crash(time.monotonic())
        if self._scheduler.crashes_too_often(self._wanted):
            self.broken = f"the pool gives up: its workers die one after another; the last one: {how}"
        else:
            self.replace()

    def _zygote_died(self, zygote: Zygote) -> None:
        self._poller.unregister(zygote.channel.fileno())
        how = exit_text(zygote.stop())
        for worker in list(self.workers.values()):
            self._take(worker)
            self._remove(worker, f"killed with the pool's zygote ({how})")
        self._scheduler.count_crash(time.monotonic())
        if not zygote.has_forked or self._scheduler.crashes_too_often(self._wanted):
            self.broken = f"the pool cannot start workers: its zygote died ({how}); see what it wrote to stderr"
        else:
            self.replace(zygote=True)

    def _remove(self, worker: Worker, how: str) -> None:
        job = self._scheduler.lost(worker.id, worker.block.running)
        del self.workers[worker.id]
        self._poller.unregister(worker.control.fileno())
        self.departed.adopt(worker.tally)
        self._events.note(PoolEvent(_end_of(worker), worker.fault or how, worker.id, worker.pid))
        if job is not None and not job.ended:
            loss = self._loss(worker, job, how)
            if isinstance(loss, WorkerCrashed) and job.attempts <= self._retries:
                job.attempts += 1
                self._scheduler.requeue([job])
                self._events.note(PoolEvent("job retried", str(loss), worker.id, worker.pid))
            else:
                self.losses.append((job, loss))
        worker.release()

    def _loss(self, worker: Worker, job: Job[ProcessTarget], how: str) -> PexecError:
        if worker.state is WorkerState.OVERDUE:
            return JobTimeout(
                f"still running {job.target.patience_s:g} s after its start, Limits.time_s and Limits.grace_s "
                "together, in code that never checks its deadline; its worker was killed"
            )
        if worker.fault:
            how = f"{how} by the pool: {worker.fault}"
        return WorkerCrashed(f"the worker died while it ran the job: {how}")


def _end_of(worker: Worker) -> EventKind:
    if worker.state is WorkerState.RETIRED:
        return "worker retired"
    # One without a fault was killed because its socket was closed: it had died already.
    return "worker killed" if worker.fault else "worker died"
