"""The pool as a `concurrent.futures.Executor`: what CPython's own tests expect of an executor."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Executor,
    Future,
    as_completed,
    wait,
)
from functools import partial
from typing import Any

import pytest

import parallel_exec as px
from parallel_exec.pool import JobFuture, Pool
from tests.pool.conftest import Tools

PATIENT = px.Limits(time_s=None)


@pytest.fixture
def busy(tools: Tools) -> Iterator[tuple[Pool, JobFuture]]:
    """A pool of one worker, which runs a job that does not end by itself, and that job's future."""
    with Pool(1, limits=PATIENT) as pool:
        future = pool.submit(tools.function("spin"), 1)
        yield pool, future
        pool.stop(future)


def test_a_pool_is_an_executor_and_a_context_manager(tools: Tools) -> None:
    with Pool(1) as pool:
        assert isinstance(pool, Executor)
        future = pool.submit(tools.function("double"), 4)
    assert future.done() and future.result() == 8
    with pytest.raises(RuntimeError, match="after shutdown"), pool:
        pool.submit(tools.function("double"), 4)


def test_submit_takes_a_function_and_one_document(pool: Pool, tools: Tools) -> None:
    submit = tools.untyped(pool.submit)
    for arguments in ((), (tools.function("double"),), (tools.function("double"), 1, 2)):
        with pytest.raises(TypeError):
            submit(*arguments)
    with pytest.raises(TypeError):
        submit(fn=tools.function("double"), document=1)


@pytest.mark.parametrize("operation", ["submit", "map"])
def test_after_shutdown_nothing_is_accepted_and_no_document_is_drawn(tools: Tools, operation: str) -> None:
    pool = Pool(1)
    pool.shutdown(wait=False)
    documents = iter([1, 2])
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        if operation == "submit":
            pool.submit(tools.function("double"), 1)
        else:
            pool.map(tools.function("double"), documents)
    assert next(documents) == 1


def test_a_map_begins_before_its_results_are_asked_for(tools: Tools) -> None:
    with Pool(1) as pool:
        results = pool.map(tools.function("double"), [1, 2, 3])
    assert list(results) == [2, 4, 6]  # shut down, the pool has done what it had accepted


def test_a_map_gives_what_is_there_before_its_timeout(tools: Tools) -> None:
    with Pool(1, limits=px.Limits(time_s=2.5)) as pool:
        pool.submit(tools.function("spin"), 0).result()
        results = pool.map(tools.function("spin"), [0, 1], timeout=2)
        assert next(results) == "quick"
        with pytest.raises(TimeoutError):
            next(results)
        with pytest.raises(StopIteration):
            next(results)


def test_a_result_waited_for_too_briefly_can_be_waited_for_again(busy: tuple[Pool, JobFuture]) -> None:
    _, running = busy
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError):
            running.result(timeout)
        with pytest.raises(TimeoutError):
            running.exception(timeout)
    assert running.running() and not running.done()


def test_a_running_job_cannot_be_cancelled_and_a_waiting_one_can(busy: tuple[Pool, JobFuture], tools: Tools) -> None:
    pool, running = busy
    waiting = [pool.submit(tools.function("double"), number) for number in range(30)]
    assert running.running() and not running.cancel() and not running.cancelled()
    last = waiting[-1]
    assert not last.running() and not last.done()
    called: list[Future[Any]] = []
    last.add_done_callback(called.append)
    assert last.cancel() and last.cancel() and last.cancelled() and last.done()
    assert called == [last]
    with pytest.raises(CancelledError):
        last.result()
    with pytest.raises(CancelledError):
        last.exception()


def test_wait_returns_as_it_was_told(busy: tuple[Pool, JobFuture], tools: Tools) -> None:
    _, running = busy
    with Pool(1) as other:
        good = [other.submit(tools.function("double"), number) for number in range(3)]
        assert wait([*good, *good], return_when=ALL_COMPLETED) == (set(good), set())
        assert wait([running, good[0]], return_when=FIRST_COMPLETED) == ({good[0]}, {running})
        bad = other.submit(tools.function("fail"), 1)
        done, left = wait([running, bad], return_when=FIRST_EXCEPTION)
        assert (done, left) == ({bad}, {running})
        assert wait([running, bad], timeout=0.01) == ({bad}, {running})
        assert wait([], return_when=FIRST_COMPLETED) == (set(), set())


def test_wait_counts_a_cancelled_future_once_its_turn_has_come(tools: Tools) -> None:
    with Pool(1, limits=px.Limits(time_s=1)) as pool:
        futures = [pool.submit(tools.function("spin"), 1)]
        futures += [pool.submit(tools.function("double"), number) for number in range(30)]
        assert futures[-1].cancel()
        assert wait(futures) == (set(futures), set())
        assert [future.result() for future in futures[1:-1]] == list(range(0, 58, 2))


def test_as_completed_gives_each_once_and_times_out(busy: tuple[Pool, JobFuture], tools: Tools) -> None:
    _, running = busy
    with Pool(1) as other:
        done = other.submit(tools.function("double"), 1)
        assert list(as_completed([done, done])) == [done]
        given = as_completed([running, done], timeout=0.01)
        assert next(given) is done
        with pytest.raises(TimeoutError):
            next(given)
        with pytest.raises(TimeoutError):
            list(as_completed([running], timeout=0))


def test_callbacks_get_the_future_in_the_order_they_were_added(busy: tuple[Pool, JobFuture], tools: Tools) -> None:
    pool, running = busy
    calls: list[tuple[int, Future[Any]]] = []

    def called(number: int, future: Future[Any]) -> None:
        calls.append((number, future))

    for number in range(3):
        running.add_done_callback(partial(called, number))
    pool.stop(running)
    assert isinstance(running.exception(), CancelledError)
    tools.eventually(lambda: len(calls) == 3, "the callbacks have run")
    assert calls == [(0, running), (1, running), (2, running)]


