"""Results can be awaited in asyncio's and trio's loops, and cancelling the wait stops the job."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest

import parallel_exec as px
from parallel_exec.pool import JobFuture, Pool
from parallel_exec.pool._mapping import MOST_AHEAD
from tests.pool.conftest import Tools

ENDLESS = px.Limits(time_s=None)


Task = Callable[[], Coroutine[Any, Any, object]]


class Event(Protocol):
    """What all loops' events have in common."""

    def set(self) -> object: ...
    async def wait(self) -> object: ...


class Loop(Protocol):
    """What a test needs of a loop."""

    def run(self, test: Task) -> None: ...
    def event(self) -> Event: ...
    async def sleep(self, seconds: float) -> None: ...

    async def together(self, tasks: Iterable[Task]) -> None:
        """Run the tasks at the same time, to their ends."""

    async def cancelled(self, task: Task, when: Callable[[], object]) -> None:
        """Start the task, cancel it as soon as the condition holds, and wait for its end."""


class Asyncio:
    """asyncio's loop, without anyio."""

    def run(self, test: Task) -> None:
        asyncio.run(test())

    def event(self) -> Event:
        return asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def together(self, tasks: Iterable[Task]) -> None:
        await asyncio.gather(*[task() for task in tasks])

    async def cancelled(self, task: Task, when: Callable[[], object]) -> None:
        running = asyncio.ensure_future(task())
        while not when():
            assert not running.done(), "it was to be cancelled"
            await self.sleep(0.001)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


class Anyio:
    """A loop through anyio."""

    def __init__(self, backend: str) -> None:
        self._anyio = importlib.import_module("anyio")
        self._backend = backend

    def run(self, test: Task) -> None:
        self._anyio.run(test, backend=self._backend)

    def event(self) -> Event:
        event: Event = self._anyio.Event()
        return event

    async def sleep(self, seconds: float) -> None:
        await self._anyio.sleep(seconds)

    async def together(self, tasks: Iterable[Task]) -> None:
        async with self._anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(task)

    async def cancelled(self, task: Task, when: Callable[[], object]) -> None:
        async with self._anyio.create_task_group() as group:
            group.start_soon(task)
            while not when():
                await self.sleep(0.001)
            group.cancel_scope.cancel()


