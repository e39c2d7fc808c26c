"""The running part of a pool: its lock, its collector thread, and what happens when jobs, results and deaths come in.

Who does what::

    any thread     submit: encode, queue, hand over to workers that have room        (under the lock)
    the collector  take results from the rings, hand over what waits, complete futures, bury and replace workers
    a map's thread the collector's daily work, while its map is all there is to do (duty.py)
    workers        run jobs; they never wait for the parent

The collector is the only one that reads result rings and removes workers. Futures are completed outside the lock,
because their callbacks are the user's. This object does not refer to the `Pool`, so that a forgotten pool can be
collected and closed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import threading
import time
from concurrent.futures import Future
from functools import partial
from typing import Any

from .. import arrays
from ..documents import Output, prepare
from ..errors import PexecError, WorkerCrashed
from ..limits import Limits
from ..plugin import PluginFunction
from ..sandbox import Engine
from . import lifetime
from .bell import Wakeup, silence_bell
from .channel import Kind, ProtocolError
from .duty import Duty
from .job import Job, Result, frozen
from .publisher import Publisher
from .ring import RingCorrupted
from .scheduler import Scheduler
from .supervisor import Worker, WorkerState, Zygote, exit_text, how_it_died

log = logging.getLogger("parallel_exec.pool")


class Core:
    """A pool's processes, jobs and collector.

    Guarantees: every future that `submit` returned ends (with a result, an error, or cancelled) unless a plugin runs
    for ever without a time limit; when `join` returns, no process, descriptor or shared memory of the pool is left.
    """

    def __init__(self, workers: int, limits: Limits) -> None:
        """Start the zygote, the workers and the collector.

        Raises:
            OSError: a process cannot be started. PluginError: the engine is not built.
        """
        self._wanted = workers
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._scheduler: Scheduler[Job] = Scheduler()
        self._workers: dict[int, Worker] = {}
        self._last_worker = 0
        self._last_job = 0
        self._done: list[tuple[Job, Result, bytes] | tuple[Job, PexecError]] = []
        self._closing = False
        self._aborting = False
        self._closed = False
        self._broken: str | None = None
        self._wakeup = Wakeup()
        self.duty = Duty(self._step, self._distrust_all, self._wakeup)
        self._selector = selectors.DefaultSelector()
        self._publisher = Publisher(limits)
        self._thread = threading.Thread(target=self._run, name="parallel_exec collector", daemon=True)
        try:
            self._start_zygote()
            Engine.shared()  # compiles it, the first time on a machine, while the zygote starts up
            self._selector.register(self._wakeup.fd, selectors.EVENT_READ, self._wakeup.silence)
            for _ in range(workers):
                self._start_worker()
        except BaseException:
            self._close()
            raise
        lifetime.register(self)
        self._thread.start()

    # Called by any thread

    def submit(
        self, function: PluginFunction, document: Any, *, output: Output | None, index: int | None = None
    ) -> Future[Any]:
        """Queue a job, hand it over if a worker has room, and return its future.

        What is wrong with the document or the plugin ends the future, and only it.

        Args:
            function, document: what to run, and on what.
            output: as what the future gives the result; None for its kind and its bytes as they are.
            index: position of the document in its map.

        Raises:
            RuntimeError: the pool has been shut down, or belongs to another process. WorkerCrashed: it is broken.
        """
        self._check_open()
        content: bytes | memoryview = b""
        kind, image = arrays.JSON, 0
        error: PexecError | None = None
        try:
            given, kind = prepare(document, function.input)
            content = frozen(given)
            image = self._publisher.publish(function.plugin)
        except PexecError as reason:
            error = reason
        with self._lock:
            self._check_open()
            self._last_job += 1
            job = Job(
                self._last_job,
                image=image,
                limits=self._publisher.limits.ident,
                plugin=function.plugin.name,
                function=function.name,
                document=content,
                kind=kind,
                output=output,
                index=index,
            )
            if index is None:
                self.duty.outsider(job.future)
            failures: list[tuple[Job, PexecError]] = []
            if error is None:
                self._scheduler.add(job)
                failures = self._hand_over()
        if error is not None:
            job.fail(error)
        for failed, failure in failures:
            failed.fail(failure)
        return job.future

    def close(self, *, cancel: bool = False) -> None:
        """Take no more jobs; end when those there are have ended.

        Args:
            cancel: cancel the jobs that no worker has.
        """
        if self._foreign:
            return
        self._closing = True
        if cancel:
            with self._lock:
                cancelled = self._scheduler.drain_unclaimed()
            for job in cancelled:
                job.cancel()
        self._wakeup.ring()
        self.duty.end()

    def close_soon(self) -> None:
        """`close` for a finalizer, which may run at any point of any thread and must not wait for a lock."""
        if not self._foreign:
            self._closing = True
            self._wakeup.ring()
            self.duty.end()

    def abort(self) -> None:
        """End at once: cancel what waits, and fail what runs."""
        if not self._foreign:
            self._closing = self._aborting = True
            self._wakeup.ring()
            self.duty.end()

    def join(self) -> None:
        """Wait until the pool has ended; from a future's callback, which the collector itself runs, return at once."""
        if not self._foreign and threading.current_thread() is not self._thread:
            self._thread.join()

    def forget(self) -> None:
        """In a fork of the pool's process: close the copies of its descriptors, which must not outlive the pool."""
        self._lock = threading.Lock()
        self._closed = True
        self._zygote.forget()
        self._close_descriptors()
        self._wakeup.after_fork()
        self.duty.after_fork()

    @property
    def _foreign(self) -> bool:
        return os.getpid() != self._owner

    def _check_open(self) -> None:
        if self._foreign:
            raise RuntimeError(f"this pool belongs to process {self._owner}; open another one after a fork")
        if self._broken is not None:
            raise WorkerCrashed(self._broken)
        if self._closing or self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    # Called with the lock held

    def _hand_over(self) -> list[tuple[Job, PexecError]]:
        """Send jobs to workers that have room; return those that cannot be sent at all."""
        failures = []
        try:
            for ident, job in self._scheduler.assign():
                worker = self._workers[ident]
                try:
                    worker.send(job, self._publisher.image(job.image), self._publisher.limits)
                except RingCorrupted as error:
                    self._condemn(worker, str(error))
                except OSError as error:
                    self._scheduler.finished(ident, job.id)
                    text = f"the document ({job.size} bytes) cannot be sent: {error.strerror}"
                    failures.append((job, PexecError(text)))
        except BaseException:
            # A Ctrl-C in the middle (README: interrupted hand-over). Whether the job was sent, nobody knows.
            self._scheduler.undo()
            for worker in self._workers.values():
                worker.wake()
            self._wakeup.ring()
            raise
        return failures

    def _condemn(self, worker: Worker, fault: str) -> None:
        """Have a worker killed that cannot be trusted any more; its exit will be reported."""
        if worker.state is not WorkerState.CONDEMNED:
            worker.state = WorkerState.CONDEMNED
            worker.fault = fault
            self._scheduler.close_window(worker.id)
            self._zygote.kill(worker)

    def _distrust_all(self) -> None:
        """A step was interrupted (README: interrupted step): have all workers killed and begin with new ones."""
        with self._lock:
            for worker in self._workers.values():
                self._condemn(worker, "its results were being taken when an exception, such as Ctrl-C, came")
            self.duty.interrupted = False

    def _start_zygote(self) -> None:
        self._zygote = Zygote()
        self._selector.register(self._zygote.channel, selectors.EVENT_READ, self._on_zygote)

    def _start_worker(self) -> None:
        self._last_worker += 1
        worker = Worker(self._last_worker)
        self._workers[worker.id] = worker
        self._scheduler.add_worker(worker.id)
        self._selector.register(worker.result_bell, selectors.EVENT_READ, partial(self._on_bell, worker))
        self._selector.register(worker.control, selectors.EVENT_READ, lambda: self._on_control(worker))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the zygote's end will be noticed
            worker.fork(self._zygote.channel)

    def _bury(self, worker: Worker, how: str) -> None:
        job = self._scheduler.lost(worker.id, worker.block.running)
        del self._workers[worker.id]
        self._selector.unregister(worker.result_bell)
        with contextlib.suppress(KeyError):  # after the end of its stream
            self._selector.unregister(worker.control)
        if worker.fault:
            how = f"{how} by the pool, for it broke the protocol: {worker.fault}"
        worker.bury()
        if job is not None:
            self._done.append((job, WorkerCrashed(f"the worker died while it ran the job: {how}")))

    def _break(self, why: str) -> None:
        self._broken = why
        self._done.extend((job, WorkerCrashed(why)) for job in self._scheduler.drain())

    # The collector

    def _run(self) -> None:
        try:
            while self.duty.serve():
                if self.duty.interrupted:
                    self._distrust_all()
        except BaseException as error:
            log.exception("the collector of a pool failed")
            with self._lock:
                self._break(f"the pool failed: {type(error).__name__}: {error}")
            self._complete()
        finally:
            self._close()

    def _step(self, timeout: float | None = None, *, results_only: bool = False) -> bool:
        """Wait for something to happen and deal with it; False: the pool has ended, or there is more to it than
        results.

        Args:
            timeout: seconds to wait at most.
            results_only: leave what is not a result to another call of this.
        """
        sleeps = all(worker.block.results.doze() for worker in self._workers.values())
        for key, _ in self._selector.select(timeout if sleeps else 0):
            if results_only and getattr(key.data, "func", None) != self._on_bell:
                return False
            key.data()
        for worker in list(self._workers.values()):
            worker.block.results.wake()
            self._take_results(worker)
        with self._lock:
            if self._aborting:
                self._abandon()
            elif self._broken is None:
                self._done.extend(self._hand_over())
            self._closed = self._broken is not None or (self._closing and self._scheduler.idle)
        self._complete()
        return not self._closed

    def _take_results(self, worker: Worker) -> None:
        if worker.state is WorkerState.CONDEMNED:
            return
        taken, fault = worker.take_results()
        if not taken and not fault:
            return
        with self._lock:
            for result, content in taken:
                job = self._scheduler.finished(worker.id, result.job)
                if job is not None:
                    self._done.append((job, result, content))
            if fault:
                self._condemn(worker, fault)

    def _on_bell(self, worker: Worker) -> None:
        # Another event of the same round may have been its burial; its descriptors are other files' then.
        if worker.state is not WorkerState.DEAD:
            silence_bell(worker.result_bell)

    def _on_control(self, worker: Worker) -> None:
        if worker.state is WorkerState.DEAD:
            return
        try:
            if worker.receive():
                return
            fault = ""
        except ProtocolError as error:
            fault = str(error)
        self._selector.unregister(worker.control)
        with self._lock:
            if fault:
                self._condemn(worker, fault)
            else:  # it is dying; should it not, it is of no use without this
                self._scheduler.close_window(worker.id)
                self._zygote.kill(worker)

    def _on_zygote(self) -> None:
        record = self._zygote.channel.receive()
        worker = None if record is None else self._workers.get(record.ident)
        if record is None:
            self._zygote_died()
        if record is None or worker is None:
            return
        match record.kind:
            case Kind.FORKED:
                self._zygote.fertile = True
                worker.pid = record.value
                if worker.state is WorkerState.STARTING:
                    worker.state = WorkerState.RUNNING
            case Kind.EXITED:
                self._worker_died(worker, how_it_died(record.value))
            case Kind.NOT_FORKED:
                self._worker_died(worker, f"it could not be forked: {os.strerror(record.value)}")

    def _worker_died(self, worker: Worker, how: str) -> None:
        self._take_results(worker)  # what it finished before it died is finished
        with self._lock:
            self._bury(worker, how)
            self._scheduler.count_crash(time.monotonic())
            if self._scheduler.hopeless(self._wanted):
                self._break(f"the pool gives up: its workers die one after another; the last one: {how}")
            elif not (self._closing and self._scheduler.idle):
                self._replace()

    def _zygote_died(self) -> None:
        self._selector.unregister(self._zygote.channel)
        how = exit_text(self._zygote.stop())
        for worker in self._workers.values():
            self._take_results(worker)
        with self._lock:
            for worker in list(self._workers.values()):
                self._bury(worker, f"killed with the pool's zygote ({how})")
            self._scheduler.count_crash(time.monotonic())
            if not self._zygote.fertile or self._scheduler.hopeless(self._wanted):
                self._break(f"the pool cannot start workers: its zygote died ({how}); see what it wrote to stderr")
            else:
                self._replace(zygote=True)

    def _replace(self, *, zygote: bool = False) -> None:
        try:
            if zygote:
                self._start_zygote()
            while len(self._workers) < self._wanted:
                self._start_worker()
        except OSError as error:
            self._break(f"the pool cannot start another worker: {error}")

    def _abandon(self) -> None:
        for job in self._scheduler.drain():
            if job.claimed:
                self._done.append((job, WorkerCrashed("the pool was left in the middle of the job")))
            else:
                job.cancel()

    def _complete(self) -> None:
        """End the futures of the jobs that are done. Their callbacks run here."""
        done, self._done = self._done, []
        for job, outcome, *content in done:
            if isinstance(outcome, PexecError):
                job.fail(outcome)
            else:
                job.finish(outcome, content[0])

    def _close(self) -> None:
        """Leave nothing behind. Also after an `__init__` that did not get to its end."""
        with self._lock:
            self._closed = True
            if hasattr(self, "_zygote"):
                self._zygote.stop()
            self._close_descriptors()
            self._wakeup.close()
            self.duty.close()
        lifetime.unregister(self)

    def _close_descriptors(self) -> None:
        # Each of these does nothing the second time, because a number that was closed may be another file's by then.
        for worker in self._workers.values():
            worker.bury()
        self._publisher.close()
        self._selector.close()
