"""`Pool.acall` and `Pool.amap`: jobs whose results are awaited in an event loop.

The loop's thread queues jobs itself, which takes microseconds, and the collector's thread ends them and rings the loop.
What may take long, loading a plugin for the first time, is done in another thread. Neither collects: while somebody
awaits, the collector does not rest (collecting.py).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from concurrent.futures import Future
from typing import Any

from parallel_exec.errors import PexecError
from parallel_exec.plugins import PluginFunction
from parallel_exec.pool._backend import Backend
from parallel_exec.pool._deployment import DeployedFunction
from parallel_exec.pool._loops import Loop, current_loop
from parallel_exec.pool._mapping import Errors, Map
from parallel_exec.pool._scheduling.job import Job
from parallel_exec.pool._version import Versioned


async def publish(core: Backend, fn: PluginFunction | DeployedFunction) -> None:
    """Have a function's plugin loaded, without blocking the loop.

    Raises:
        PluginError: it cannot be loaded.
    """
    if not core.knows(fn):
        await current_loop().in_thread(lambda: core.target(fn))


async def joined(core: Backend) -> None:
    """Wait for the end of a pool that is ending."""
    await current_loop().in_thread(core.join)


async def awaited(core: Backend, future: Future[Any]) -> Any:
    """Wait for a future of the pool's; if the waiting task is cancelled, the job is stopped."""
    done = current_loop().alarm()
    future.add_done_callback(lambda _: done.ring())
    try:
        await done.wait()
    except BaseException:
        if not future.cancel():
            core.cancel(future)
        raise
    return future.result()


async def amap(
    core: Backend,
    fn: PluginFunction | DeployedFunction,
    documents: Iterable[Any] | AsyncIterable[Any],
    *,
    workers: int,
    size: int | None,
    ordered: bool,
    errors: Errors,
    versions: bool,
) -> AsyncGenerator[Any, None]:
    """Run a map and yield its results; when it ends early, its jobs are stopped. The arguments are `Map`'s."""
    await publish(core, fn)
    loop = current_loop()
    run = AsyncMap(loop, core, fn, documents, workers=workers, size=size, ordered=ordered, errors=errors)
    stop_feeding = loop.spawn(run.feed) if run.is_fed else None
    core.collecting.need(run)
    try:
        run.draw()
        while await run.result_is_there():
            job = run.next_job()
            value = job.result() if errors == "raise" else job.outcome()
            yield Versioned(job.target.version, value) if versions else value
            del job, value
    finally:
        if stop_feeding is not None:
            stop_feeding()
        core.cancel(run)  # this takes back the `need` as well


class AsyncMap(Map):
    """A map whose consumer is a task. All but `job_ended` is called in the loop's thread.

    Attributes:
        is_fed: whether the documents come asynchronously, from `feed`.

    Args:
        loop: the task's; the others are `Map`'s.
    """

    def __init__(
        self,
        loop: Loop,
        core: Backend,
        fn: PluginFunction | DeployedFunction,
        documents: Iterable[Any] | AsyncIterable[Any],
        **options: Any,
    ) -> None:
        self._loop = loop
        self._awaiting = False
        self._alarm = loop.alarm()
        self._room = loop.alarm()
        self._source = documents if isinstance(documents, AsyncIterable) else None
        self._feeding = self.is_fed = self._source is not None
        super().__init__(core, fn, iter(() if isinstance(documents, AsyncIterable) else documents), **options)

    @property
    def ready(self) -> bool:
        return (not self._ordered or bool(self._jobs)) and super().ready

    def job_ended(self, job: Job[Any], /) -> None:
        super().job_ended(job)
        if self._awaiting and (self.ready or self._core.hungry()):
            self._awaiting = False
            self._alarm.ring()

    async def feed(self) -> None:
        """Draw the documents of an asynchronous iterable, as there is room."""
        assert self._source is not None
        try:
            target = self._core.target(self._fn)
            async for document in self._source:
                if self._deployed:
                    target = self._core.target(self._fn)
                bad: list[tuple[Job[Any], PexecError]] = []
                self._queue([self._job(target, document, bad)], bad)
                if self._failure is not None:
                    break
                while not self._wants(self._in_flight):
                    await self._room.wait()
                self._alarm.ring()
        except Exception as error:
            self._fail(error)
        finally:
            self._feeding = False
            self._alarm.ring()

    async def result_is_there(self) -> bool:
        """Wait for a result.

        Returns:
            False if there are no more.

        Raises:
            Exception: what the iterable of documents, or the pool, raised in place of more.
        """
        while not self.ready:
            if not self._in_flight and not self._feeding:
                if self._failure is not None:
                    raise self._failure
                return False
            if not self.is_fed and not self._exhausted and self._wants(self._in_flight):
                self._fill()  # a slow iterable's documents come in portions
                await self._loop.turn()
                continue
            # Whoever ends a job says so and then looks at this; here it is the other way round.
            self._awaiting = True
            if not self.ready:
                await self._alarm.wait()
            self._awaiting = False
            if not self.ready and self._core.hungry():
                self._grow()
                self._fill()
        return True

    def next_job(self) -> Job[Any]:
        """Return the job whose result is there, and draw more documents."""
        job = self._next_ended()
        if self._in_flight <= self._low:
            self._fill()
        return job

    def draw(self) -> None:
        """Draw the first documents."""
        self._fill()

    def _fill(self) -> None:
        if self.is_fed:
            self._room.ring()
        else:
            super()._fill()
