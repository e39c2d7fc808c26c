"""`Pool(backend="thread")`: the same pool without processes. Each thread has a sandbox per plugin in this process.

::

    any thread ──► queue ──► worker thread: its sandboxes ──► the job's future or map

A call into WebAssembly releases the GIL, so jobs run in parallel; what is Python about a job (taking its document in,
decoding its result) does not, but where Python has no GIL (a free-threaded build) that does too.

It cannot kill a job that never checks its deadline, and a crash of the engine ends this process. In return a pool costs
no processes, starts at once, and copies documents once instead of twice.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import CancelledError
from queue import SimpleQueue

from parallel_exec._signals import ROUND_S, Lock, held
from parallel_exec.errors import PexecError
from parallel_exec.limits import Limits
from parallel_exec.plugins import PluginFunction
from parallel_exec.pool import _lifetime
from parallel_exec.pool._backend import MapConsumer
from parallel_exec.pool._deployment import DeployedFunction, Deployments
from parallel_exec.pool._events import Events
from parallel_exec.pool._scheduling.job import Job
from parallel_exec.pool._stats import PoolStats, Tally
from parallel_exec.pool._threads.targets import ThreadPublisher, ThreadTarget
from parallel_exec.pool._transport.frames import DONE
from parallel_exec.sandbox import Sandbox

log = logging.getLogger("parallel_exec.pool")

KEPT_SANDBOXES = 8
SandboxKey = tuple[str, Limits]


class NoCollecting:
    """`Collecting` where there is nothing to collect: a map's consumer just waits."""

    def join(self, owner: object) -> None:
        """A map begins to be consumed."""

    def leave(self, owner: object) -> None:
        """A map ends."""

    def need(self, owner: object) -> None:
        """Somebody awaits results."""

    def wait(self, consumer: MapConsumer, timeout: float) -> None:
        """Wait until a map has a result, for so many seconds at most."""
        consumer.sleep(min(timeout, ROUND_S))


