"""Ctrl-C at random moments of a call leaves a clean sandbox."""

from __future__ import annotations

import parallel_exec as px
from tests.interrupts import CtrlC

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
