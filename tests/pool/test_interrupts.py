"""Ctrl-C and other signals whose handlers raise, at random moments, end what waits, and no other job is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

import pytest

import parallel_exec as px
from parallel_exec.pool import JobFuture, Pool
from parallel_exec.pool._scheduling.scheduler import CRASHES_AT_LEAST
from tests.interrupts import Alarms, CtrlC
from tests.pool.conftest import BACKENDS, BackendName, Tools

DOUBLE = px.Plugin("const double = x => 2 * x").function("double")
ROUNDS = 2000

# A signal may come in a weak reference's callback, where Python reports what the handler raises and goes on.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module", params=["process", "thread"])
def shared(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """A pool that all tests of a backend interrupt."""
    with Pool(2, backend=request.param) as pool:
        pool.warm_up(DOUBLE)
        yield pool


def interrupt(pool: Pool, action: Callable[[], object], longest_s: float, rounds: int = ROUNDS) -> None:
    """Interrupt an action again and again; in every third round there is another job, which must not suffer."""
    ctrl_c = CtrlC(longest_s)
    for number in range(rounds):
        bystander = pool.submit(DOUBLE, number) if number % 3 == 0 else None
        ctrl_c.during(action)
        if bystander is not None:
            assert bystander.result() == 2 * number
        if number % 50 == 0:
            assert list(pool.map(DOUBLE, range(5))) == [0, 2, 4, 6, 8]
            assert pool.submit(DOUBLE, 4).result() == 8
    assert rounds // 10 < ctrl_c.interrupted < rounds, "the interrupts came too early or too late"


def no_job_is_left(pool: Pool) -> None:
    Tools.eventually(lambda: Tools.idle(pool), "all jobs have ended")


def test_a_map_can_be_interrupted(shared: Pool) -> None:
    interrupt(shared, lambda: list(shared.map(DOUBLE, range(20), buffersize=4)), 0.004)
    no_job_is_left(shared)


def test_an_unordered_map_can_be_interrupted(shared: Pool) -> None:
    interrupt(shared, lambda: list(shared.map(DOUBLE, range(20), ordered=False)), 0.004, ROUNDS // 4)
    no_job_is_left(shared)


def test_a_chain_can_be_interrupted(shared: Pool) -> None:
    chain = shared.par_iter(range(20), buffersize=4).map(DOUBLE)
    interrupt(shared, chain.sum, 0.004, ROUNDS // 4)
    no_job_is_left(shared)


def test_a_wait_for_a_result_can_be_interrupted_and_repeated(shared: Pool) -> None:
    def submit_and_wait() -> None:
        future = shared.submit(DOUBLE, 21)
        waiting.append(future)
        assert future.result() == 42

    waiting: list[JobFuture] = []
    interrupt(shared, submit_and_wait, 0.001)
    assert {future.result() for future in waiting} == {42}
    no_job_is_left(shared)


def test_the_other_methods_of_futures_can_be_interrupted(shared: Pool) -> None:
    def submit_and_ask() -> None:
        futures = [shared.submit(DOUBLE, number) for number in range(4)]
        futures[0].add_done_callback(lambda _: None)
        futures[1].cancel()
        futures[2].done()
        futures[3].exception()

    interrupt(shared, submit_and_ask, 0.001, ROUNDS // 4)
    no_job_is_left(shared)


def test_submitting_can_be_interrupted(shared: Pool) -> None:
    submitted: list[JobFuture] = []
    interrupt(shared, lambda: submitted.append(shared.submit(DOUBLE, 21)), 0.0003)
    assert {future.result() for future in submitted} == {42}
    no_job_is_left(shared)


def test_awaiting_can_be_interrupted(shared: Pool) -> None:
    async def call() -> None:
        assert await shared.acall(DOUBLE, 21) == 42

    async def consume() -> None:
        assert [value async for value in shared.amap(DOUBLE, range(8), buffersize=2)] == list(range(0, 16, 2))

    ctrl_c = CtrlC(0.002)
    with asyncio.Runner() as runner:
        for number in range(ROUNDS):
            bystander = shared.submit(DOUBLE, number)
            ctrl_c.during_task(runner, consume if number % 4 == 0 else call)
            assert bystander.result() == 2 * number
    assert ctrl_c.interrupted > ROUNDS // 10
    no_job_is_left(shared)


def test_warming_up_deploying_and_statistics_can_be_interrupted(shared: Pool) -> None:
    def use() -> None:
        shared.deploy("double", DOUBLE.plugin)
        shared.warm_up(DOUBLE)
        shared.stats()
        assert shared.submit(shared.deployment("double").function("double"), 1).result() == 2

    interrupt(shared, use, 0.002, ROUNDS // 4)
    no_job_is_left(shared)


@BACKENDS
@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.nightly)])
def test_a_with_block_can_be_interrupted_and_leaves_no_process(backend: BackendName, rounds: int) -> None:
    def use() -> None:
        with Pool(1, backend=backend) as pool:
            pool.submit(DOUBLE, 1)
            assert list(pool.map(DOUBLE, range(4))) == [0, 2, 4, 6]

    before = Tools.descendants()
    ctrl_c = CtrlC(0.2, seed=rounds)
    for _ in range(rounds):
        ctrl_c.during(use)
    Tools.eventually(lambda: Tools.descendants() == before, "no process is left")
    use()


def test_alarms_neither_hang_the_pool_nor_lose_anything(shared: Pool) -> None:
    def submit_and_map(number: int) -> list[int]:
        futures.append(shared.submit(DOUBLE, number))
        return list(shared.map(DOUBLE, range(number % 5)))

    futures: list[JobFuture] = []
    with Alarms(0.005) as alarms:
        for number in range(1000):
            assert alarms.during(partial(submit_and_map, number)) == list(range(0, 2 * (number % 5), 2))
            assert alarms.during(futures[-1].result) == 2 * number
    assert alarms.rung > 10
    assert {future.result() for future in futures} == set(range(0, 2000, 2))
    no_job_is_left(shared)


def test_interrupts_of_endless_maps_free_the_workers_and_never_break_the_pool() -> None:
    """Killing the workers of such maps does not count as crashes, too many of which in a row break a pool."""
    endless = px.Plugin("function f() { for (;;); }").function("f")
    with Pool(2, limits=px.Limits(time_s=60)) as pool:
        pool.warm_up(DOUBLE)
        ctrl_c = CtrlC(0.05)
        while pool.stats().events.get("worker retired", 0) <= CRASHES_AT_LEAST:
            assert ctrl_c.during(lambda: list(pool.map(endless, range(4))))
        assert pool.submit(DOUBLE, 4).result() == 8
        no_job_is_left(pool)
