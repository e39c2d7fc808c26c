"""What the pool's tests share: plugins, waiting on conditions, and a look at processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

import parallel_exec as px
from parallel_exec.pool import Pool

SOURCE = """
const seen = [];
function double(x) { return 2 * x }
function echo(x) { return x }
function keep(x) { seen.push(x); globalThis.last = x; Array.prototype.all = seen; return seen.length }
function fail(x) { throw new TypeError(`no ${x}`) }
function failOn3(x) { if (x === 3) throw new RangeError('three'); return x }
function spin(x) { if (x !== 0) for (;;); return 'quick' }
function slow(x) { let sum = 0; for (let i = 0; i < 200000; i++) sum += i % 7; return x }
function talk(x) { console.log('log', x); console.error('error', x); return null }
function long(n) { return 'x'.repeat(n) }
function eat() { const all = []; for (;;) all.push(new Array(1000).fill(1)) }
"""


class Tools:
    """Helpers, handed out by the fixture `tools`."""

    plugin = px.Plugin(SOURCE, name="tools.js")

    def function(self, name: str) -> px.PluginFunction:
        """One of SOURCE's functions."""
        return self.plugin.function(name)

    @staticmethod
    def eventually(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
        """Wait until the condition holds; the deadline is there only to end a test that has failed."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"still not after {seconds:g} s: {what}")
            time.sleep(0.002)

    @staticmethod
    def running(pool: Pool) -> dict[int, int]:
        """The job that each worker process has begun and not ended, 0 for none, by process id."""
        core = pool._core
        with core._lock:
            return {
                worker.pid: worker.block.running if core._scheduler.job(worker.id, worker.block.running) else 0
                for worker in core._workers.values()
                if worker.pid is not None
            }

    def busy_worker(self, pool: Pool) -> int:
        """Wait until a worker runs a job, and return its process id."""
        self.eventually(lambda: any(self.running(pool).values()), "a worker runs a job")
        return next(pid for pid, job in self.running(pool).items() if job)

    @staticmethod
    def descendants(pid: int | None = None) -> list[int]:
        """Process ids of all descendants of a process, by default of this one, but for the one that multiprocessing
        leaves in every process that has used it, as other tests do.
        """
        found = []
        for process in psutil.Process(pid).children(recursive=True):
            try:
                tracks = any("multiprocessing.resource_tracker" in argument for argument in process.cmdline())
                if process.status() != psutil.STATUS_ZOMBIE and not tracks:
                    found.append(process.pid)
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found

    def zygote(self) -> psutil.Process:
        """The zygote of the one pool that is open."""
        own = psutil.Process().pid
        (zygote,) = [process for process in map(psutil.Process, self.descendants()) if process.ppid() == own]
        return zygote

    @staticmethod
    def alive(pids: list[int]) -> list[int]:
        """Those of the processes that have not ended."""
        left = []
        for pid in pids:
            try:
                if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    left.append(pid)
            except psutil.NoSuchProcess:
                continue
        return left

    @staticmethod
    def python(code: str, *, stdin: bool = False) -> subprocess.Popen[str]:
        """Start a Python program that can import this package: `code`, given as an argument or on standard input."""
        root = str(Path(px.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(
            [sys.executable, "-" if stdin else "-c", *([] if stdin else [code])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        assert process.stdin is not None
        if stdin:
            process.stdin.write(code)
            process.stdin.close()
            process.stdin = None
        return process


@pytest.fixture(scope="session")
def tools() -> Tools:
    return Tools()


@pytest.fixture(params=["process", "thread"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(2, backend=request.param) as pool:
        yield pool
