"""`Pool.feed`: a map whose documents are handed in as they come, and whose results are fetched when they are there.

For servers and event loops, which can neither draw documents from an iterable nor wait for a result. Neither `put` nor
`results` waits. The feed has a thread that waits for results, so that it can collect them itself (collecting.py), and
tells whoever fetches them.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self

from parallel_exec._codec.arrays import JSON
from parallel_exec._codec.documents import prepare
from parallel_exec._signals import Sleeper, held
from parallel_exec.errors import PexecError
from parallel_exec.plugins import PluginFunction
from parallel_exec.pool._backend import Backend
from parallel_exec.pool._deployment import DeployedFunction
from parallel_exec.pool._scheduling.job import Job, frozen
from parallel_exec.pool._version import Version


class Fed(NamedTuple):
    """What became of a document.

    Attributes:
        document: its number in the feed, from 0.
        version: of the deployment, that ran, or None if the function is not deployed.
        value: the result, or a `PexecError`.
    """

    document: int
    version: Version | None
    value: Any


class Feed:
    """Documents and results of one function; `Pool.feed` makes it. A context manager: leaving it stops what runs.

    Args:
        core: runs the jobs.
        fn: what to call.
        ordered: whether results come in the documents' order.
        notify: called by another thread when there may be results; it should be quick.
        copy: whether documents that are no bytes are copied; if not, they have to stay there until their outcomes are.
    """

    def __init__(
        self,
        core: Backend,
        fn: PluginFunction | DeployedFunction,
        *,
        ordered: bool,
        notify: Callable[[], object],
        copy: bool = True,
    ) -> None:
        self._core = core
        self._fn = fn
        self._ordered = ordered
        self._notify = notify
        self._copy = copy
        self._next = 0
        self._jobs: deque[Job[Any]] = deque()  # if results come in order: put and not fetched
        self._ended: deque[Job[Any]] = deque()  # if not: ended and not fetched
        self._running: set[Job[Any]] = set()  # changed by single operations, which need no lock
        self._news = False
        self._closed = False
        self._sleeper = Sleeper()
        self._thread = threading.Thread(target=self._run, name="parallel_exec feed", daemon=True)
        self._thread.start()

    def put(self, documents: Iterable[Any]) -> None:
        """Queue documents; one thread at a time may call this. A `PexecError` among them is its document's outcome.

        Raises:
            PluginError: the plugin cannot be loaded.
            RuntimeError: the pool has been shut down.
            WorkerCrashed: the pool is broken.
        """
        target = self._core.target(self._fn)
        good: list[Job[Any]] = []
        bad: list[tuple[Job[Any], PexecError]] = []
        jobs: list[Job[Any]] = []
        for document in documents:
            try:
                given, kind = prepare(document, self._fn.input)
                content = frozen(given) if self._copy else given
                job = Job(target, content, kind, self._fn.output, self._next, sink=self)
                good.append(job)
            except PexecError as error:
                job = Job(target, b"", JSON, self._fn.output, self._next, sink=self)
                bad.append((job, error))
            self._next += 1
            jobs.append(job)
        with held():
            self._running.update(good)
            if self._ordered:
                self._jobs.extend(jobs)
            try:
                self._core.add(good)
            except BaseException:  # it has taken none of them
                self._running.difference_update(good)
                if self._ordered:
                    for _ in jobs:
                        self._jobs.pop()
                raise
            for job, problem in bad:
                job.fail(problem)
            self._sleeper.wake()

    @property
    def running(self) -> int:
        """How many documents have no result yet."""
        return len(self._running)

    @property
    def has_results(self) -> bool:
        """Whether there are results; for the thread that fetches them."""
        return self._jobs[0].ended if self._ordered and self._jobs else bool(self._ended)

    def results(self) -> Iterator[Fed]:
        """Yield the results that are there; one thread at a time may do this."""
        while self.has_results:
            job = self._jobs.popleft() if self._ordered else self._ended.popleft()
            index = job.index
            assert index is not None
            yield Fed(index, job.target.version, job.outcome())

    def close(self) -> None:
        """Stop what runs, and tell of nothing more."""
        with held():
            self._closed = True
            self._sleeper.wake()
            if self._running:
                self._core.cancel(self)
        # Jobs refer to the feed, and to their documents, which may be all of a request or of shared memory.
        self._jobs.clear()
        self._ended.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # For those who collect

    @property
    def ready(self) -> bool:
        """Whether there is something to tell."""
        return self._news or self._closed

    def job_ended(self, job: Job[Any], /) -> None:
        """Called by whichever thread ends the job."""
        if not (self._ordered or self._closed):
            self._ended.append(job)
        self._running.discard(job)
        self._news = True
        self._sleeper.wake()

    def sleep(self, timeout: float) -> None:
        """Wait until there is something to tell, for so many seconds at most, while others collect."""
        self._sleeper.sleep(lambda: self.ready, timeout)

    # The feed's thread

    def _run(self) -> None:
        collecting = self._core.collecting
        while not self._closed:
            if self._running:
                collecting.join(self)
                while self._running and not self._closed:
                    collecting.wait(self, math.inf)
                    self._tell()
                collecting.leave(self)
            self._sleeper.sleep(lambda: bool(self._running) or self.ready)
            self._tell()

    def _tell(self) -> None:
        if self._news and not self._closed:
            self._news = False
            self._notify()
