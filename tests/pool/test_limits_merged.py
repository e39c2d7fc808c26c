"""Limits of a pool, a plugin and a function: the tightest of each bound wins, wherever the job runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

import parallel_exec as px
from tests.pool.conftest import BACKENDS, BackendName, Tools

SOURCE = """
function long(n) { return 'x'.repeat(n) }
function spin(x) { for (;;); }
function chance() { return Math.random() }
function now() { return Date.now() }
"""
SMALL = px.Limits(output_bytes=1000)


def test_the_least_of_each_bound_wins_and_none_is_no_bound() -> None:
    one = px.Limits(time_s=None, memory_bytes=64 << 20, output_bytes=10, fuel=None, clock="cpu", interrupt="epoch")
    two = px.Limits(time_s=3, memory_bytes=32 << 20, output_bytes=20, fuel=7, clock="cpu")
    for merged in (px.Limits.tightest(one, two), px.Limits.tightest(two, one)):
        assert (merged.time_s, merged.memory_bytes, merged.output_bytes, merged.fuel) == (3, 32 << 20, 10, 7)
        assert (merged.clock, merged.interrupt) == ("cpu", "epoch")
    assert px.Limits.tightest(one, px.Limits()).clock == "wall"
    assert px.Limits.tightest(None, one, None) == one and px.Limits.tightest() == px.Limits()


def test_the_most_specific_seed_and_time_win() -> None:
    general, specific = px.Limits(seed=9, time=1.0), px.Limits(seed=2)
    merged = px.Limits.tightest(general, specific)
    assert (merged.seed, merged.time) == (2, 1.0)


@BACKENDS
@pytest.mark.parametrize("where", ["pool", "plugin", "function"])
def test_the_tightest_wins_in_a_pool_and_in_this_process(where: str, backend: BackendName) -> None:
    plugin = px.Plugin(SOURCE, limits=SMALL if where == "plugin" else None)
    limits = SMALL if where == "function" else px.Limits(output_bytes=10_000)
    function = plugin.function("long", limits=limits)
    with px.Pool(1, limits=SMALL if where == "pool" else None, backend=backend) as pool:
        assert len(pool.submit(function, 500).result()) == 500
        assert isinstance(pool.submit(function, 5000).exception(), px.OutputTooLarge)
        with pytest.raises(px.OutputTooLarge):
            list(pool.map(function, [5000]))
        assert pool.stats().failures == {"OutputTooLarge": 2}
    if where != "pool":
        assert len(function(500)) == 500
        with pytest.raises(px.OutputTooLarge):
            function(5000)


def test_a_sandbox_keeps_to_its_plugins_limits() -> None:
    with px.Sandbox(px.Plugin(SOURCE, limits=SMALL), limits=px.Limits(seed=3)) as sandbox:
        assert (sandbox.limits.output_bytes, sandbox.limits.seed) == (1000, 3)
        with pytest.raises(px.OutputTooLarge):
            sandbox.call("long", 5000)


def test_functions_with_different_limits_share_a_pool() -> None:
    plugin = px.Plugin(SOURCE)
    with px.Pool(1, limits=px.Limits(time_s=60)) as pool:
        seeds = [plugin.function("chance", limits=px.Limits(seed=seed)) for seed in (1, 2, 1)]
        one, two, again = (pool.submit(function, 0).result() for function in seeds)
        assert one == again != two
        assert pool.submit(plugin.function("now", limits=px.Limits(time=5.0)), 0).result() == 5000
        # A deadline that is shorter than the pool's is noticed although only longer ones were known before.
        hurried = plugin.function("spin", limits=px.Limits(time_s=0.2))
        assert isinstance(pool.submit(hurried, 0).exception(), px.JobTimeout)


def test_the_parent_kills_a_job_after_the_functions_own_deadline(tools: Tools) -> None:
    """The worker is stopped with SIGSTOP, so that only the parent can end the job."""
    with px.Pool(1, limits=px.Limits(time_s=60)) as pool:
        assert pool.submit(tools.function("double"), 1).result() == 2
        hurried = tools.plugin.function("spin", limits=px.Limits(time_s=0.2, grace_s=0.2))
        assert pool.submit(hurried, 0).result() == "quick"
        future = pool.submit(hurried, 1)
        os.kill(tools.busy_worker(pool), signal.SIGSTOP)
        error = future.exception()
        assert isinstance(error, px.JobTimeout) and "0.4 s" in str(error)


@pytest.mark.parametrize(
    "make",
    [
        lambda: px.Plugin("", limits=Tools.untyped(1)),
        lambda: px.Plugin("").function("f", limits=Tools.untyped(1)),
    ],
)
def test_limits_have_to_be_a_limits_object(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="limits must be a Limits"):
        make()
