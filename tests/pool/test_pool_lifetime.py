"""Pools end by shutdown, when they are forgotten, by Ctrl-C, or with their process, and leave nothing behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

import parallel_exec as px
from parallel_exec.pool import Pool
from tests.pool.conftest import Tools

HEAD = """
import os, signal, sys, psutil
import parallel_exec as px
from parallel_exec.pool import Pool
plugin = px.Plugin("function spin(x) { if (x !== 0) for (;;); return 'quick' }")
spin = plugin.function("spin")
def workers():
    return [process.pid for process in psutil.Process().children(recursive=True)]
"""


def program(code: str, *, before: str = "", stdin: bool = False) -> subprocess.Popen[str]:
    """Start a Python program that has what HEAD defines."""
    return Tools.python(f"{before}{HEAD}{code}", stdin=stdin)


def test_shutdown_finishes_what_is_pending_and_refuses_more(tools: Tools) -> None:
    pool = Pool(2)
    futures = [pool.submit(tools.function("double"), number) for number in range(100)]
    pool.shutdown()
    assert all(future.done() for future in futures)
    assert [future.result() for future in futures] == list(range(0, 200, 2))
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        pool.submit(tools.function("double"), 1)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        next(pool.map(tools.function("double"), [1]))
    pool.shutdown()
    assert not tools.descendants()


def test_shutdown_without_waiting_returns_and_the_jobs_still_end(tools: Tools) -> None:
    pool = Pool(1, limits=px.Limits(time_s=0.5))
    futures = [pool.submit(tools.function("spin"), 1), pool.submit(tools.function("double"), 4)]
    pool.shutdown(wait=False)
    assert not futures[0].done()
    assert isinstance(futures[0].exception(), px.JobTimeout)
    assert futures[1].result() == 8
    tools.eventually(lambda: not tools.descendants(), "no process is left")


def test_shutdown_from_a_callback_does_not_wait_for_itself(tools: Tools) -> None:
    pool = Pool(1)
    done = threading.Event()

    def end(_future: object) -> None:
        pool.shutdown()
        done.set()

    pool.submit(tools.function("double"), 1).add_done_callback(end)
    done.wait()
    pool.shutdown()


def test_a_forgotten_pool_ends_when_its_jobs_have(tools: Tools) -> None:
    pool = Pool(2)
    futures = [pool.submit(tools.function("double"), number) for number in range(200)]
    del pool
    gc.collect()
    assert [future.result() for future in futures] == list(range(0, 400, 2))
    tools.eventually(lambda: not tools.descendants(), "no process is left")


def test_leaving_the_with_block_by_ctrl_c_waits_for_nothing(tools: Tools) -> None:
    with pytest.raises(KeyboardInterrupt), Pool(1, limits=px.Limits(time_s=None)) as pool:
        futures = [pool.submit(tools.function("spin"), 1) for _ in range(20)]
        tools.busy_worker(pool)
        raise KeyboardInterrupt
    assert isinstance(futures[0].exception(), px.WorkerCrashed)
    assert all(future.done() for future in futures) and futures[-1].cancelled()
    assert not tools.descendants()


def test_ctrl_c_in_a_map_gives_one_traceback_and_leaves_nothing(tools: Tools) -> None:
    child = program(
        """
with Pool(2, limits=px.Limits(time_s=None)) as pool:
    results = pool.map(spin, [0, 1, 1, 1])
    next(results)
    print(*workers(), flush=True)
    next(results)
"""
    )
    pids = tools.printed_pids(child)
    assert len(pids) == 3
    os.killpg(child.pid, signal.SIGINT)
    out, err = child.communicate()
    assert child.returncode == -signal.SIGINT
    assert (out, err.count("KeyboardInterrupt"), err.count("Traceback")) == ("", 1, 1), err
    tools.eventually(lambda: not tools.alive(pids), "no process is left")


def test_ctrl_c_without_a_with_block_ends_too(tools: Tools) -> None:
    child = program(
        """
pool = Pool(1, limits=px.Limits(time_s=None))
pool.submit(spin, 0).result()
futures = [pool.submit(spin, 1) for _ in range(10)]
print(*workers(), flush=True)
futures[0].result()
"""
    )
    pids = tools.printed_pids(child)
    os.killpg(child.pid, signal.SIGINT)
    _, err = child.communicate()
    assert err.count("Traceback") == 1, err
    tools.eventually(lambda: not tools.alive(pids), "no process is left")


def test_workers_end_when_their_parent_is_killed(tools: Tools) -> None:
    child = program(
        """
