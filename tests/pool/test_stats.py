"""What a pool tells about itself: counts, distributions, events, and that its workers are warm."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import parallel_exec as px
from parallel_exec.pool import Distribution, Pool, PoolEvent
from parallel_exec.pool._stats import Tally
from tests.pool.conftest import BACKENDS, BackendName, Tools


def test_jobs_bytes_and_times_are_counted_in_all_and_per_worker(tools: Tools) -> None:
    start = time.monotonic()
    echo = tools.plugin.function("echo", output="bytes")
    text = b'"' + b"x" * 998 + b'"'
    with Pool(2) as pool:
        assert pool.stats().jobs == 0
        assert list(pool.map(echo, [text] * 200)) == [text] * 200
        pool.submit(tools.function("slow"), 1).result()
        stats = pool.stats()
        assert (stats.jobs, stats.failures, stats.waiting, stats.in_flight) == (201, {}, 0, 0)
        assert stats.bytes_in == stats.bytes_out == 200 * 1000 + 1
        assert {worker.pid for worker in stats.workers} == set(tools.pids(pool))
        assert sum(worker.jobs for worker in stats.workers) == 201
        assert sum(worker.bytes_in for worker in stats.workers) == stats.bytes_in
    for times in (stats.run, stats.queue, stats.reset):
        assert times.count == sum(times.buckets) == 201
        assert 0 < times.percentile(50) <= times.percentile(90) <= times.percentile(100)
        assert times.total == pytest.approx(times.mean * 201)
        assert times.mean < time.monotonic() - start
    # The slow job takes longer than all others, and a reset is part of the run.
    assert stats.run.percentile(100) > 2 * stats.run.percentile(50)
    assert stats.reset.total < stats.run.total
    assert stats.fuel.count == 0


def test_the_time_in_the_queue_is_the_time_before_the_job_begins(tools: Tools) -> None:
    start = time.monotonic()
    with Pool(1, limits=px.Limits(time_s=0.5)) as pool:
        pool.submit(tools.function("double"), 1).result()
        pool.submit(tools.function("spin"), 1)
        last = pool.submit(tools.function("double"), 1)
        assert last.result() == 2
        stats = pool.stats()
    assert stats.queue.percentile(100) > 0.25  # which is exact to a factor of two
    assert 0.5 < stats.run.total < time.monotonic() - start


def test_reprs_are_short_and_have_units() -> None:
    double = px.Plugin("const double = x => 2 * x").function("double")
    with Pool(1) as pool:
        list(pool.map(double, [b"1"] * 9 + [b"x"], errors="return"))
        stats = pool.stats()
    assert repr(stats).startswith(
        "<PoolStats of 1 workers, 0 jobs waiting, 0 in flight: 10 jobs, failed: 1 InvalidDocument; 10 bytes in, "
    )
    assert repr(stats.workers[0]).startswith(f"<WorkerStats 1 (process {stats.workers[0].pid}): 10 jobs, failed: 1 ")
    assert len(repr(stats)) < 250 > len(repr(stats.run))
    assert repr(Distribution(2, 4e-6, (0,) * 10 + (2,), 1e-9)) == (
        "<Distribution over 2 jobs: mean 2 us, median 768 ns, 99 % below 1.02 us>"
    )


def test_failures_are_counted_by_class(tools: Tools) -> None:
    with Pool(1, limits=px.Limits(time_s=60, output_bytes=100)) as pool:
        for name, document in (("fail", 1), ("fail", 2), ("long", 1000), ("double", 2)):
            pool.submit(tools.function(name), document).exception()
        victim = pool.submit(tools.function("spin"), 1)
        pid = tools.busy_worker(pool)
        os.kill(pid, signal.SIGKILL)
        assert isinstance(victim.exception(), px.WorkerCrashed)
        tools.eventually(lambda: len(tools.pids(pool)) == 1, "the worker has been replaced")
        stats = pool.stats()
        assert stats.failures == {"JSError": 2, "OutputTooLarge": 1, "WorkerCrashed": 1}
        assert (stats.jobs, stats.restarts) == (5, 1)
        assert [(worker.jobs, worker.pid != pid) for worker in stats.workers] == [(0, True)]


def test_fuel_is_counted_where_it_is_bounded(tools: Tools) -> None:
    with Pool(1, limits=px.Limits(fuel=10**9)) as pool:
        pool.submit(tools.function("slow"), 1).result()
        fuel = pool.stats().fuel
    assert fuel.count == 1 and fuel.total > 200_000
    assert fuel.total / 2 <= fuel.percentile(50) <= fuel.total * 2


@BACKENDS
def test_what_failed_jobs_took_is_counted_and_refused_ones_took_nothing(tools: Tools, backend: BackendName) -> None:
    with Pool(1, backend=backend, limits=px.Limits(fuel=10**6, document_bytes=100)) as pool:
        for name, document, error in (
            ("fail", 1, px.JSError),
            ("spin", 1, px.FuelExhausted),
            ("fail", "x" * 1000, px.InvalidDocument),
        ):
            assert isinstance(pool.submit(tools.function(name), document).exception(), error)
        stats = pool.stats()
    assert stats.fuel.count == 2 and stats.fuel.total > 10**6
    assert stats.reset.count == 3 and stats.reset.total > 0


def test_percentiles_lie_within_a_factor_of_two() -> None:
    values = [number * number for number in range(1, 200)]
    buckets = [0] * 65
    for value in values:
        buckets[value.bit_length()] += 1
    found = Distribution(len(values), float(sum(values)), tuple(buckets), 1.0)
    for percent in (1, 10, 50, 90, 99):
        exact = values[int(len(values) * percent / 100)]
        assert exact / 2 <= found.percentile(percent) <= exact * 2
    assert Distribution(0, 0.0, (0,) * 65, 1.0).percentile(50) == 0 == Distribution(0, 0.0, (), 1.0).mean
    with pytest.raises(ValueError, match="from 0 to 100"):
        found.percentile(101)


def test_whatever_a_worker_reports_can_be_counted(tools: Tools) -> None:
    """The form of reports is checked, not whether they are true."""

    class Said:
        size = 1
        queued_ns = 1 << 62

    most = (1 << 64) - 1
    tally = Tally()
    for entry in ((0, 0, 0, 1, most, most, most, most), (0, 0, 0, 1, 0, 0, 0, 0)):
        tally.add(tools.untyped(Said()), entry)
    assert tally.worker(1, None).run.count == 2


def test_events_tell_about_workers_and_retries(tools: Tools) -> None:
    events: list[PoolEvent] = []
    with Pool(1, retries=1, max_jobs_per_worker=3, on_event=events.append) as pool:
        tools.eventually(lambda: events, "the first worker has started")
        (pid,) = tools.pids(pool)
        assert events == [PoolEvent("worker started", "", 1, pid)]
        spin = pool.submit(tools.function("spin"), 1)
        os.kill(tools.busy_worker(pool), signal.SIGKILL)
        tools.eventually(lambda: len(events) >= 4, "the job has been retried")
        os.kill(tools.busy_worker(pool), signal.SIGKILL)
        assert isinstance(spin.exception(), px.WorkerCrashed)
        assert list(pool.map(tools.function("double"), range(5))) == [0, 2, 4, 6, 8]
        tools.eventually(lambda: "worker retired" in [event.kind for event in events], "that has been told too")
        kinds = [event.kind for event in events]
        assert kinds[1:3] == ["worker died", "job retried"] and "SIGKILL" in events[1].text
        assert kinds.count("worker died") == 2 and kinds.count("job retried") == 1
        assert pool.stats().events["worker died"] == 2


def test_events_tell_about_workers_that_the_pool_kills_and_deployments_that_are_swapped(tools: Tools) -> None:
    events: list[PoolEvent] = []
    with Pool(1, limits=px.Limits(time_s=0.2, grace_s=0.2), on_event=events.append) as pool:
        version = pool.deploy("d", tools.plugin)
        assert PoolEvent("deployment swapped", "d version 1 (tools.js)", version=version) in events
        assert pool.submit(tools.function("double"), 1).result() == 2
        future = pool.submit(tools.function("spin"), 1)
        os.kill(tools.busy_worker(pool), signal.SIGSTOP)
        assert isinstance(future.exception(), px.JobTimeout)
        tools.eventually(lambda: any(event.kind == "worker killed" for event in events), "its death is an event")


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_on_event_may_use_the_pool_and_raise(
    tools: Tools, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    submitted: SimpleQueue[Future[Any]] = SimpleQueue()
    ready = threading.Event()

    def on_event(event: PoolEvent) -> None:
        ready.wait()
        submitted.put(pool.submit(tools.function("double"), 4))
        raise kind("mine")

    with caplog.at_level(logging.ERROR), Pool(1, on_event=on_event) as pool:
        ready.set()
        assert submitted.get().result() == 8
        assert pool.submit(tools.function("double"), 1).result() == 2
    assert any("on_event" in record.getMessage() for record in caplog.records)


def test_warm_up_returns_when_all_workers_are_ready(tools: Tools) -> None:
    def images() -> dict[int, int]:
        return {pid: len(tools.mappings(pid)) for pid in tools.pids(pool)}

    functions = [px.Plugin(f"function f(x) {{ return {n} + x }}", name=f"w{n}.js").function("f") for n in range(3)]
    with Pool(3) as pool:
        pool.warm_up()
        assert len(tools.pids(pool)) == 3
        pool.warm_up(tools.function("double"))  # a process that exists may not have mapped its own memory yet
        warm = {pid: number + len(functions) for pid, number in images().items()}
        pool.warm_up(*functions)
        assert images() == warm
        pool.warm_up(*functions, timeout=0)  # they are
        assert [pool.submit(function, 1).result() for function in functions] == [1, 2, 3]
        assert images() == warm
        assert pool.stats().jobs == 3


def test_warm_up_waits_for_the_replacements_of_workers_that_died(tools: Tools) -> None:
    double = tools.function("double")
    with Pool(2) as pool:
        pool.warm_up(double)
        old = set(tools.pids(pool))
        for pid in old:
            os.kill(pid, signal.SIGSTOP)  # so that they cannot answer
        other = px.Plugin("function f() {}").function("f")
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(pool.warm_up, other)
            for pid in old:
                os.kill(pid, signal.SIGKILL)
            waiting.result()
        assert not old & set(tools.pids(pool)) and len(tools.pids(pool)) == 2


def test_warm_up_works_in_the_middle_of_a_map_and_says_why_it_cannot(tools: Tools) -> None:
    with Pool(1) as pool:
        results = pool.map(tools.function("double"), range(100))
        assert next(results) == 0
        pool.warm_up(px.Plugin("function f() {}").function("f"))
        assert list(results) == list(range(2, 200, 2))
        with pytest.raises(px.PluginError):
            pool.warm_up(px.Plugin("function (").function("f"))
        with pytest.raises(TypeError, match=r"Plugin\(source\)"):
            pool.warm_up(tools.untyped(len))
        large = px.Plugin("const kept = new Array(2e6).fill(1.5); function f() {}")
        with pytest.raises(px.PexecError):
            pool.warm_up(large.function("f"), large.function("f", limits=px.Limits(memory_bytes=8 << 20)))
        (pid,) = tools.pids(pool)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError, match="not ready"):
            pool.warm_up(px.Plugin("function g() {}").function("g"), timeout=0.1)
        os.kill(pid, signal.SIGCONT)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.warm_up()


def test_an_idle_pool_does_nothing(tools: Tools) -> None:
    """Its processes and its collector sleep while nothing is asked of them: none wakes up every now and then, except
    for a sandbox's watchdog, which wakes once at what would have been its last job's deadline.
    """

    def switches(tasks: Iterable[Path]) -> int:
        lines = [line for task in tasks for line in (task / "status").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if "voluntary_ctxt" in line)

    before = set(threading.enumerate())
    with Pool(3) as pool:
        (collector,) = [thread for thread in threading.enumerate() if thread not in before]
        pool.warm_up(tools.function("double"))
        assert list(pool.map(tools.function("double"), range(300))) == list(range(0, 600, 2))
        assert pool.submit(tools.function("double"), 1).result() == 2
        pids = [*tools.pids(pool), tools.zygote(pool).pid]

        def state() -> list[int]:
            tasks = [list(Path(f"/proc/{pid}/task").iterdir()) for pid in pids]
            return [switches(each) for each in ([Path(f"/proc/self/task/{collector.native_id}")], *tasks)]

        def settled() -> bool:
            states.append(state())
            return states[-1] == states[-2]

        states = [state()]
        tools.eventually(settled, "all have gone to sleep")
        with pytest.raises(px.JobTimeout), px.Sandbox(tools.plugin, limits=px.Limits(time_s=1.0)) as sandbox:
            sandbox.call("spin", 1)  # for a second
        assert all(now - before <= 2 for now, before in zip(state(), states[-1], strict=True))
