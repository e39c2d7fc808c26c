"""Workers, zygotes and rings that break: at most one job fails, and nothing else is lost."""

from __future__ import annotations

import os
import signal
from concurrent.futures.process import BrokenProcessPool

import pytest

import parallel_exec as px
from parallel_exec.pool import Pool
from parallel_exec.pool._scheduling import processes, supervisor
from tests.pool.conftest import Tools


# Not SIGSEGV: sent from outside it reaches wasmtime's handler, which aborts or ignores it, depending on the moment.
@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGABRT, signal.SIGTERM])
def test_a_worker_killed_in_a_job_fails_that_job_only(tools: Tools, deadly: signal.Signals) -> None:
    with Pool(1) as pool:
        victim = pool.submit(tools.function("spin"), 1)
        others = [pool.submit(tools.function("double"), number) for number in range(20)]
        pid = tools.busy_worker(pool)
        os.kill(pid, deadly)
        error = victim.exception()
        assert isinstance(error, px.WorkerCrashed) and isinstance(error, BrokenProcessPool)
        assert (error.plugin, error.function) == ("tools.js", "spin") and deadly.name in str(error)
        assert [future.result() for future in others] == list(range(0, 40, 2))
        assert pid not in tools.pids(pool)


def test_a_crash_in_a_map_names_the_document(tools: Tools) -> None:
    with Pool(2) as pool:
        results = pool.map(tools.function("spin"), [0, 0, 1, 0, 0])
        assert [next(results), next(results)] == ["quick", "quick"]
        os.kill(tools.busy_worker(pool), signal.SIGKILL)
        with pytest.raises(px.WorkerCrashed, match="document 2") as caught:
            next(results)
        assert caught.value.document == 2


def test_an_idle_worker_killed_loses_nothing(tools: Tools) -> None:
    with Pool(2) as pool:
        assert pool.submit(tools.function("double"), 1).result() == 2
        pool.warm_up()
        before = set(tools.pids(pool))
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert list(pool.map(tools.function("double"), range(50))) == list(range(0, 100, 2))
        tools.eventually(lambda: len(set(tools.pids(pool)) - before) == 2, "both are replaced")


def test_random_kills_under_load_fail_only_what_ran(tools: Tools) -> None:
    with Pool(2) as pool:
        futures = [pool.submit(tools.function("slow"), number) for number in range(400)]
        kills: list[int] = []
        for done in range(20, 300, 30):
            futures[done].exception()
            for pid in tools.busy(pool)[:1]:
                os.kill(pid, signal.SIGKILL)
                kills.append(pid)
        errors = [future.exception() for future in futures]
        failed = [error for error in errors if error is not None]
        assert kills and len(failed) <= len(kills)
        assert all(isinstance(error, px.WorkerCrashed) for error in failed)
        for number, error in enumerate(errors):
            assert error is not None or futures[number].result() == number


@pytest.mark.parametrize("retries", [0, 2])
def test_a_plugin_that_kills_every_worker_breaks_the_pool_in_the_end(tools: Tools, retries: int) -> None:
    deadly = px.Plugin("function f() { kill(pid(), 9) }", host={"pid": os.getpid, "kill": os.kill}).function("f")
    with Pool(2, retries=retries) as pool:
        futures = [pool.submit(deadly, number) for number in range(100)]
        errors = [future.exception() for future in futures]
        assert all(isinstance(error, px.WorkerCrashed) for error in errors)
        assert "die one after another" in str(errors[-1])
        with pytest.raises(BrokenProcessPool, match="gives up"):
            pool.submit(tools.function("double"), 1)
        with pytest.raises(BrokenProcessPool, match="gives up"):
            pool.warm_up()
        assert pool.stats().failures == {"WorkerCrashed": 100}
    assert not tools.descendants()


def test_a_zygote_that_is_killed_is_replaced(tools: Tools) -> None:
    with Pool(2) as pool:
        assert pool.submit(tools.function("double"), 1).result() == 2
        victim = pool.submit(tools.function("spin"), 1)
        workers = [tools.busy_worker(pool)]
        zygote = tools.zygote(pool)
        zygote.kill()
        assert isinstance(victim.exception(), px.WorkerCrashed)
        assert list(pool.map(tools.function("double"), range(20))) == list(range(0, 40, 2))
        tools.eventually(lambda: not tools.alive(workers), "its workers are gone")


def test_a_zygote_that_is_stopped_is_replaced(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "ZYGOTE_S", 0.5)
    with Pool(1, limits=px.Limits(time_s=0.2, grace_s=0.1)) as pool:
        assert pool.submit(tools.function("double"), 1).result() == 2
        victim = pool.submit(tools.function("spin"), 1)
        worker = tools.busy_worker(pool)
        zygote = tools.zygote(pool)
        zygote.suspend()
        os.kill(worker, signal.SIGSTOP)  # only the zygote could end it, and start another one
        assert isinstance(victim.exception(), px.JobTimeout)
        assert pool.submit(tools.function("double"), 4).result() == 8
        assert pool.stats().restarts == 2  # the stopped worker, and the one that was to take its place
        tools.eventually(lambda: not tools.alive([worker, zygote.pid]), "both are gone")


def test_a_pool_whose_zygote_is_stopped_can_be_closed(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_S", 0.2)
    with Pool(2) as pool:
        pool.warm_up()
        zygote = tools.zygote(pool)
        pids = [*tools.pids(pool), zygote.pid]
        zygote.suspend()
    tools.eventually(lambda: not tools.alive(pids), "no process is left")


def test_a_request_ring_that_is_corrupted_costs_the_worker_not_the_jobs(
    tools: Tools, capfd: pytest.CaptureFixture[str]
) -> None:
    with Pool(1) as pool:
        assert pool.submit(tools.function("double"), 1).result() == 2
        pids = tools.pids(pool)
        tools.corrupt(pool, "requests")
        tools.eventually(lambda: not tools.alive(pids), "the worker has ended")
        assert pool.submit(tools.function("double"), 2).result() == 4
    assert "no frame at" in capfd.readouterr().err


def test_a_result_ring_that_is_corrupted_costs_the_worker_not_the_pool(tools: Tools) -> None:
    with Pool(1) as pool:
        done = pool.submit(tools.function("double"), 1)
        assert done.result() == 2
        pids = tools.pids(pool)
        tools.corrupt(pool, "results")
        pool.stop(done)  # wakes the collector, which then reads the rings
        tools.eventually(lambda: not tools.alive(pids), "the worker has ended")
        assert pool.submit(tools.function("double"), 2).result() == 4
