"""Awaiting results in asyncio's and trio's loops, and what cancelling the wait does to jobs."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import parallel_exec as px
from parallel_exec.pool import Pool
from parallel_exec.pool._mapping import MOST_AHEAD
from tests.pool.conftest import Tools

ENDLESS = px.Limits(time_s=None)


class Asyncio:
    """What a test needs of a loop."""

    @staticmethod
    def run(test: Callable[[], Awaitable[None]]) -> None:
        async def bounded() -> None:
            await asyncio.wait_for(test(), 60)

        asyncio.run(bounded())

    sleep = staticmethod(asyncio.sleep)
    event = asyncio.Event

    @staticmethod
    async def together(*tasks: Callable[[], Awaitable[Any]]) -> None:
        await asyncio.gather(*[task() for task in tasks])

    async def cancelled(self, task: Callable[[], Awaitable[Any]], when: Callable[[], object]) -> None:
        """Start the task, cancel it as soon as the condition holds, and wait for its end."""
        running = asyncio.ensure_future(task())
        while not when():
            assert not running.done(), "it was to be cancelled"
            await self.sleep(0.001)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


class Anyio:
    """The same through anyio."""

    def __init__(self, backend: str) -> None:
        import anyio

        self._anyio: Any = anyio
        self._backend = backend
        self.sleep = anyio.sleep
        self.event = anyio.Event

    def run(self, test: Callable[[], Awaitable[None]]) -> None:
        async def bounded() -> None:
            with self._anyio.fail_after(60):
                await test()

        self._anyio.run(bounded, backend=self._backend)

    async def together(self, *tasks: Callable[[], Awaitable[Any]]) -> None:
        async with self._anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(task)

    async def cancelled(self, task: Callable[[], Awaitable[Any]], when: Callable[[], object]) -> None:
        async with self._anyio.create_task_group() as group:
            group.start_soon(task)
            while not when():
                await self.sleep(0.001)
            group.cancel_scope.cancel()


@pytest.fixture(params=["asyncio", "anyio on asyncio", "anyio on trio"])
def loop(request: pytest.FixtureRequest) -> Any:
    if request.param == "asyncio":
        return Asyncio()
    for module in ("anyio", "trio"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    return Anyio(request.param.split()[-1])


def test_calls_give_values_and_errors(loop: Any, tools: Tools) -> None:
    async def test() -> None:
        async with Pool(2) as pool:
            assert await pool.acall(tools.function("double"), 21) == 42
            results = {}

            async def call(number: int) -> None:
                results[number] = await pool.acall(tools.function("double"), number)

            await loop.together(*[lambda number=number: call(number) for number in range(200)])
            assert results == {number: 2 * number for number in range(200)}
            with pytest.raises(px.JSError, match=r"tools\.js: fail\(\): TypeError: no 7"):
                await pool.acall(tools.function("fail"), 7)
            with pytest.raises(px.InvalidDocument):
                await pool.acall(tools.function("double"), {1})
            with pytest.raises(px.PluginError, match=r"bad\.js: f\(\): .*does not compile"):
                await pool.acall(px.Plugin("function (", name="bad.js").function("f"), 1)
            with pytest.raises(TypeError, match="functions of plugins"):
                await pool.acall(len, 1)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="after shutdown"):
            await pool.acall(tools.function("double"), 1)

    loop.run(test)


def test_the_loop_goes_on_while_jobs_run_and_plugins_load(loop: Any, tools: Tools) -> None:
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

        await loop.together(tick, call)
        assert ticks > 20

    loop.run(test)


def test_maps_over_iterables_of_both_kinds(loop: Any, tools: Tools) -> None:
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
                got = []
                with pytest.raises(px.JSError, match="document 3: RangeError: three"):
                    async for each in pool.amap(fail, documents()):
                        got.append(each)
                assert got == [0, 1, 2]
            assert [each async for each in pool.amap(double, [])] == []
            assert [each async for each in pool.amap(double, numbers(0))] == []
            one, bad = [each async for each in pool.amap(tools.function("echo"), [1, {2}], errors="return")]
            assert one == 1 and isinstance(bad, px.InvalidDocument) and bad.document == 1
            with pytest.raises(px.PluginError):
                [each async for each in pool.amap(px.Plugin("function (").function("f"), [1])]
            with pytest.raises(ValueError, match="buffersize"):
                pool.amap(double, [], buffersize=0)

    loop.run(test)


def test_results_tell_their_versions(loop: Any) -> None:
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


def test_an_error_of_the_documents_comes_after_the_results_before_it(loop: Any, tools: Tools) -> None:
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


def test_a_result_does_not_wait_for_the_next_document(loop: Any, tools: Tools) -> None:
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
def test_endless_documents_are_drawn_as_they_are_needed(loop: Any, tools: Tools, asynchronous: bool) -> None:
    async def test() -> None:
        drawn = itertools.count()

        async def numbers() -> AsyncIterator[int]:
            for number in drawn:
                yield number

        async with Pool(2) as pool:
            results = pool.amap(tools.function("echo"), numbers() if asynchronous else drawn)
            for expected in range(1000):
                assert await anext(results) == expected
            await results.aclose()
            ahead = next(drawn)
            assert ahead <= 1000 + 2 * MOST_AHEAD
            assert await pool.acall(tools.function("double"), 1) == 2
            assert next(drawn) <= ahead + 2

    loop.run(test)


def test_a_cancelled_call_stops_its_running_job_and_no_other(loop: Any, tools: Tools) -> None:
    async def test() -> None:
        async with Pool(1, limits=ENDLESS, retries=3) as pool:
            assert await pool.acall(tools.function("double"), 1) == 2
            (pid,) = tools.running(pool)
            behind: list[Any] = []

            def ready() -> bool:
                if not any(tools.running(pool).values()):
                    return False
                behind.extend(pool.submit(tools.function("double"), number) for number in range(100))
                return True

            await loop.cancelled(lambda: pool.acall(tools.function("spin"), 1), ready)
            while not all(future.done() for future in behind):
                await loop.sleep(0.001)
            assert [future.result() for future in behind] == list(range(0, 200, 2))
            tools.eventually(lambda: not tools.alive([pid]), "its worker is gone")
            tools.eventually(lambda: pool._core._scheduler.idle, "it is not run again")

    loop.run(test)


def test_a_cancelled_call_that_has_not_begun_is_not_run(loop: Any, tools: Tools, tmp_path: Path) -> None:
    trace = px.Plugin("const leave = path => make(path)", host={"make": os.mkdir}).function("leave")

    async def test() -> None:
        async with Pool(1, limits=px.Limits(time_s=1.0, clock="cpu", grace_s=60.0)) as pool:
            running = pool.submit(tools.function("spin"), 1)
            pid = tools.busy_worker(pool)
            scheduler = pool._core._scheduler

            def jobs() -> int:
                every = [*scheduler.in_flight(bool), *scheduler._queue]
                return sum(job.future is not None and not job.future.done() for job in every)

            others: list[Any] = []
            for ahead in (0, 20):  # the worker has the job in its window; it has not
                others += [pool.submit(tools.function("double"), number) for number in range(ahead)]
                known = jobs()
                await loop.cancelled(
                    lambda: pool.acall(trace, str(tmp_path / "run")), lambda known=known: jobs() > known
                )
                while jobs() > known:
                    await loop.sleep(0.001)
            assert list(tools.running(pool)) == [pid] and not running.done()
            while not all(future.done() for future in others):
                await loop.sleep(0.001)
            assert [future.result() for future in others] == list(range(0, 40, 2))
            assert isinstance(running.exception(), px.JobTimeout) and list(tools.running(pool)) == [pid]
            assert not list(tmp_path.iterdir())
            await pool.acall(trace, str(tmp_path / "run"))
            assert list(tmp_path.iterdir())

    loop.run(test)


def test_a_cancelled_map_stops_its_jobs(loop: Any, tools: Tools) -> None:
    async def test() -> None:
        async with Pool(2, limits=ENDLESS) as pool:

            async def consume() -> None:
                async for _ in pool.amap(tools.function("spin"), itertools.repeat(1)):
                    raise AssertionError("it never ends")

            await loop.cancelled(consume, lambda: sum(map(bool, tools.running(pool).values())) == 2)
            assert [each async for each in pool.amap(tools.function("double"), range(100))] == list(range(0, 200, 2))

    loop.run(test)


def test_leaving_the_block_by_cancellation_ends_the_pool_at_once(loop: Any, tools: Tools) -> None:
    async def test() -> None:
        pools = []

        async def work() -> None:
            async with Pool(1, limits=ENDLESS) as pool:
                pools.append(pool)
                await pool.acall(tools.function("spin"), 1)

        await loop.cancelled(work, lambda: pools and any(tools.running(pools[0]).values()))
        pids = list(tools.running(pools[0]))
        while tools.alive(pids):
            await loop.sleep(0.001)

    loop.run(test)


def test_beside_a_map_that_another_thread_consumes(loop: Any, tools: Tools) -> None:
    async def test() -> None:
        async with Pool(2) as pool:
            results = pool.map(tools.function("double"), itertools.count())
            for number in range(50):
                assert next(results) == 2 * number
                assert await pool.acall(tools.function("double"), number) == 2 * number
            assert [each async for each in pool.amap(tools.function("double"), range(500))] == list(range(0, 1000, 2))
            results.close()  # type: ignore[attr-defined]

    loop.run(test)


def test_without_a_loop_there_is_a_clear_error(tools: Tools) -> None:
    with Pool(1) as pool, pytest.raises(RuntimeError, match="running event loop"):
        pool.acall(tools.function("double"), 1).send(None)
