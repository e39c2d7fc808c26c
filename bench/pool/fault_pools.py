"""The pools that bench/pool/faults.py looks at, behind one interface: as their documentation has them used."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import multiprocessing.pool
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import fault_work

import parallel_exec as px

WORKERS = 2
NO_ANSWER = "no answer"

Jobs = Sequence[tuple[str, Any]]


class Answer(Protocol):
    """What becomes of a job."""

    def wait(self, seconds: float) -> str:
        """Return "done", the name of an exception's class, or `NO_ANSWER` if there is none so many seconds later."""


class Contestant(Protocol):
    """A pool of two workers, each job a function of `fault_work` and its argument.

    Attributes:
        manager: what a ``with`` statement of the user's is of.
    """

    manager: AbstractContextManager[Any]

    def start(self, jobs: Jobs) -> Sequence[Answer]:
        """Have the jobs run."""

    def limited(self, jobs: Jobs, seconds: float) -> Sequence[Answer]:
        """Have the jobs run with a time limit, or what comes nearest to one."""

    def map(self, name: str, arguments: Iterable[Any]) -> Iterator[Any]:
        """The laziest map that there is."""

    def stoppable(self, name: str, argument: Any) -> Callable[[], str]:
        """Have a job run, and return what asks for its end and tells what came of that."""


def outcome(get: Callable[[], Any], argument: Any) -> str:
    """What `get` comes to."""
    try:
        value = get()
    except BaseException as error:
        return type(error).__name__
    return "done" if value == argument else f"returned {type(value).__name__}"


class FutureAnswer:
    """A future's answer."""

    def __init__(self, future: concurrent.futures.Future[Any], argument: Any, limit: float | None = None) -> None:
        self._future, self._argument, self._limit = future, argument, limit

    def wait(self, seconds: float) -> str:
        if self._limit is None and not concurrent.futures.wait([self._future], seconds).done:
            return NO_ANSWER
        return outcome(lambda: self._future.result(self._limit), self._argument)


class Executor:
    """Any `concurrent.futures.Executor`."""

    def __init__(self, executor: concurrent.futures.Executor) -> None:
        self.executor = executor
        self.manager: AbstractContextManager[Any] = executor

    def start(self, jobs: Jobs) -> Sequence[Answer]:
        return [FutureAnswer(self.executor.submit(self.function(name), given), given) for name, given in jobs]

    def limited(self, jobs: Jobs, seconds: float) -> Sequence[Answer]:
        return [FutureAnswer(self.executor.submit(self.function(name), given), given, seconds) for name, given in jobs]

    def map(self, name: str, arguments: Iterable[Any]) -> Iterator[Any]:
        lazily = {"buffersize": 4 * WORKERS} if "buffersize" in inspect.signature(self.executor.map).parameters else {}
        return self.executor.map(self.function(name), arguments, **lazily)

    def stoppable(self, name: str, argument: Any) -> Callable[[], str]:
        future = self.executor.submit(self.function(name), argument)
        return lambda: "cancelled" if future.cancel() else "refused"

    def function(self, name: str) -> Any:
        return getattr(fault_work, name)


class Ours(Executor):
    """This package's."""

    executor: px.Pool

    def __init__(self) -> None:
        super().__init__(px.Pool(WORKERS, limits=px.Limits(time_s=None)))

    def limited(self, jobs: Jobs, seconds: float) -> Sequence[Answer]:
        limits = px.Limits(time_s=seconds)
        submit = self.executor.submit
        return [FutureAnswer(submit(self.function(name, limits), given), given) for name, given in jobs]

    def map(self, name: str, arguments: Iterable[Any]) -> Iterator[Any]:
        return self.executor.map(self.function(name), arguments)

    def stoppable(self, name: str, argument: Any) -> Callable[[], str]:
        """A task that awaits the job."""
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        waiting = asyncio.run_coroutine_threadsafe(self.executor.acall(self.function(name), argument), loop)
        return lambda: "cancelled" if waiting.cancel() else "refused"

    def function(self, name: str, limits: px.Limits | None = None) -> px.PluginFunction:
        return fault_work.PLUGIN.function(name, limits=limits)


