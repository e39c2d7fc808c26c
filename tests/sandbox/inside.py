"""What tests look at inside a sandbox, where its users cannot."""

from __future__ import annotations

import math

import parallel_exec as px
from parallel_exec.sandbox._engine.memory import LinearMemory
from parallel_exec.sandbox._engine.watchdog import Slot, Watchdog
from parallel_exec.sandbox._js.instance import JavaScriptInstance
from parallel_exec.sandbox._js.runner import JavaScriptRunner
from parallel_exec.sandbox._runner import Runner

# ruff: noqa: SLF001 - this is what the module is for


def runner_of(sandbox: px.Sandbox) -> Runner[LinearMemory]:
    return sandbox._runner


def javascript_runner_of(sandbox: px.Sandbox) -> JavaScriptRunner:
    runner = sandbox._runner
    assert isinstance(runner, JavaScriptRunner)
    return runner


def instance_of(sandbox: px.Sandbox) -> JavaScriptInstance | None:
    """Return the instance that the next job would use, or None if it would make a new one."""
    return javascript_runner_of(sandbox)._instance


def slot_of(sandbox: px.Sandbox) -> Slot:
    """Return the sandbox's place in the watchdog."""
    return sandbox._runner._deadline._slot


def have_next_job_wake_watchdog() -> None:
    """Let the watchdog seem to sleep until there is a job with a deadline, although it may wake before."""
    Watchdog.shared()._wake = math.inf
