"""Tiny jobs travel together, slow ones delay no others, and a map draws as far ahead as its workers need."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

import parallel_exec as px
from parallel_exec.pool import Pool
from parallel_exec.pool._mapping import LEAST_AHEAD, MOST_AHEAD
from parallel_exec.pool._scheduling import supervisor
from tests.pool.conftest import Tools

# CPU time and much grace, because the quick jobs have these limits too and the machine may be busy.
LIMITS = px.Limits(time_s=0.4, clock="cpu", grace_s=60.0)


def test_thousands_of_tiny_jobs_keep_their_order_and_their_results(pool: Pool, tools: Tools) -> None:
    numbers = range(20_000)
    assert list(pool.map(tools.function("double"), numbers)) == [2 * number for number in numbers]
    assert list(pool.map(tools.function("keep"), numbers)) == [1] * len(numbers)


def test_a_map_without_order_gives_every_result_once(pool: Pool, tools: Tools) -> None:
    results = pool.map(tools.function("double"), range(5000), ordered=False)
    assert sorted(results) == list(range(0, 10_000, 2))


def test_a_map_without_order_does_not_wait_for_a_slow_document(tools: Tools) -> None:
    with Pool(2, limits=LIMITS) as pool:
        results = pool.map(tools.function("spin"), [1, *[0] * 60], ordered=False, errors="return")
        outcomes = list(results)
        assert outcomes[:60] == ["quick"] * 60 and isinstance(outcomes[60], px.JobTimeout)
        assert outcomes[60].document == 0


def test_errors_can_be_given_in_place_of_results(pool: Pool, tools: Tools) -> None:
    outcomes = list(pool.map(tools.function("failOn3"), [1, 2, 3, float("nan"), {1, 2}, 5] * 50, errors="return"))
    assert len(outcomes) == 300
    for start in range(0, 300, 6):
        one, two, three, nothing, bad, five = outcomes[start : start + 6]
        assert (one, two, nothing, five) == (1, 2, None, 5)
        assert isinstance(three, px.JSError) and three.document == start + 2
        assert isinstance(bad, px.InvalidDocument) and bad.document == start + 4
    with pytest.raises(ValueError, match="errors must be"):
        pool.map(tools.function("double"), [1], errors=tools.untyped("ignore"))


def test_jobs_behind_a_slow_one_are_taken_back(tools: Tools) -> None:
    with Pool(2, limits=px.Limits(time_s=60.0)) as pool:
        assert list(pool.map(tools.function("double"), range(40))) == list(range(0, 80, 2))
        slow = pool.submit(tools.function("spin"), 1)
        quick = [pool.submit(tools.function("double"), number) for number in range(200)]
        assert [future.result() for future in quick] == list(range(0, 400, 2))
        assert not slow.done()
        os.kill(tools.busy_worker(pool), signal.SIGKILL)
        assert isinstance(slow.exception(), px.WorkerCrashed)


def test_a_map_draws_further_ahead_while_its_first_document_takes_long(tools: Tools) -> None:
    drawn = itertools.count()
    documents = ({0: 1}.get(number, 0) for number in drawn)
    with Pool(2, limits=LIMITS) as pool:
        results = pool.map(tools.function("spin"), documents, errors="return")
        assert next(drawn) <= 2 * LEAST_AHEAD
        assert isinstance(next(results), px.JobTimeout)
        ahead = next(drawn)
        assert 4 * LEAST_AHEAD < ahead <= 2 * MOST_AHEAD + 2
        assert next(results) == "quick"
        tools.close(results)


def test_documents_ahead_are_bounded_in_bytes(tools: Tools) -> None:
    drawn = 0

    def documents() -> Iterator[bytes]:
        nonlocal drawn
        yield b"1"
        for _ in range(1000):
            drawn += 1
            yield b'"' + b"x" * (1 << 20) + b'"'

    with Pool(2, limits=LIMITS) as pool:
        results = pool.map(tools.function("failOn3"), documents())
        assert next(results) == 1
        results = pool.map(tools.function("spin"), itertools.chain([1], documents()), errors="return")
        assert isinstance(next(results), px.JobTimeout)
        assert drawn < 100
        tools.close(results)


def test_large_results_ahead_are_bounded_too(tools: Tools) -> None:
    drawn = itertools.count()
    with Pool(2) as pool:
        results = pool.map(tools.function("long"), (1 << 20 for _ in drawn))
        for taken in range(100):
            assert len(next(results)) == 1 << 20
            assert next(drawn) < 2 * taken + 2 * LEAST_AHEAD + 64
        tools.close(results)


def test_kills_among_tiny_jobs_fail_only_what_ran(tools: Tools) -> None:
    with Pool(2) as pool:
        results = pool.map(tools.function("double"), range(30_000), errors="return")
        kills = 0
        failed = []
        for number, outcome in enumerate(results):
            if number % 500 == 100 and kills < 6:
                for pid in tools.busy(pool)[:1]:
                    with contextlib.suppress(ProcessLookupError):  # the kill before has ended it
                        os.kill(pid, signal.SIGKILL)
                        kills += 1
            if isinstance(outcome, px.PexecError):
                assert isinstance(outcome, px.WorkerCrashed) and outcome.document == number
                failed.append(number)
            else:
                assert outcome == 2 * number
        assert kills and len(failed) <= kills


def test_a_worker_that_is_stopped_in_a_job_is_killed_after_deadline_and_grace(tools: Tools) -> None:
    with Pool(1, limits=px.Limits(time_s=1.0, grace_s=0.2)) as pool:
        assert pool.submit(tools.function("double"), 1).result() == 2
        futures = [pool.submit(tools.function("spin"), 1), pool.submit(tools.function("double"), 4)]
        pid = tools.busy_worker(pool)
        os.kill(pid, signal.SIGSTOP)
        error = futures[0].exception()
        assert isinstance(error, px.JobTimeout) and "grace_s" in str(error)
        assert futures[1].result() == 8
        tools.eventually(lambda: not tools.alive([pid]), "the stopped worker is gone")


def test_jobs_that_a_stopped_worker_has_not_begun_are_run_by_others(tools: Tools) -> None:
    with Pool(2) as pool:
        assert list(pool.map(tools.function("double"), range(40))) == list(range(0, 80, 2))
        pool.warm_up()
        stopped = tools.pids(pool)[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            assert list(pool.map(tools.function("double"), range(2000))) == list(range(0, 4000, 2))
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert list(pool.map(tools.function("double"), range(2000))) == list(range(0, 4000, 2))


def test_a_slow_iterable_delays_no_result(tools: Tools) -> None:
    """What has been drawn is handed over at once, and its results are yielded while the iterable takes its time."""
    given: list[int] = []

    def documents() -> Iterator[int]:
        yield from range(4)
        tools.eventually(lambda: given or tools.idle(pool), "the jobs drawn so far have ended")
        yield 4

    with Pool(2) as pool:
        assert list(pool.map(tools.function("double"), range(40))) == list(range(0, 80, 2))
        given.extend(pool.map(tools.function("double"), documents(), buffersize=1000))
    assert given == [0, 2, 4, 6, 8]


def test_a_result_does_not_wait_for_a_slow_job_behind_it(tools: Tools) -> None:
    with Pool(1, limits=px.Limits(time_s=20.0)) as pool:
        assert list(pool.map(tools.function("spin"), [0] * 300)) == ["quick"] * 300  # known to be short
        quick, slow = pool.submit(tools.function("spin"), 0), pool.submit(tools.function("spin"), 1)
        assert quick.result() == "quick"
        assert not slow.done()
        os.kill(tools.busy_worker(pool), signal.SIGKILL)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_whose_jobs_are_cancelled_ends(tools: Tools, *, ordered: bool) -> None:
    with Pool(1) as pool:
        results = pool.map(tools.function("slow"), range(100), ordered=ordered, errors="return")
        next(results)
        pool.shutdown(cancel_futures=True)
        with pytest.raises(CancelledError):
            list(results)


def test_workers_that_are_stopped_one_after_another_are_replaced(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    # A healthy worker that takes longer to begin a job is replaced too, and the next one runs the job.
    monkeypatch.setattr(supervisor, "START_S", 0.1)
    with Pool(2, limits=px.Limits(time_s=0.5, grace_s=0.1)) as pool:
        assert list(pool.map(tools.function("double"), range(40))) == list(range(0, 80, 2))
        pool.warm_up()
        for pid in tools.pids(pool):
            os.kill(pid, signal.SIGSTOP)
            futures = [pool.submit(tools.function("double"), number) for number in range(4)]
        assert [future.result() for future in futures] == [0, 2, 4, 6]