class ThreadCore:
    """What `Core` is to a pool of processes, and with its methods.

    Guarantees: every job that `add` accepted ends, unless a plugin runs for ever where it never checks its deadline.
    """

    def __init__(self, workers: int, limits: Limits, events: Events) -> None:
        """Start the threads. The arguments are those of `Pool`."""
        self.events = events
        self._tallies = [Tally() for _ in range(workers)]
        self._unrun = Tally()  # of jobs that no thread began
        self._publisher = ThreadPublisher(limits)
        self.deployments: Deployments[ThreadTarget] = Deployments(self._publisher, lambda: None, lambda _images: None)
        self.target = self.deployments.target
        self._owner = os.getpid()
        self._lock = Lock()
        self._queue: deque[Job[ThreadTarget]] = deque()
        # A token per job and, in the end, one per thread. Its `put` may be called at any point of any thread.
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self._running: dict[Job[ThreadTarget], Sandbox | None] = {}  # None until its sandbox is there
        self._closing = False
        self.collecting = NoCollecting()
        self._threads = [
            threading.Thread(target=self._run, args=(tally,), name=f"parallel_exec worker {number}", daemon=True)
            for number, tally in enumerate(self._tallies, 1)
        ]
        for thread in self._threads:
            thread.start()
        _lifetime.register(self)

    def add(self, jobs: Sequence[Job[ThreadTarget]]) -> None:
        """Queue jobs.

        Raises:
            RuntimeError: the pool has been shut down, or belongs to another process.
        """
        with self._lock:
            self.check_open()
            now = time.monotonic_ns()
            for job in jobs:
                job.queued_ns = now
            self._queue.extend(jobs)
            for _ in jobs:
                self._tokens.put(None)

    def knows(self, function: PluginFunction | DeployedFunction) -> bool:
        """Whether `target` returns at once."""
        return isinstance(function, PluginFunction) and self._publisher.target(function) is not None

    def stats(self) -> PoolStats:
        """What the pool has done so far."""
        with self._lock:
            return self._stats()

    def _stats(self) -> PoolStats:
        total, workers = Tally(), []
        total.merge(self._unrun)
        for number, (thread, tally) in enumerate(zip(self._threads, self._tallies, strict=True), 1):
            total.merge(tally)
            if thread.is_alive():
                workers.append(tally.worker(number, self._owner))
        return total.pool(tuple(workers), len(self._queue), len(self._running), dict(self.events.counts))

    def warm_up(self, targets: Sequence[ThreadTarget], timeout: float | None) -> None:  # noqa: ARG002 -- as of Backend
        """The threads run, and the images of the targets are captured; a thread makes a sandbox for its first job.

        Raises:
            RuntimeError: the pool has ended.
        """
        self.check_open()

    def hungry(self) -> bool:
        """Whether a thread could do with more jobs than there are."""
        return len(self._queue) < len(self._threads)

    def cancel(self, owner: object) -> None:
        """Have all jobs of a future or a map stopped: they fail with `CancelledError`. One that runs is told to stop,
        as at its deadline.
        """
        with held():
            with self._lock:
                waiting = self._withdraw(owner)
            for job in waiting:
                job.fail(CancelledError())

    def _withdraw(self, owner: object) -> list[Job[ThreadTarget]]:
        waiting = [job for job in self._queue if job.owner is owner]
        self._queue = deque(job for job in self._queue if job.owner is not owner)
        self._stop([job for job in self._running if job.owner is owner])
        for _ in waiting:
            self._unrun.lost(CancelledError())
        return waiting

    def check_open(self) -> None:
        """Raise what `add` would raise."""
        if os.getpid() != self._owner:
            raise RuntimeError(f"this pool belongs to process {self._owner}; open another one after a fork")
        if self._closing:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def close(self, *, cancel: bool = False) -> None:
        """Take no more jobs; end when those there are have ended.

        Args:
            cancel: cancel the jobs that have not begun.
        """
        cancelled: deque[Job[ThreadTarget]] = deque()
        if os.getpid() != self._owner:
            return
        with held():
            with self._lock:
                self._closing = True
                if cancel:
                    cancelled, self._queue = self._queue, cancelled
            for job in cancelled:
                job.cancel()
            self.close_soon()

    def close_soon(self) -> None:
        """`close` for a finalizer, which may run at any point of any thread and must not wait for a lock."""
        self._closing = True
        for _ in self._threads:
            self._tokens.put(None)

    def abort(self) -> None:
        """End at once: cancel what waits, and tell what runs to stop."""
        self.close(cancel=True)
        with self._lock:
            self._stop(list(self._running))

    def join(self) -> None:
        """Wait until all threads have ended; from a future's callback, which one of them runs, return at once."""
        if os.getpid() == self._owner and threading.current_thread() not in self._threads:
            for thread in self._threads:
                thread.join()

    def forget(self) -> None:
        """In a fork of the process there are no threads, and nothing to give back."""
        self._closing = True

    def _stop(self, jobs: Sequence[Job[ThreadTarget]]) -> None:
        for job in jobs:
            job.dropped = True
            sandbox = self._running[job]
            if sandbox is not None:
                sandbox.stop()

    # The threads

    def _run(self, tally: Tally) -> None:
        sandboxes: OrderedDict[SandboxKey, Sandbox] = OrderedDict()
        while (job := self._next()) is not None:
            try:
                self._perform(job, sandboxes, tally)
            except BaseException:  # a future's callback has no business to end this thread
                log.exception("a callback of a job failed")
            del job
        for sandbox in sandboxes.values():
            sandbox.close()

    def _next(self) -> Job[ThreadTarget] | None:
        while True:
            self._tokens.get()
            with self._lock:
                if not self._queue:
                    if self._closing:
                        return None
                    continue
                job = self._queue.popleft()
                if job.claim():
                    self._running[job] = None
                    return job

    def _perform(self, job: Job[ThreadTarget], sandboxes: OrderedDict[SandboxKey, Sandbox], tally: Tally) -> None:
        failure: BaseException | None = None
        kind, result = 0, b""
        start = time.monotonic_ns()
        try:
            kind, result = self._run_job(job, sandboxes)
        except PexecError as error:
            failure = error
        except BaseException as error:
            # Not a failure of the plugin but of this package or this machine; the sandboxes may be in any state.
            log.exception("a thread failed to run a job")
            sandboxes.clear()
            failure = PexecError(f"the thread failed to run the job: {type(error).__name__}: {error}")
        run_ns = time.monotonic_ns() - start
        with self._lock:
            sandbox = self._running.pop(job)
            spent = (0, 0) if sandbox is None else (sandbox.reset_ns, sandbox.fuel_used or 0)
            tally.add(job, (DONE, kind, 0, len(result), run_ns, start, *spent))
            tally.bytes_out += len(result)
            if job.dropped:
                failure = CancelledError()
            if failure is not None:
                tally.failed(failure)
        if failure is not None:
            job.fail(failure)
        else:
            job.finish(kind, result)

    def _run_job(self, job: Job[ThreadTarget], sandboxes: OrderedDict[SandboxKey, Sandbox]) -> tuple[int, bytes]:
        target = job.target
        sandbox = self._sandbox(target, sandboxes)
        with self._lock:
            self._running[job] = sandbox
        return sandbox.run(target.calls, job.document, job.kind, stopped=lambda: job.dropped)

    def _sandbox(self, target: ThreadTarget, sandboxes: OrderedDict[SandboxKey, Sandbox]) -> Sandbox:
        key = target.owner.digest, target.bounds
        sandbox = sandboxes.get(key)
        if sandbox is None:
            if len(sandboxes) >= KEPT_SANDBOXES:
                sandboxes.popitem(last=False)[1].close()
            sandbox = sandboxes[key] = Sandbox(target.owner, limits=target.bounds)
        sandboxes.move_to_end(key)
        return sandbox