class PoolAnswer:
    """An answer of multiprocessing's."""

    def __init__(
        self, result: multiprocessing.pool.AsyncResult[Any], argument: Any, limit: float | None = None
    ) -> None:
        self._result, self._argument, self._limit = result, argument, limit

    def wait(self, seconds: float) -> str:
        if self._limit is None:
            self._result.wait(seconds)
            if not self._result.ready():
                return NO_ANSWER
        return outcome(lambda: self._result.get(self._limit), self._argument)


class MultiprocessingPool:
    """`multiprocessing.Pool`."""

    def __init__(self) -> None:
        self._pool = multiprocessing.Pool(WORKERS)
        self.manager: AbstractContextManager[Any] = self._pool

    def start(self, jobs: Jobs) -> Sequence[Answer]:
        return [PoolAnswer(self._apply(name, given), given) for name, given in jobs]

    def limited(self, jobs: Jobs, seconds: float) -> Sequence[Answer]:
        return [PoolAnswer(self._apply(name, given), given, seconds) for name, given in jobs]

    def map(self, name: str, arguments: Iterable[Any]) -> Iterator[Any]:
        return self._pool.imap(getattr(fault_work, name), arguments)

    def stoppable(self, name: str, argument: Any) -> Callable[[], str]:
        result = self._apply(name, argument)
        cancel = getattr(result, "cancel", None)
        return cancel if cancel is not None else lambda: "no way to ask"

    def _apply(self, name: str, argument: Any) -> multiprocessing.pool.AsyncResult[Any]:
        return self._pool.apply_async(getattr(fault_work, name), (argument,))


class Joblib:
    """`joblib.Parallel`: one call for all jobs, whose results come in order; an error ends the call."""

    def __init__(self) -> None:
        self.manager: AbstractContextManager[Any] = nullcontext()

    def start(self, jobs: Jobs) -> Sequence[Answer]:
        return self._started(jobs)

    def limited(self, jobs: Jobs, seconds: float) -> Sequence[Answer]:
        return self._started(jobs, timeout=seconds)

    def map(self, name: str, arguments: Iterable[Any]) -> Iterator[Any]:
        results: Iterator[Any] = self._call([name], arguments)
        return results

    def stoppable(self, name: str, argument: Any) -> Callable[[], str]:
        results = self._call([name], [argument])

        def stop() -> str:
            results.close()
            return "closed"

        return stop

    def _started(self, jobs: Jobs, **options: Any) -> Sequence[Answer]:
        futures: list[concurrent.futures.Future[Any]] = [concurrent.futures.Future() for _ in jobs]

        def collect() -> None:
            waiting = iter(futures)
            try:
                for value in self._call([name for name, _ in jobs], [given for _, given in jobs], **options):
                    next(waiting).set_result(value)
            except BaseException as error:
                for future in waiting:
                    future.set_exception(error)

        threading.Thread(target=collect, daemon=True).start()
        return [FutureAnswer(future, given) for future, (_, given) in zip(futures, jobs, strict=True)]

    def _call(self, names: Sequence[str], arguments: Iterable[Any], **options: Any) -> Any:
        """Call one function on all arguments, or each on its own."""
        import joblib  # type: ignore[import-untyped]

        functions = [getattr(fault_work, name) for name in names]
        parallel = joblib.Parallel(WORKERS, return_as="generator", **options)
        return parallel(
            joblib.delayed(functions[index if len(functions) > 1 else 0])(given)
            for index, given in enumerate(arguments)
        )


def _loky() -> Contestant:
    import loky  # type: ignore[import-untyped]

    return Executor(loky.ProcessPoolExecutor(WORKERS))


# What each is called, what has to be installed for it, and what opens it.
CONTESTANTS: dict[str, tuple[str, Callable[[], Contestant]]] = {
    "parallel_exec": ("parallel_exec", Ours),
    "multiprocessing.Pool": ("multiprocessing", MultiprocessingPool),
    "ProcessPoolExecutor": ("concurrent.futures", lambda: Executor(concurrent.futures.ProcessPoolExecutor(WORKERS))),
    "loky": ("loky", _loky),
    "joblib": ("joblib", Joblib),
}