pool = Pool(3, limits=px.Limits(time_s=None))
pool.submit(spin, 0).result()
busy = [pool.submit(spin, 1) for _ in range(2)]
while len(workers()) < 4:
    pass
print(*workers(), flush=True)
signal.pause()
"""
    )
    pids = tools.printed_pids(child)
    assert len(pids) == 4
    child.kill()
    child.communicate()
    tools.eventually(lambda: not tools.alive(pids), "all workers, busy and idle, are gone")


def test_pending_work_is_finished_at_the_interpreters_exit(tools: Tools) -> None:
    child = program(
        """
pool = Pool(2)
for number in range(50):
    pool.submit(spin, 0).add_done_callback(lambda future: print(future.result(), flush=True))
print(*workers(), flush=True)
"""
    )
    out, err = child.communicate()
    lines = out.splitlines()
    assert (child.returncode, err) == (0, "")
    assert lines.count("quick") == 50
    pids = [int(pid) for line in lines if line != "quick" for pid in line.split()]
    assert pids and not tools.alive(pids)


def test_a_map_that_is_not_read_to_its_end_does_not_keep_the_interpreter() -> None:
    child = program(
        """
import itertools
results = Pool(2).map(spin, itertools.repeat(0))
print(next(results))
"""
    )
    assert child.communicate() == ("quick\n", "")
    assert child.returncode == 0


def test_a_program_on_standard_input_needs_no_main_guard() -> None:
    child = program("with Pool(2) as pool: print(list(pool.map(spin, [0, 0])))", stdin=True)
    assert child.communicate() == ("['quick', 'quick']\n", "")


def test_modules_in_the_working_directory_do_not_replace_the_standard_librarys(tmp_path: Path) -> None:
    (tmp_path / "struct.py").write_text("raise SystemExit('the wrong struct')")
    child = program(
        "with Pool(1) as pool: print(pool.submit(spin, 0).result())",
        before=f"import os, sys; sys.path = [p for p in sys.path if p]; os.chdir({str(tmp_path)!r})",
    )
    assert child.communicate() == ("quick\n", "")


def test_what_plugins_and_workers_write_is_not_on_stdout() -> None:
    child = program(
        """
talk = px.Plugin("function f(x) { console.log('hello'); return x }").function("f")
with Pool(1) as pool: print(pool.submit(talk, 1).result())
"""
    )
    assert child.communicate() == ("1\n", "")


def test_a_fork_of_the_program_neither_uses_nor_harms_the_pool(tools: Tools) -> None:
    child = program(
        """
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
def seen():
    try:
        pool.submit(spin, 0)
    except RuntimeError as error:
        return str(error)
pool = Pool(2)
before = pool.submit(spin, 0).result()
with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as others:
    print(others.submit(seen).result())
pid = os.fork()
if pid == 0:
    pool.shutdown()
    with Pool(1) as mine:
        result = mine.submit(spin, 0).result()
    sys.exit(0 if result == "quick" else 1)
print(os.waitpid(pid, 0)[1], before, pool.submit(spin, 0).result())
pids = workers()
copy = os.fork()   # outlives its parent, with copies of all its descriptors
if copy == 0:
    signal.pause()
print(copy, *pids, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(3)]
    assert "belongs to process" in lines[0]
    assert lines[1] == "0 quick quick\n"
    copy, *pids = map(int, lines[2].split())
    assert child.wait() == -signal.SIGKILL
    try:
        tools.eventually(lambda: not tools.alive(pids), "the workers end, though a copy of their parent lives")
        assert tools.alive([copy])
    finally:
        os.kill(copy, signal.SIGKILL)
    child.communicate()


def test_many_threads_share_a_pool(pool: Pool, tools: Tools) -> None:
    sums = tools.in_threads(6, lambda: sum(pool.map(tools.function("double"), range(200))))
    assert sums == [sum(range(0, 400, 2))] * 6


def test_a_pool_works_without_a_compiled_engine_in_the_cache(tmp_path: Path) -> None:
    child = program(
        "with Pool(2) as pool: print(list(pool.map(spin, [0] * 4)))",
        before=f"import os; os.environ['XDG_CACHE_HOME'] = {str(tmp_path)!r}",
    )
    assert child.communicate() == ("['quick', 'quick', 'quick', 'quick']\n", "")