@pytest.fixture(params=["asyncio", "anyio on asyncio", "anyio on trio"])
def loop(request: pytest.FixtureRequest) -> Loop:
    if request.param == "asyncio":
        return Asyncio()
    for module in ("anyio", "trio"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    return Anyio(request.param.split()[-1])


def test_calls_give_values_and_errors(loop: Loop, tools: Tools) -> None:
    async def test() -> None:
        async with Pool(2) as pool:
            assert await pool.acall(tools.function("double"), 21) == 42
            results = {}

            async def call(number: int) -> None:
                results[number] = await pool.acall(tools.function("double"), number)

            await loop.together(partial(call, number) for number in range(200))
            assert results == {number: 2 * number for number in range(200)}
            with pytest.raises(px.JSError, match=r"tools\.js: fail\(\): TypeError: no 7"):
                await pool.acall(tools.function("fail"), 7)
            with pytest.raises(px.InvalidDocument):
                await pool.acall(tools.function("double"), {1})
            with pytest.raises(px.PluginError, match=r"bad\.js: f\(\): .*does not compile"):
                await pool.acall(px.Plugin("function (", name="bad.js").function("f"), 1)
            with pytest.raises(TypeError, match="functions of plugins"):
                await pool.acall(tools.untyped(len), 1)
        with pytest.raises(RuntimeError, match="after shutdown"):
            await pool.acall(tools.function("double"), 1)

    loop.run(test)


def test_the_loop_goes_on_while_jobs_run_and_plugins_load(loop: Loop) -> None:
    slow = px.Plugin("const end = Date.now; let n = 0; for (let i = 0; i < 3e6; i++) n += i % 3; const f = x => n")

    async def test() -> None:
        ticks = 0
        done = False

        async def tick() -> None:
            nonlocal ticks
            while not done:
                ticks += 1
                await loop.sleep(0.001)

        async def call() -> None:
            nonlocal done
            async with Pool(1, limits=px.Limits(time_s=20.0)) as pool:
                assert await pool.acall(slow.function("f"), 1) > 0
            done = True

        await loop.together([tick, call])
        assert ticks > 20

    loop.run(test)


def test_maps_take_iterables_and_asynchronous_iterables(loop: Loop, tools: Tools) -> None:
    async def numbers(count: int) -> AsyncIterator[int]:
        for number in range(count):
            if number % 97 == 0:
                await loop.sleep(0.001)
            yield number

    async def test() -> None:
        double, fail = tools.function("double"), tools.function("failOn3")
        async with Pool(2) as pool:
            for documents in (lambda: range(900), lambda: numbers(900)):
                assert [each async for each in pool.amap(double, documents())] == list(range(0, 1800, 2))
                unordered = [each async for each in pool.amap(double, documents(), ordered=False)]
                assert sorted(unordered) == list(range(0, 1800, 2))
                few = [each async for each in pool.amap(double, documents(), buffersize=1)]
                assert few == list(range(0, 1800, 2))
                outcomes = [each async for each in pool.amap(fail, documents(), errors="return")]
                assert isinstance(outcomes.pop(3), px.JSError) and len(outcomes) == 899
                results = pool.amap(fail, documents())
                assert [await anext(results) for _ in range(3)] == [0, 1, 2]
                with pytest.raises(px.JSError, match="document 3: RangeError: three"):
                    await anext(results)
            assert [each async for each in pool.amap(double, [])] == []
            assert [each async for each in pool.amap(double, numbers(0))] == []
            one, bad = [each async for each in pool.amap(tools.function("echo"), [1, {2}], errors="return")]
            assert one == 1 and isinstance(bad, px.InvalidDocument) and bad.document == 1
            with pytest.raises(px.PluginError):
                [each async for each in pool.amap(px.Plugin("function (").function("f"), [1])]
            with pytest.raises(ValueError, match="buffersize"):
                pool.amap(double, [], buffersize=0)

    loop.run(test)


def test_results_tell_their_versions(loop: Loop) -> None:
    plugins = [px.Plugin(f"const f = x => [{says}, x]", name=f"p{says}.js") for says in (0, 1)]

    async def test() -> None:
        async with Pool(2) as pool:

            def swapped(number: int) -> int:
                pool.deploy("d", plugins[number % 2])
                return number

            async def documents() -> AsyncIterator[int]:
                for number in range(20):
                    yield swapped(number)

            pool.deploy("d", plugins[1])
            function = pool.deployment("d").function("f")
            for drawn in (map(swapped, range(20)), documents()):
                first = pool.deployment("d").version.number + 1
                results = [each async for each in pool.amap(function, drawn, versions=True)]
                assert [version.number for version, _ in results] == list(range(first, first + 20))
                assert [value for _, value in results] == [[number % 2, number] for number in range(20)]
            fails = plugins[0].function("missing")
            ((version, error),) = [each async for each in pool.amap(fails, [1], versions=True, errors="return")]
            assert version is None and isinstance(error, px.PluginError)

    loop.run(test)


def test_an_error_of_the_documents_comes_after_the_results_before_it(loop: Loop, tools: Tools) -> None:
    async def documents() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise LookupError("no more")

    async def test() -> None:
        async with Pool(2) as pool:
            results = pool.amap(tools.function("double"), documents())
            assert [await anext(results), await anext(results)] == [2, 4]
            with pytest.raises(LookupError, match="no more"):
                await anext(results)

    loop.run(test)


def test_a_result_does_not_wait_for_the_next_document(loop: Loop, tools: Tools) -> None:
    async def test() -> None:
        taken = loop.event()

        async def documents() -> AsyncIterator[int]:
            yield 1
            await taken.wait()
            yield 2

        async with Pool(1) as pool:
            got = []
            async for result in pool.amap(tools.function("double"), documents()):
                got.append(result)
                taken.set()
            assert got == [2, 4]

    loop.run(test)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_endless_documents_are_drawn_as_they_are_needed(loop: Loop, tools: Tools, *, asynchronous: bool) -> None:
    async def test() -> None:
        drawn = itertools.count()

        async def numbers() -> AsyncGenerator[int, None]:
            for number in drawn:
                yield number

        async with aclosing(numbers()) as source, Pool(2) as pool:
            results = pool.amap(tools.function("echo"), source if asynchronous else drawn)
            for expected in range(1000):
                assert await anext(results) == expected
            await results.aclose()
            ahead = next(drawn)
            assert ahead <= 1000 + 2 * MOST_AHEAD
            assert await pool.acall(tools.function("double"), 1) == 2
            assert next(drawn) <= ahead + 2

    loop.run(test)


def test_a_cancelled_call_stops_its_running_job_and_no_other(loop: Loop, tools: Tools) -> None:
    async def test() -> None:
        async with Pool(1, limits=ENDLESS, retries=3) as pool:
            assert await pool.acall(tools.function("double"), 1) == 2
            pids = tools.pids(pool)
            behind: list[JobFuture] = []

            def ready() -> bool:
                if tools.busy(pool):
                    behind.extend(pool.submit(tools.function("double"), number) for number in range(100))
                return bool(behind)

            await loop.cancelled(lambda: pool.acall(tools.function("spin"), 1), ready)
            assert [future.result() for future in behind] == list(range(0, 200, 2))
            tools.eventually(lambda: not tools.alive(pids), "its worker is gone")
            tools.eventually(lambda: tools.idle(pool), "it is not run again")

    loop.run(test)


def test_a_cancelled_call_that_has_not_begun_is_not_run(loop: Loop, tools: Tools, tmp_path: Path) -> None:
    trace = px.Plugin("const leave = path => make(path)", host={"make": os.mkdir}).function("leave")

    def traces() -> list[Path]:
        return list(tmp_path.iterdir())

    async def test() -> None:
        async with Pool(1, limits=px.Limits(time_s=1.0, clock="cpu", grace_s=60.0)) as pool:

            def jobs() -> int:
                stats = pool.stats()
                return stats.waiting + stats.in_flight

            async def cancel_a_call() -> None:
                before = jobs()
                await loop.cancelled(lambda: pool.acall(trace, str(tmp_path / "run")), lambda: jobs() > before)

            running = pool.submit(tools.function("spin"), 1)
            pid = tools.busy_worker(pool)
            await cancel_a_call()  # of a job that the worker has been sent
            tools.eventually(lambda: jobs() == 1, "the job has been taken back")
            others = [pool.submit(tools.function("double"), number) for number in range(20)]
            await cancel_a_call()  # of one that waits: the worker is sent nothing until it has ended what it runs
            assert tools.pids(pool) == [pid] and not running.done()
            assert [future.result() for future in others] == list(range(0, 40, 2))
            assert isinstance(running.exception(), px.JobTimeout) and tools.pids(pool) == [pid]
            assert not traces()
            await pool.acall(trace, str(tmp_path / "run"))
            assert traces()

    loop.run(test)


def test_a_cancelled_map_stops_its_jobs(loop: Loop, tools: Tools) -> None:
    async def test() -> None:
        async with Pool(2, limits=ENDLESS) as pool:

            async def consume() -> None:
                async for _ in pool.amap(tools.function("spin"), itertools.repeat(1)):
                    raise AssertionError("it never ends")

            await loop.cancelled(consume, lambda: len(tools.busy(pool)) == 2)
            assert [each async for each in pool.amap(tools.function("double"), range(100))] == list(range(0, 200, 2))

    loop.run(test)


def test_leaving_the_block_by_cancellation_ends_the_pool_at_once(loop: Loop, tools: Tools) -> None:
    async def test() -> None:
        pools: list[Pool] = []

        async def work() -> None:
            async with Pool(1, limits=ENDLESS) as pool:
                pools.append(pool)
                await pool.acall(tools.function("spin"), 1)

        await loop.cancelled(work, lambda: pools and tools.busy(pools[0]))
        tools.eventually(lambda: not tools.descendants(), "no process is left")

    loop.run(test)


def test_calls_are_answered_beside_a_map_that_is_consumed_in_the_same_thread(loop: Loop, tools: Tools) -> None:
    async def test() -> None:
        async with Pool(2) as pool:
            results = pool.map(tools.function("double"), itertools.count())
            for number in range(50):
                assert next(results) == 2 * number
                assert await pool.acall(tools.function("double"), number) == 2 * number
            assert [each async for each in pool.amap(tools.function("double"), range(500))] == list(range(0, 1000, 2))
            tools.close(results)

    loop.run(test)


def test_a_call_without_a_loop_is_an_error_that_says_so(tools: Tools) -> None:
    with Pool(1) as pool, pytest.raises(RuntimeError, match="running event loop"):
        pool.acall(tools.function("double"), 1).send(None)
