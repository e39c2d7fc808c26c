"""Many pools: one after another, at once, in threads, within each other."""

from __future__ import annotations

import gc
import importlib
from pathlib import Path

import pytest

import parallel_exec as px
from parallel_exec.pool import Pool
from tests.pool.conftest import Tools


@pytest.mark.parametrize("pools", [12, pytest.param(1000, marks=pytest.mark.nightly)])
def test_opening_and_closing_pools_leaves_no_descriptor_process_thread_or_mapping(tools: Tools, pools: int) -> None:
    def once(number: int) -> None:
        with Pool(1 + number % 2) as pool:
            pool.deploy("d", tools.plugin)
            if number % 3:
                assert pool.submit(pool.deployment("d").function("double"), number).result() == 2 * number
            if number % 5 == 0:
                pool.warm_up(tools.function("echo"))
            if number % 4 == 0:
                text = "x" * (2 << 20)  # travels in a segment of its own
                assert list(pool.map(tools.function("echo"), [text] * 4)) == [text] * 4

    once(20)
    gc.collect()
    before = tools.footprint()
    for number in range(pools):
        once(number)
    gc.collect()
    assert tools.footprint() == before


def test_threads_open_pools_of_their_own_which_outlive_them(tools: Tools) -> None:
    def use() -> Pool:
        pool = Pool(1)
        assert sum(pool.map(tools.function("double"), range(100))) == sum(range(0, 200, 2))
        return pool

    for pool in tools.in_threads(4, use):
        assert pool.submit(tools.function("double"), 21).result() == 42
        pool.shutdown()
    assert not tools.descendants()


def test_the_results_of_one_pools_map_can_be_another_ones_documents(tools: Tools) -> None:
    with Pool(1) as outer, Pool(1) as inner:
        doubled = inner.map(tools.function("double"), range(300))
        assert list(outer.map(tools.function("double"), doubled)) == list(range(0, 1200, 4))


def test_a_worker_of_a_pool_can_have_a_pool_of_its_own(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nesting.py").write_text(
        "import parallel_exec as px\n"
        "DOUBLE = px.Plugin('const double = x => 2 * x').function('double')\n"
        "def inner(n):\n"
        "    with px.Pool(1) as pool:\n"
        "        return sum(pool.map(DOUBLE, range(n)))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    nesting = importlib.import_module("nesting")
    plugin = px.Plugin("function f(n) { return inner(n) }", host={"inner": nesting.inner}, name="nested.js")
    with Pool(1, limits=px.Limits(time_s=60)) as pool:
        assert pool.submit(plugin.function("f"), 50).result() == sum(range(0, 100, 2))
    tools.eventually(lambda: not tools.descendants(), "nothing is left of either")
