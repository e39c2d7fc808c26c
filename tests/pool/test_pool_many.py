"""Many pools: one after another, at once, in threads, within each other; and a plugin that kills whatever runs it."""

from __future__ import annotations

import gc
import os
import threading
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

import parallel_exec as px
from parallel_exec.pool import Pool
from tests.pool.conftest import Tools


@pytest.mark.parametrize("pools", [12, pytest.param(1000, marks=pytest.mark.nightly)])
def test_pools_opened_and_closed_leak_nothing(tools: Tools, pools: int) -> None:
    def state() -> tuple[int, int, int, int]:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            mapped = sum("memfd:parallel_exec" in line for line in maps)
        return len(os.listdir("/proc/self/fd")), len(tools.descendants()), threading.active_count(), mapped

    def once(number: int) -> None:
        with Pool(1 + number % 2) as pool:
            pool.deploy("d", tools.plugin)
            if number % 3:
                assert pool.submit(pool.deployment("d").function("double"), number).result() == 2 * number
            if number % 5 == 0:
                pool.warm_up(tools.function("echo"))

    once(5)
    gc.collect()
    before = state()
    for number in range(pools):
        once(number)
    gc.collect()
    assert state() == before


def test_threads_open_pools_of_their_own_which_outlive_them(tools: Tools) -> None:
    pools: list[Pool] = []
    sums: list[int] = []

    def use() -> None:
        pool = Pool(1)
        sums.append(sum(pool.map(tools.function("double"), range(100))))
        pools.append(pool)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [sum(range(0, 200, 2))] * 4
    for pool in pools:
        assert pool.submit(tools.function("double"), 21).result() == 42
        pool.shutdown()
    assert not tools.descendants()


def test_a_map_of_one_pool_feeds_another(tools: Tools) -> None:
    with Pool(1) as outer, Pool(1) as inner:
        doubled = inner.map(tools.function("double"), range(300))
        assert list(outer.map(tools.function("double"), doubled)) == list(range(0, 1200, 4))


def test_a_pool_within_a_worker_of_a_pool(tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nesting.py").write_text(
        "import parallel_exec as px\n"
        "DOUBLE = px.Plugin('const double = x => 2 * x').function('double')\n"
        "def inner(n):\n"
        "    with px.Pool(1) as pool:\n"
        "        return sum(pool.map(DOUBLE, range(n)))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import nesting  # type: ignore[import-not-found]

    plugin = px.Plugin("function f(n) { return inner(n) }", host={"inner": nesting.inner}, name="nested.js")
    with Pool(1, limits=px.Limits(time_s=60)) as pool:
        assert pool.submit(plugin.function("f"), 50).result() == sum(range(0, 100, 2))
    tools.eventually(lambda: not tools.descendants(), "nothing is left of either")


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
