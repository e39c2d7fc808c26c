"""What is different about a pool of threads. Tests of what both kinds have in common run with either."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from concurrent.futures import CancelledError

import pytest

import parallel_exec as px
from parallel_exec.pool import Pool
from tests.pool.conftest import Tools

ENDLESS = px.Limits(time_s=None)


def threads() -> int:
    return sum(thread.name.startswith("parallel_exec worker") for thread in threading.enumerate())


def endless(started: threading.Event) -> px.PluginFunction:
    """A function that sets the event when it starts, and never ends."""
    return px.Plugin("function f() { start(); for (;;); }", host={"start": started.set}).function("f")


def test_jobs_run_at_the_same_time_and_in_this_process(tools: Tools) -> None:
    before = tools.descendants()
    barrier = threading.Barrier(3)
    plugin = px.Plugin("const meet = x => wait()", host={"wait": barrier.wait})
    with Pool(3, backend="thread") as pool:
        met = [pool.submit(plugin.function("meet"), 1) for _ in range(3)]
        assert sorted(future.result() for future in met) == [0, 1, 2]
        assert tools.descendants() == before and threads() == 3
    assert threads() == 0


def test_options_that_need_processes_are_refused(tools: Tools) -> None:
    with pytest.raises(ValueError, match="use backend='process'"):
        Pool(1, backend="thread", isolation="process")
    with pytest.raises(ValueError, match="use backend='process'"):
        Pool(1, backend="thread", max_jobs_per_worker=5)
    with pytest.raises(ValueError, match="backend must be"):
        Pool(1, backend=tools.untyped("fibre"))


def test_statistics_are_counted_in_all_and_per_thread(tools: Tools) -> None:
    both = threading.Barrier(2)
    meet = px.Plugin("const meet = x => wait()", host={"wait": both.wait}).function("meet")
    with Pool(2, limits=px.Limits(time_s=60, fuel=10**10), backend="thread") as pool:
        assert [worker.jobs for worker in pool.stats().workers] == [0, 0]
        assert sorted(pool.map(meet, [0] * 10, buffersize=2)) == [0] * 5 + [1] * 5  # so each thread has five
        assert list(pool.map(tools.function("echo"), ["x" * 998] * 10)) == ["x" * 998] * 10
        for number in range(3):
            assert isinstance(pool.submit(tools.function("fail"), number).exception(), px.JSError)
        stats = pool.stats()
        assert (stats.jobs, stats.failures, stats.waiting, stats.in_flight) == (23, {"JSError": 3}, 0, 0)
        assert (stats.bytes_in, stats.bytes_out) == (10 + 10_000 + 3, 10 + 10_000)
        for quantity in (stats.run, stats.queue, stats.reset, stats.fuel):
            assert quantity.count == 23 and quantity.total > 0
        assert {worker.worker for worker in stats.workers} == {1, 2}
        assert all(worker.pid == os.getpid() and worker.jobs >= 5 for worker in stats.workers)
        assert sum(worker.jobs for worker in stats.workers) == 23
        assert sum(worker.run.total for worker in stats.workers) == pytest.approx(stats.run.total)
    assert pool.stats().workers == () and pool.stats().jobs == 23


def test_jobs_that_are_stopped_are_counted(tools: Tools) -> None:
    async def test() -> None:
        async with Pool(1, limits=ENDLESS, backend="thread") as pool:
            started = threading.Event()
            spinning = asyncio.create_task(pool.acall(endless(started), 1))
            await asyncio.to_thread(started.wait)
            assert (pool.stats().waiting, pool.stats().in_flight) == (0, 1)
            spinning.cancel()
            assert await pool.acall(tools.function("double"), 2) == 4
            assert (pool.stats().jobs, pool.stats().failures) == (2, {"CancelledError": 1})

    asyncio.run(test())


def test_shutdown_ends_what_is_pending_or_cancels_it(tools: Tools) -> None:
    pool = Pool(1, backend="thread")
    futures = [pool.submit(tools.function("slow"), number) for number in range(10)]
    pool.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(tools.function("double"), 1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(pool.map(tools.function("double"), [1]))
    assert [future.result() for future in futures] == list(range(10))
    pool.shutdown()

    pool = Pool(1, limits=px.Limits(time_s=0.5), backend="thread")
    started = threading.Event()
    futures = [pool.submit(endless(started), 1) for _ in range(5)]
    started.wait()
    pool.shutdown(cancel_futures=True)
    assert isinstance(futures[0].exception(), px.JobTimeout)
    assert all(future.cancelled() for future in futures[1:])
    assert threads() == 0


def test_leaving_by_ctrl_c_stops_what_runs() -> None:
    started = threading.Event()
    futures = []
    with pytest.raises(KeyboardInterrupt), Pool(1, limits=ENDLESS, backend="thread") as pool:
        futures += [pool.submit(endless(started), 1) for _ in range(3)]
        started.wait()
        raise KeyboardInterrupt
    assert isinstance(futures[0].exception(), CancelledError)
    assert futures[1].cancelled() and futures[2].cancelled()


def test_a_forgotten_pool_ends(tools: Tools) -> None:
    pool = Pool(2, backend="thread")
    future = pool.submit(tools.function("slow"), 3)
    del pool
    gc.collect()
    assert future.result() == 3
    tools.eventually(lambda: threads() == 0, "its threads have ended")


def test_callbacks_that_exit_or_shut_down_harm_no_thread(tools: Tools) -> None:
    def leave(_: object) -> None:
        raise SystemExit

    with Pool(1, backend="thread") as pool:
        future = pool.submit(tools.function("slow"), 1)
        future.add_done_callback(leave)
        future.add_done_callback(lambda _: pool.shutdown())
        tools.eventually(future.done, "the job is done")
    assert threads() == 0


def test_there_may_be_more_plugins_than_sandboxes_that_are_kept() -> None:
    functions = [px.Plugin(f"const f = x => [{n}, x]", name=f"p{n}.js").function("f") for n in range(20)]
    with Pool(2, backend="thread") as pool:
        futures = [(n, i, pool.submit(functions[n], i)) for i in range(3) for n in range(20)]
        assert all(future.result() == [n, i] for n, i, future in futures)


def test_a_cancelled_call_stops_its_job_and_no_other(tools: Tools) -> None:
    async def test() -> None:
        async with Pool(1, limits=ENDLESS, backend="thread") as pool:
            started = threading.Event()
            call = asyncio.create_task(pool.acall(endless(started), 1))
            await asyncio.to_thread(started.wait)
            behind = [asyncio.create_task(pool.acall(tools.function("double"), number)) for number in range(20)]
            cancelled = asyncio.create_task(pool.acall(tools.function("double"), 5))
            await asyncio.sleep(0)
            for task in (call, cancelled):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert await asyncio.gather(*behind) == list(range(0, 40, 2))

            spinning = pool.amap(tools.function("spin"), [0, 1, 1, 1])
            assert await anext(spinning) == "quick"
            await spinning.aclose()
            results = pool.amap(tools.function("double"), range(100))
            assert [each async for each in results] == list(range(0, 200, 2))

    asyncio.run(test())


def test_pending_jobs_are_done_when_the_interpreter_exits(tools: Tools) -> None:
    process = tools.python(
        "import parallel_exec as px\n"
        "slow = px.Plugin('function f(x) { for (let i = 0; i < 1e6; i++); return x }').function('f')\n"
        "pool = px.Pool(2, backend='thread')\n"
        "for n in range(5): pool.submit(slow, n).add_done_callback(lambda f: print(f.result(), flush=True))\n"
    )
    out, err = process.communicate()
    assert (sorted("".join(out.split())), err, process.returncode) == (list("01234"), "", 0)


def test_a_forked_child_cannot_use_the_pool(tools: Tools) -> None:
    process = tools.python(
        "import os, warnings, parallel_exec as px\n"
        "warnings.simplefilter('ignore')\n"
        "double = px.Plugin('const f = x => 2 * x').function('f')\n"
        "with px.Pool(2, backend='thread') as pool:\n"
        "    print(pool.submit(double, 4).result(), flush=True)\n"
        "    if os.fork() == 0:\n"
        "        try: pool.submit(double, 1)\n"
        "        except RuntimeError as error: print(error, flush=True)\n"
        "        pool.shutdown()\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "    print(pool.submit(double, 5).result(), flush=True)\n"
    )
    out, err = process.communicate()
    eight, refusal, ten = out.splitlines()
    assert (eight, ten, err) == ("8", "10", "") and "open another one after a fork" in refusal
