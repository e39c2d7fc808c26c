"""One run of `Pool.map`: the documents in flight, and their results on the way to whoever consumes them."""

from __future__ import annotations

import math
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Literal

from parallel_exec._codec.arrays import JSON
from parallel_exec._codec.documents import prepare
from parallel_exec._signals import Sleeper, held
from parallel_exec.errors import PexecError
from parallel_exec.plugins import PluginFunction
from parallel_exec.pool._backend import Backend
from parallel_exec.pool._deployment import DeployedFunction
from parallel_exec.pool._scheduling.job import Job, Target, frozen
from parallel_exec.pool._scheduling.scheduler import WINDOW_BATCHES
from parallel_exec.pool._version import Versioned

# Documents drawn ahead at first, per worker; more are drawn when a worker has too few.
LEAST_AHEAD = 2 * WINDOW_BATCHES
MOST_AHEAD = 1024
# Bytes of documents and results in all that a map holds, unless fewer than LEAST_AHEAD per worker are more.
MOST_BYTES = 16 << 20
# How long documents are drawn before those drawn so far are handed over and results are looked at: an iterable may take
# its time.
DRAW_S = 0.001

Errors = Literal["raise", "return"]


def check_window(buffersize: int | None, errors: Errors) -> None:
    """Raise a ValueError unless a map can be given these arguments."""
    if buffersize is not None and buffersize < 1:
        raise ValueError(f"buffersize must be at least 1; got {buffersize}")
    if errors not in ("raise", "return"):
        raise ValueError(f"errors must be 'raise' or 'return'; got {errors!r}")


def check_documents(documents: object) -> None:
    """Raise a TypeError if this is one document, in place of an iterable of them: a text would be mapped letter by
    letter.
    """
    if isinstance(documents, str | bytes | bytearray | memoryview):
        kind = type(documents).__name__
        raise TypeError(
            f"an iterable of documents is needed, and a {kind} is one document; give [document], or use submit"
        )


