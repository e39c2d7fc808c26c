"""Ctrl-C at random moments of a call leaves a clean sandbox, and deadlines that hold."""

from __future__ import annotations

import signal

import pytest

import parallel_exec as px
from tests.interrupts import CtrlC
from tests.sandbox.inside import have_next_job_wake_watchdog

PLUGIN = px.Plugin("globalThis.seen = 0; const count = d => ++seen", name="count.js")
WITH_HOST = px.Plugin("globalThis.seen = 0; const count = d => twice(++seen)", host={"twice": lambda n: 2 * n})


def test_a_call_that_is_interrupted_leaves_a_clean_sandbox() -> None:
    ctrl_c = CtrlC(0.0002)
    with px.Sandbox(PLUGIN) as sandbox, px.Sandbox(WITH_HOST) as calling:
        for _ in range(2000):
            ctrl_c.during(lambda: sandbox.call("count", 1))
            assert sandbox.call("count", 1) == 1
            ctrl_c.during(lambda: calling.call("count", 1))
            assert calling.call("count", 1) == 2
    assert ctrl_c.interrupted > 100


def test_deadlines_hold_after_interrupted_calls() -> None:
    ctrl_c = CtrlC(0.0001)
    plugin = px.Plugin("const count = d => d; const spin = () => { for (;;); }")
    with px.Sandbox(plugin, limits=px.Limits(time_s=0.05)) as sandbox:

        def call() -> None:
            have_next_job_wake_watchdog()
            sandbox.call("count", 1)

        for _ in range(10):
            for _ in range(200):
                ctrl_c.during(call)
                sandbox.call("count", 1)  # in a new instance, after an interruption
            with pytest.raises(px.JobTimeout):
                sandbox.call("spin", 1)
    assert ctrl_c.interrupted > 100


def test_a_host_function_may_use_a_pool_whatever_interrupts_it() -> None:
    """Its steps end in the middle of the call's, which must stay protected: an exception there is a crash."""
    double = px.Plugin("const double = x => 2 * x").function("double")
    with px.Pool(1, backend="thread") as pool:
        plugin = px.Plugin(
            "const run = n => ask(n) + ask(n + 1)", host={"ask": lambda n: pool.submit(double, n).result()}
        )
        ctrl_c = CtrlC(0.002)
        with px.Sandbox(plugin) as sandbox:
            for number in range(500):
                ctrl_c.during(lambda number=number: sandbox.call("run", number))  # type: ignore[misc]
                assert sandbox.call("run", 1) == 6
        assert ctrl_c.interrupted > 50
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