@pytest.mark.parametrize("kind", [ValueError, SystemExit, GeneratorExit])
def test_a_callback_that_raises_harms_nobody(
    tools: Tools, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    def bad(_future: object) -> None:
        raise kind("mine")

    with Pool(1, limits=px.Limits(time_s=1)) as pool, caplog.at_level(logging.ERROR):
        futures = [pool.submit(tools.function("spin"), 1)]  # runs while the callbacks are added
        futures += [pool.submit(tools.function("double"), number) for number in range(20)]
        for future in futures:
            future.add_done_callback(bad)
        assert isinstance(futures[0].exception(), px.JobTimeout)
        assert [future.result() for future in futures[1:]] == list(range(0, 40, 2))
        assert pool.submit(tools.function("double"), 21).result() == 42
    assert sum("callback" in record.getMessage() for record in caplog.records) == len(futures)


def test_a_callback_may_use_the_pool_that_is_being_left(tools: Tools) -> None:
    refused: list[BaseException] = []

    def more(_future: object) -> None:
        try:
            pool.submit(tools.function("double"), 1)
        except RuntimeError as error:
            refused.append(error)

    pool = Pool(1, limits=PATIENT)
    futures = [pool.submit(tools.function("spin"), 1) for _ in range(20)]
    for future in futures:
        future.add_done_callback(more)
    with pytest.raises(KeyboardInterrupt), pool:
        raise KeyboardInterrupt
    assert len(refused) == len(futures)


def test_shutdown_can_be_called_by_many_and_again(tools: Tools) -> None:
    pool = Pool(2)
    futures = [pool.submit(tools.function("slow"), number) for number in range(20)]
    tools.in_threads(4, pool.shutdown)
    pool.shutdown()
    pool.shutdown(wait=False, cancel_futures=True)
    assert [future.result() for future in futures] == list(range(20))


@pytest.mark.parametrize("waits", [True, False])
def test_shutdown_cancels_only_what_no_worker_has(tools: Tools, *, waits: bool) -> None:
    pool = Pool(1, limits=px.Limits(time_s=1))
    futures = [pool.submit(tools.function("spin"), 1)]
    futures += [pool.submit(tools.function("double"), number) for number in range(30)]
    pool.shutdown(wait=waits, cancel_futures=True)
    assert isinstance(futures[0].exception(), px.JobTimeout)
    cancelled = [future.cancelled() for future in futures]
    assert cancelled == sorted(cancelled) and cancelled[-1]  # the end of the queue, and nothing else
    for number, future in enumerate(futures[1:]):
        assert future.cancelled() or future.result() == 2 * number
    assert wait(futures) == (set(futures), set())


@pytest.mark.parametrize("_round", range(5))
def test_submitting_while_another_thread_shuts_down_loses_nothing(tools: Tools, _round: int) -> None:
    pool = Pool(1)
    many = threading.Event()

    def submit() -> list[JobFuture]:
        accepted = []
        for number in itertools.count():
            try:
                accepted.append(pool.submit(tools.function("double"), number))
            except RuntimeError:
                break
            if number == 20:
                many.set()
        return accepted

    def shut_down() -> None:
        many.wait()
        pool.shutdown()

    closer = threading.Thread(target=shut_down)
    closer.start()
    for accepted in tools.in_threads(3, submit):
        assert [future.result() for future in accepted] == list(range(0, 2 * len(accepted), 2))
    closer.join()


def test_what_is_done_is_not_kept(tools: Tools) -> None:
    with Pool(1) as pool:
        gone = [weakref.ref(pool.submit(tools.function("double"), number)) for number in range(50)]
        kept = pool.submit(tools.function("double"), 1)
        assert kept.result() == 2
        tools.eventually(lambda: not any(reference() for reference in gone), "the pool has let go of the futures")
        raised = weakref.ref(pool.submit(tools.function("fail"), 1))
        tools.eventually(lambda: raised() is None, "it has let go of an error too")


def test_idle_workers_are_used_again(tools: Tools) -> None:
    with Pool(2) as pool:
        pool.warm_up()
        pids = tools.pids(pool)
        for number in range(50):
            assert pool.submit(tools.function("double"), number).result() == 2 * number
        assert tools.pids(pool) == pids


def test_an_event_loop_can_use_it_as_an_executor(pool: Pool, tools: Tools) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        jobs = [loop.run_in_executor(pool, tools.function("double"), number) for number in range(5)]
        return list(await asyncio.gather(*jobs))

    assert asyncio.run(main()) == [0, 2, 4, 6, 8]


def test_a_program_that_submits_while_it_exits_gets_its_result(tools: Tools) -> None:
    child = tools.python(
        """
import atexit
import parallel_exec as px
double = px.Plugin("function double(x) { return 2 * x }").function("double")
pool = px.Pool(1)
@atexit.register
def last():
    print(pool.submit(double, 21).result())
"""
    )
    assert child.communicate() == ("42\n", "")
    assert child.returncode == 0


def test_a_program_that_fails_with_work_pending_reports_its_own_error_only(tools: Tools) -> None:
    child = tools.python(
        """
import parallel_exec as px
double = px.Plugin("function double(x) { return 2 * x }").function("double")
pool = px.Pool(1)
futures = [pool.submit(double, number) for number in range(100)]
raise SystemExit("mine")
"""
    )
    assert child.communicate() == ("", "mine\n")
    assert child.returncode == 1