class Map:
    """The jobs of one map, between the iterable and the consumer.

    Attributes:
        ready: whether there is a result that can be given.

    Args:
        core: runs the jobs.
        fn: what to call.
        documents: what to call it on.
        workers: of the pool.
        size: most documents drawn and not yet given as results; None to find out how many keep the workers busy.
        ordered: whether results come in the documents' order.
        errors: whether a job's error is raised or given in place of a result.
        versions: whether results are given with their versions.
    """

    def __init__(
        self,
        core: Backend,
        fn: PluginFunction | DeployedFunction,
        documents: Iterator[Any],
        *,
        workers: int,
        size: int | None,
        ordered: bool,
        errors: Errors,
        versions: bool = False,
    ) -> None:
        self._core = core
        self._fn = fn
        self._documents = documents
        self._least = LEAST_AHEAD * workers
        self._most = MOST_AHEAD * workers
        self._grows = size is None
        self._size = self._least if size is None else size
        self._low = self._size - (self._size // 4 or 1)  # how few in flight are reason to draw more
        self._ordered = ordered
        self._errors = errors
        self._versions = versions
        self._deployed = isinstance(fn, DeployedFunction)  # the version may change with every document
        self._target: Target | None = None
        self._next = 0
        self._jobs: deque[Job[Any]] = deque()  # drawn and not given as results, if these come in order
        self._loose: set[Job[Any]] = set()  # the same if they do not
        self._ended: deque[Job[Any]] = deque()  # if order does not matter, those that have ended
        self._in_flight = 0
        self._held = 0  # bytes of documents, and of as many results as those that were given lately
        self._result_bytes = 0
        self._exhausted = False
        self._failure: Exception | None = None
        self._sleeper = Sleeper()
        self._leaver: weakref.finalize[[], Iterator[Any]] | None = None

    @property
    def ready(self) -> bool:
        return self._jobs[0].ended if self._ordered else bool(self._ended)

    def sleep(self, timeout: float) -> None:
        """Wait until the map is ready, for so many seconds at most, while others collect."""
        self._sleeper.sleep(lambda: self.ready, timeout)

    def job_ended(self, job: Job[Any], /) -> None:
        """Called by the thread that ended the job."""
        if not self._ordered:
            self._ended.append(job)
        self._sleeper.wake()

    def results(self, deadline: float | None) -> Iterator[Any]:
        """Yield the results; when the caller has enough, or on an error, cancel what is still in flight.

        Args:
            deadline: time of `time.monotonic` at which each result has to be there.
        """
        try:
            self._core.collecting.join(self)
            while self._in_flight:
                while not self.ready:
                    left = math.inf if deadline is None else deadline - time.monotonic()
                    if left <= 0:
                        raise TimeoutError(f"a result was not there in time (documents drawn: {self._next})")
                    drawing = not self._exhausted and self._wants(self._in_flight)
                    self._or_stop(self._core.collecting.wait, self, 0.0 if drawing else left)
                    if not self.ready:
                        if not drawing and self._core.hungry():
                            self._grow()
                        self._or_stop(self._fill)
                job = self._next_ended()
                if self._in_flight <= self._low:
                    self._or_stop(self._fill)
                if self._versions:
                    yield Versioned(job.target.version, job.result() if self._errors == "raise" else job.outcome())
                elif self._errors == "raise":
                    yield job.result()
                else:
                    yield job.outcome()
                del job
            if self._failure is not None:
                raise self._failure
        finally:
            self.leave()

    def start(self, deadline: float | None) -> Iterator[Any]:
        """Draw the first documents, and return the results, which the consumer may drop before the first one.

        Args:
            deadline: as of `results`.
        """
        try:
            results = self.results(deadline)
            # A generator that has not begun runs nothing at its end. What this calls takes no lock: garbage collection
            # may run it anywhere.
            self._leaver = weakref.finalize(results, self.leave)
            self._leaver.atexit = False
            self._fill()
        except BaseException:
            self._stop()
            raise
        return results

    def _or_stop(self, step: Callable[..., object], *arguments: object) -> None:
        """Do a step; if a signal's handler ends it, as Ctrl-C does, what runs is not to hold up those who come next."""
        try:
            step(*arguments)
        except BaseException:
            self._core.cancel(self)
            raise

    def _stop(self) -> None:
        self._core.cancel(self)
        self.leave()

    def leave(self) -> None:
        """Cancel what is still in flight; nobody reads the results any more. Ctrl-C in the middle leaves jobs that run
        for nobody.
        """
        if self._leaver is not None:
            self._leaver.detach()  # what a handler raises in a finalizer is lost
        self._core.collecting.leave(self)
        for job in (*self._jobs, *self._loose):
            job.cancel()

    def _next_ended(self) -> Job[Any]:
        if self._ordered:
            job = self._jobs.popleft()
        else:
            job = self._ended.popleft()
            self._loose.discard(job)
        size = job.size
        self._in_flight -= 1
        self._held -= size
        self._result_bytes += (job.held - size - self._result_bytes) // 8
        return job

    def _grow(self) -> None:
        """A worker has too few jobs: all of them are tiny, or the first one takes long."""
        if not self._grows or self._exhausted or self._size >= self._most:
            return
        if 2 * sum([job.held for job in (*self._jobs, *self._loose)]) < MOST_BYTES:
            self._size *= 2
            self._low = self._size - self._size // 4

    def _fill(self) -> None:
        """Draw documents and queue them until enough are in flight. An error of the iterable waits for its turn."""
        if self._exhausted:
            return
        drawn: list[Job[Any]] = []
        bad: list[tuple[Job[Any], PexecError]] = []
        try:
            self._core.check_open()
            target = self._target = self._target or self._core.target(self._fn)
            until = time.monotonic() + DRAW_S
            while self._wants(self._in_flight + len(drawn)):
                document = next(self._documents)
                if self._deployed:
                    target = self._core.target(self._fn)
                drawn.append(self._job(target, document, bad))
                if time.monotonic() > until:
                    break
        except StopIteration:
            self._exhausted = True
        except Exception as error:
            self._fail(error)
        self._queue(drawn, bad)

    def _queue(self, drawn: list[Job[Any]], bad: list[tuple[Job[Any], PexecError]]) -> None:
        """Take the jobs of documents that were drawn; the bad ones are not for the pool and have failed."""
        # Known before they are handed over, so that whatever happens they can be cancelled.
        known = len(self._jobs)
        (self._jobs.extend if self._ordered else self._loose.update)(drawn)
        with held():  # so that what `add` raises is its own
            try:
                failed = {id(job) for job, _ in bad}
                self._core.add([job for job in drawn if id(job) not in failed] if bad else drawn)
            except Exception as error:
                while len(self._jobs) > known:
                    self._jobs.pop()
                self._loose.difference_update(drawn)
                self._fail(error)
                return
            self._in_flight += len(drawn)
            for job, reason in bad:
                job.fail(reason)

    def _job(self, target: Target, document: Any, bad: list[tuple[Job[Any], PexecError]]) -> Job[Any]:
        fn = self._fn
        index = self._next
        self._next = index + 1
        if type(document) is bytes and fn.input == "json":  # what `prepare` makes of it, many times a second
            content: bytes | memoryview = document
            kind = JSON
        else:
            try:
                given, kind = prepare(document, fn.input)
            except PexecError as error:
                job = Job(target, b"", JSON, fn.output, index, sink=self)
                bad.append((job, error))
                return job
            content = frozen(given)
        self._held += len(content)
        return Job(target, content, kind, fn.output, index, sink=self)

    def _wants(self, jobs: int) -> bool:
        """Whether more documents are to be drawn while so many jobs are in flight."""
        if jobs >= self._size:
            return False
        return not self._grows or jobs < self._least or self._held + jobs * self._result_bytes < MOST_BYTES

    def _fail(self, error: Exception) -> None:
        """The map ends with this error, once the results that are in flight have been given."""
        self._exhausted = True
        if self._failure is None:
            self._failure = error
