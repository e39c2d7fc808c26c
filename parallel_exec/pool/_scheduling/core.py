"""The running part of a pool: its lock, its collector, and what happens when jobs and results come in.

Who does what::

    any thread     add: queue jobs, hand over to workers that have room              (under the lock)
    the collector  take results from the rings, hand over what waits, end jobs, release and replace workers
    a map's thread collects results itself while its map is all there is to do (collecting.py)
    workers        run jobs; they never wait for the parent

One thread at a time collects (collecting.py): it alone reads result rings. Only the collector removes workers. Jobs are
ended outside the lock, because callbacks of futures are the user's. No signal's handler interrupts a thread that holds
the lock or collects (_signals.py). This object does not refer to the `Pool`, so that a forgotten pool can be collected
and closed.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack

from parallel_exec import _signals
from parallel_exec._signals import ROUND_S, held
from parallel_exec.errors import PexecError, WorkerCrashed
from parallel_exec.limits import Limits
from parallel_exec.plugins import PluginFunction
from parallel_exec.pool import _lifetime
from parallel_exec.pool._deployment import DeployedFunction, Deployments
from parallel_exec.pool._events import Events
from parallel_exec.pool._scheduling.collecting import Collecting
from parallel_exec.pool._scheduling.job import Job
from parallel_exec.pool._scheduling.process_target import ProcessTarget
from parallel_exec.pool._scheduling.publisher import Publisher
from parallel_exec.pool._scheduling.reports import Reports
from parallel_exec.pool._scheduling.scheduler import Scheduler
from parallel_exec.pool._scheduling.stopping import Stops
from parallel_exec.pool._scheduling.supervisor import Supervisor
from parallel_exec.pool._stats import PoolStats
from parallel_exec.pool._transport.bell import Wakeup
from parallel_exec.pool._transport.poller import Poller
from parallel_exec.pool._transport.ring import RingCorrupted
from parallel_exec.sandbox import Engine

# A job that has no result, and why; None: it is cancelled.
Failure = tuple[Job[ProcessTarget], Exception | None]

log = logging.getLogger("parallel_exec.pool")

# While results come without a pause, how often to look for anything else that may have happened.
LOOK_S = 0.02
# While a worker has nothing to do and another one has jobs that it has not begun, how long a job may take until those
# are taken back.
STALL_S = 0.001
# Longest wait for a bell while results may be there that are announced with later ones only, which may take long.
QUIET_S = 0.003


class Core:
    """A pool's processes, jobs and collector.

    Guarantees: every job that `add` accepted ends (with a result, an error, or cancelled) unless a plugin runs
    for ever without a time limit; when `join` returns, no process, descriptor or shared memory of the pool is left.
    """

    def __init__(
        self,
        workers: int,
        limits: Limits,
        *,
        by_domain: bool,
        jobs_per_worker: int | None,
        retries: int,
        events: Events,
    ) -> None:
        """Start the zygote, the workers and the collector, held (`_signals.held`). The arguments are those of `Pool`.

        Raises:
            OSError: a process cannot be started.
            PluginError: the engine is not built.
        """
        self._owner = os.getpid()
        self._lock = threading.Lock()  # not a `_signals.Lock`: whoever collects holds signals for all of a step
        self._scheduler: Scheduler[Job[ProcessTarget]] = Scheduler(jobs_per_worker)
        self.events = events
        self._reports = Reports(
            self._scheduler,
            lambda worker, fault: self._supervisor.kill(worker, fault),  # noqa: PLW0108 -- it is made below
        )
        self._closing = False
        self._aborting = False
        self._closed = False
        self._foreign = False  # whether this is a copy that a fork has made
        self._look_at = 0.0  # when to look for other things than results, in seconds of time.monotonic
        self._check_at = math.inf  # when to look for what is overdue
        self._poller = Poller()
        self._thread = threading.Thread(target=self._run, name="parallel_exec collector", daemon=True)
        with ExitStack() as opened:
            self._wakeup = Wakeup()
            opened.callback(self._wakeup.close)
            self.collecting = Collecting(self._step, self.hungry, self._wakeup)
            opened.callback(self.collecting.close)
            self._publisher = Publisher(limits, by_domain=by_domain)
            opened.callback(self._publisher.close)
            self.deployments: Deployments[ProcessTarget] = Deployments(self._publisher, self._published, self._forget)
            self.target = self.deployments.target
            self._supervisor = Supervisor(workers, retries, self._scheduler, self._poller, self._reports.take, events)
            opened.callback(self._supervisor.close)
            self._workers = self._supervisor.workers
            self._stops = Stops(self._scheduler, self._supervisor, self._reports.take, self.collecting)
            self._supervisor.start_zygote()
            # Compiles it, the first time on a machine, while the zygote starts up.
            _signals.interruptibly(Engine.shared)
            self._poller.register(self._wakeup.fd, self._wakeup.silence)
            self._supervisor.start_workers()
            opened.pop_all()
            _lifetime.register(self)
            self._thread.start()

    # Called by any thread

    def add(self, jobs: Sequence[Job[ProcessTarget]]) -> None:
        """Queue jobs, and hand them over as far as workers have room.

        Raises:
            RuntimeError: the pool has been shut down, or belongs to another process.
            WorkerCrashed: it is broken.
        """
        with held(), self._lock:
            self.check_open()
            now = time.monotonic_ns()
            for job in jobs:
                job.queued_ns = now
                if job.future is not None:
                    # A thread that does not collect may wait for it.
                    self.collecting.need(job.future)
                    job.future.add_done_callback(self.collecting.dismiss)
            self._scheduler.add(jobs)
            self._hand_over()
            if self._supervisor.losses or self._scheduler.spent() is not None:
                self._wakeup.ring()

    def stats(self) -> PoolStats:
        """What the pool has done so far."""
        with held(), self._lock:
            return self._supervisor.stats()

    def warm_up(self, targets: Sequence[ProcessTarget], timeout: float | None) -> None:
        """Wait until all workers run and have sandboxes for the targets.

        Raises:
            TimeoutError: they have not so many seconds later.
            PexecError: a sandbox cannot be made.
            RuntimeError: the pool has been shut down.
            WorkerCrashed: the pool is broken.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.collecting.attended() as seen_to:
            while True:
                seen_to.close()
                with held(), self._lock:
                    self.check_open()
                    warm = [self._supervisor.warms(worker, targets) for worker in self._workers.values()]
                if all(warm):
                    return
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"the workers were not ready after {timeout:g} s")
                seen_to.wait(ROUND_S if left is None else min(left, ROUND_S))

    def knows(self, function: PluginFunction | DeployedFunction) -> bool:
        """Whether `target` returns at once."""
        return isinstance(function, PluginFunction) and self._publisher.target(function) is not None

    def cancel(self, owner: object) -> None:
        """Have all jobs of a future or a map stopped: they fail with `CancelledError`, wherever they are.

        A worker that goes on running one of them for some 20 ms is killed; what else it has is run by others.
        """
        with held():
            self._stops.ask(owner)
            self._wakeup.ring()

    def hungry(self) -> bool:
        """Whether a worker could do with more jobs than there are."""
        with held(), self._lock:
            return self._scheduler.hungry

    def check_open(self) -> None:
        """Raise what `add` would raise."""
        if self._foreign:
            raise RuntimeError(f"this pool belongs to process {self._owner}; open another one after a fork")
        if self._supervisor.broken is not None:
            raise WorkerCrashed(self._supervisor.broken)
        if self._closing or self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def close(self, *, cancel: bool = False) -> None:
        """Take no more jobs; end when those there are have ended.

        Args:
            cancel: cancel the jobs that no worker has.
        """
        if self._foreign:
            return
        self._closing = True
        with held():
            if cancel:
                with self._lock:
                    cancelled = self._scheduler.drain_unclaimed()
                for job in cancelled:
                    job.cancel()
            self.close_soon()

    def close_soon(self) -> None:
        """`close` for a finalizer, which may run at any point of any thread and must not wait for a lock."""
        if not self._foreign:
            self._closing = True
            self._wakeup.ring()
            self.collecting.end()

    def abort(self) -> None:
        """End at once: cancel what waits, and fail what runs."""
        if not self._foreign:
            with held():
                self._aborting = True
                self.close_soon()

    def join(self) -> None:
        """Wait until the pool has ended; from a future's callback, which whoever collects runs, return at once."""
        if not self._foreign and not self.collecting.is_mine() and threading.current_thread() is not self._thread:
            self._thread.join()

    def forget(self) -> None:
        """In a fork of the pool's process: close the copies of its descriptors, which must not outlive the pool."""
        self._foreign = True
        self._lock = threading.Lock()
        self._closed = True
        self._supervisor.forget()
        self._publisher.close()
        self._wakeup.after_fork()
        self.collecting.after_fork()

    def _published(self) -> None:
        self._check_by(0.0)  # its jobs may be due earlier than any others
        self._wakeup.ring()

    def _forget(self, images: Sequence[int]) -> None:
        with held(), self._lock:
            for worker in self._workers.values():
                worker.forget(images)

    def _hand_over(self) -> None:
        """Send jobs to workers that have room; called with the lock held."""
        for batch in self._scheduler.assign():
            worker = self._workers[batch.worker]
            # A consumer looks by itself before long (`_wait`); a collector may be asleep already.
            batch.quiet = batch.quiet and self.collecting.may_drive()
            if batch.alone:
                worker.since = time.monotonic()
            try:
                worker.send(batch)
            except RingCorrupted as error:
                self._supervisor.kill(worker, f"it broke the protocol: {error}")
            except OSError as error:
                self._scheduler.withdraw(batch)
                for job in batch.jobs:
                    text = f"the document ({job.size} bytes) cannot be sent: {error.strerror}"
                    self._supervisor.losses.append((job, PexecError(text)))

    # The collector

    def _run(self) -> None:
        try:
            while self.collecting.serve():
                pass
        except BaseException as error:
            log.exception("the collector of a pool failed")
            with self._lock:
                self._supervisor.broken = f"the pool failed: {type(error).__name__}: {error}"
                failures = self._settle()
            self._end(failures)
        finally:
            self._close()

    def _step(self, timeout: float | None = None, *, results_only: bool = False) -> bool:
        """Take results, waiting for one if none is there, and deal with whatever else happened; False: the pool has
        ended, or there is more to it than results.

        Args:
            timeout: seconds to wait at most.
            results_only: leave what is not a result to another call of this.
        """
        now = time.monotonic()
        only_results = True
        if now >= self._look_at or not any(worker.block.results.unread for worker in self._workers.values()):
            self._look_at = now + LOOK_S
            only_results = self._wait(timeout, now, leave=results_only)
        with self._lock:
            self._reports.take_all(self._workers)
            failures = self._settle()
        self._end(failures)
        return only_results and not self._closed

    def _wait(self, timeout: float | None, now: float, *, leave: bool) -> bool:
        """Wait for something to happen and deal with all but results.

        Args:
            timeout: seconds to wait at most.
            now: the time of `time.monotonic`.
            leave: leave what is not a result to another call of this.

        Returns:
            False if there is something that was left.
        """
        with self._lock:
            starving = self._scheduler.starving()
            unannounced = self._scheduler.unannounced
        if starving and (timeout is None or timeout > STALL_S):
            timeout = STALL_S
        elif unannounced and (timeout is None or timeout > QUIET_S):
            timeout = QUIET_S
        if timeout is None or now + timeout > self._check_at:
            if now >= self._check_at:
                if leave and self._is_overdue(now):
                    return False
                self._check(now)
            if self._check_at < math.inf:
                timeout = min(self._check_at - now, math.inf if timeout is None else timeout)
        results = [worker.block.results for worker in self._workers.values()]
        sleeps = all(ring.doze() for ring in results)
        try:
            handlers = self._poller.wait(timeout if sleeps else 0.0)
        finally:
            for ring in results:
                ring.wake()
        if leave and any(handler != self._supervisor.silence for handler in handlers):
            return False
        with self._lock:
            for handler in handlers:
                handler()
            if handlers:
                self.collecting.tell_attendants()
            if starving and not handlers and self._scheduler.starving():
                # Hand what a worker with a long job has not begun to those that have nothing to do.
                worker, sequence = self._scheduler.busiest()
                self._scheduler.take_back(worker, self._workers[worker].block.revoke(sequence))
        return True

    def _is_overdue(self, now: float) -> bool:
        with self._lock:
            return self._stops.due <= now or bool(self._supervisor.overdue(now))

    def _check(self, now: float) -> None:
        """Kill what is overdue, and find out when to check again."""
        with self._lock:
            self._supervisor.kill_overdue(now)
            self._stops.kill_lingering(now)
            # What is handed over from now on is due no earlier than this.
            within = now + self._publisher.least_patience_s
            self._check_at = min(self._supervisor.next_due(), within, self._stops.due)

    def _check_by(self, when: float) -> None:
        self._check_at = min(self._check_at, when)

    def _settle(self) -> list[Failure]:
        """Stop what is unwanted, hand over what waits, or end the pool; return the jobs that failed."""
        failures: list[Failure] = []
        if self._stops.asked:
            failures += self._stops.carry_out()
            self._check_by(self._stops.due)
        if self._supervisor.broken is None and not self._aborting:
            self._hand_over()
            while (spent := self._scheduler.spent()) is not None and self._supervisor.broken is None:
                self._supervisor.retire(self._workers[spent])
                self._hand_over()
        failures += self._supervisor.take_losses()
        broken = self._supervisor.broken  # perhaps just now: a replacement could not be started
        if broken is not None:
            failures += [(job, WorkerCrashed(broken)) for job in self._scheduler.drain()]
        elif self._aborting:
            for job in self._scheduler.drain():
                if job.claimed:
                    failures.append((job, WorkerCrashed("the pool was left in the middle of the job")))
                else:
                    failures.append((job, None))
        self._closed = broken is not None or (self._closing and self._scheduler.idle)
        return failures

    def _end(self, failures: Sequence[Failure]) -> None:
        """End the jobs that are done. Callbacks of their futures run here, and may use the pool: without the lock."""
        self._reports.end_jobs()
        for job, error in failures:
            if error is None:
                job.cancel()
                continue
            with self._lock:
                self._supervisor.departed.lost(error)
            job.fail(error)
        if self.events.waiting:
            self.events.deliver()

    def _close(self) -> None:
        """Leave nothing behind."""
        with self._lock:
            self._closed = True
            self.collecting.tell_attendants()
            self._supervisor.close()
            self._publisher.close()
            self._wakeup.close()
            self.collecting.close()
        _lifetime.unregister(self)
