"""Deadlines of many sandboxes at once, across threads, forks, closing and the interpreter's exit."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable

import pytest

import parallel_exec as px
from parallel_exec.sandbox._engine.watchdog import Slot, Watchdog
from tests.sandbox.inside import instance_of, slot_of

SOURCE = """
let calls = 0;
function spin(n) { if (n < 0) for (;;); let sum = 0; for (let i = 0; i < n; i++) sum += i % 3; return [++calls, sum] }
"""
PLUGIN = px.Plugin(SOURCE, name="spin.js")


def in_threads(work: Callable[[int], None], count: int) -> None:
    """Run `work` with 0 to count - 1 at the same time; raise what the first one raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(count)

    def run(index: int) -> None:
        try:
            barrier.wait()
            work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_many_sandboxes_with_different_deadlines() -> None:
    PLUGIN.image()

    def work(index: int) -> None:
        limits = px.Limits(time_s=0.02 + 0.01 * (index % 5) if index % 2 else 60.0)
        with px.Sandbox(PLUGIN, limits=limits) as sandbox:
            for _ in range(4):
                assert sandbox.call("spin", 10) == [1, 9]
                if index % 2:
                    with pytest.raises(px.JobTimeout, match=f"time_s={limits.time_s:g}"):
                        sandbox.call("spin", -1)
                else:
                    assert sandbox.call("spin", 100_000) == [1, 99_999]

    in_threads(work, 12)


def test_a_stop_reaches_only_the_job_that_is_overdue() -> None:
    # Jobs about as long as their deadline: each ends in time or with JobTimeout, and no stop hits the next one.
    with px.Sandbox(PLUGIN, limits=px.Limits(time_s=0.004)) as hasty, px.Sandbox(PLUGIN) as calm:
        started = time.perf_counter()
        calm.call("spin", 100_000)
        about = int(100_000 * 0.004 / max(time.perf_counter() - started, 1e-4))
        stopped = 0
        for turn in range(60):
            n = about * (turn % 20) // 10 + 1
            try:
                assert hasty.call("spin", n) == calm.call("spin", n)
            except px.JobTimeout:
                stopped += 1
        assert stopped < 60
        with pytest.raises(px.JobTimeout):
            hasty.call("spin", -1)


def test_a_function_called_in_several_threads() -> None:
    function = PLUGIN.function("spin")

    def work(index: int) -> None:
        for n in range(100):
            assert function(n)[0] == 1

    in_threads(work, 6)


def test_sandboxes_made_and_closed_while_others_run() -> None:
    def work(index: int) -> None:
        for _ in range(15):
            sandbox = px.Sandbox(PLUGIN, limits=px.Limits(time_s=0.01 if index % 2 else 30.0))
            try:
                sandbox.call("spin", 2000 if index % 2 == 0 else -1)
            except px.JobTimeout:
                assert index % 2
            if index % 3:
                sandbox.close()

    in_threads(work, 8)
    gc.collect()


def test_a_closed_sandbox_refuses() -> None:
    sandbox = px.Sandbox(PLUGIN)
    assert sandbox.call("spin", 1) == [1, 0]
    sandbox.close()
    sandbox.close()
    for function in ("spin", "other"):
        with pytest.raises(ValueError, match="the sandbox is closed"):
            sandbox.call(function, 1)
    with px.Sandbox(PLUGIN) as sandbox:
        pass
    with pytest.raises(ValueError, match="closed"):
        sandbox.call_bytes("spin", 1)


def test_closing_while_armed_by_an_exception() -> None:
    with pytest.raises(px.JobTimeout), px.Sandbox(PLUGIN, limits=px.Limits(time_s=0.1)) as sandbox:
        sandbox.call("spin", -1)
    assert slot_of(sandbox) not in Watchdog.shared().slots


def test_a_forgotten_sandbox_gives_its_memory_back() -> None:
    sandbox = px.Sandbox(PLUGIN, limits=px.Limits(time_s=None))
    sandbox.call("spin", 1)
    instance = instance_of(sandbox)
    assert instance is not None
    slot, store = slot_of(sandbox), weakref.ref(instance.store)
    del instance
    del sandbox
    assert store() is None
    assert slot not in Watchdog.shared().slots


def test_a_finalizer_waits_for_nobody() -> None:
    # A finalizer may run where this thread, or one that died at the interpreter's exit, holds the watchdog's lock.
    sandbox = px.Sandbox(PLUGIN)
    watchdog = Watchdog.shared()
    done = threading.Event()

    def close() -> None:
        sandbox.close()
        done.set()

    with watchdog._lock, watchdog._shared_lock:  # noqa: SLF001 - all of its locks
        threading.Thread(target=close, daemon=True).start()
        assert done.wait(60)
        assert Watchdog.shared() is watchdog


def test_slots_may_change_while_the_watchdog_looks() -> None:
    watchdog = Watchdog()
    slots: list[Slot] = []
    stopped: list[int] = []

    def stop(job: int) -> None:
        stopped.append(job)
        watchdog.unregister(slots[job])
        slots.append(watchdog.register(stop))

    for job in range(50):
        slots.append(watchdog.register(stop))
        slots[-1].job, slots[-1].due = job, 0.0
    watchdog.stop_overdue()
    assert sorted(stopped) == list(range(50))
    stopped.clear()
    watchdog.stop_overdue()
    assert stopped == []


def test_no_job_runs_without_a_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watchdog, "_shared", Watchdog())
    PLUGIN.image(limits=px.Limits(time_s=None))
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if "watchdog" in thread.name:
            raise RuntimeError("can't start new thread")
        start(thread)

    with px.Sandbox(PLUGIN, limits=px.Limits(time_s=0.05)) as sandbox:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            for _ in range(2):
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    sandbox.call("spin", -1)
        assert sandbox.call("spin", 10) == [1, 9]
        with pytest.raises(px.JobTimeout):
            sandbox.call("spin", -1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_deadlines_hold_after_a_fork() -> None:
    with px.Sandbox(PLUGIN, limits=px.Limits(time_s=0.05)) as sandbox:
        with pytest.raises(px.JobTimeout):
            sandbox.call("spin", -1)  # now the thread runs, and does not survive the fork
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for _ in range(2):
                    try:
                        sandbox.call("spin", -1)
                    except px.JobTimeout:
                        code = 0
                    if sandbox.call("spin", 10) != [1, 9]:
                        code = 2
                with px.Sandbox(PLUGIN, limits=px.Limits(time_s=0.05)) as own:
                    try:
                        own.call("spin", -1)
                    except px.JobTimeout:
                        pass
                    else:
                        code = 3
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with pytest.raises(px.JobTimeout):
            sandbox.call("spin", -1)


EXITS = {
    "open": "sandbox.call('spin', 1)",
    "timed out": """
try:
    sandbox.call('spin', -1)
except px.JobTimeout:
    pass""",
    "in a daemon thread": """
import threading
started = threading.Event()
def work():
    while True:
        try:
            other = px.Sandbox(plugin, limits=px.Limits(time_s=0.1))
            started.set()
            other.call('spin', -1)
        except px.JobTimeout:
            pass
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
started.wait()""",
    "in a cycle": "sandbox.call('spin', 1); sandbox.itself = sandbox",
    "in a thread's own": "plugin.function('spin')(1)",
}


@pytest.mark.parametrize("body", EXITS.values(), ids=EXITS)
def test_the_interpreter_exits(body: str) -> None:
    program = f"""
import parallel_exec as px
plugin = px.Plugin({SOURCE!r})
sandbox = px.Sandbox(plugin, limits=px.Limits(time_s=0.1))
{body}
print("done", flush=True)
"""
    for _ in range(4):
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")
