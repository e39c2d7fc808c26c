"""What the pool's tests share: plugins, conditions to wait for, and what processes and threads a pool has."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import psutil
import pytest

import parallel_exec as px
from parallel_exec.pool import Pool
from parallel_exec.pool._scheduling.core import Core
from parallel_exec.pool._scheduling.processes import Worker

T = TypeVar("T")
BackendName = Literal["process", "thread"]
BACKENDS = pytest.mark.parametrize("backend", ["process", "thread"])

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


class Footprint(NamedTuple):
    """What this process holds for its pools."""

    descriptors: int
    processes: int
    threads: int
    mappings: int


class Tools:
    """Helpers, handed out by the fixture `tools`."""

    plugin = px.Plugin(SOURCE, name="tools.js")

    def function(self, name: str) -> px.PluginFunction:
        """One of SOURCE's functions."""
        return self.plugin.function(name)

    @staticmethod
    def untyped(value: object) -> Any:
        """The value without its type, for arguments that the type checker would refuse as the code under test does."""
        return value

    @staticmethod
    def close(results: Iterator[object]) -> None:
        """End a map early."""
        assert isinstance(results, Generator)
        results.close()

    @staticmethod
    def eventually(condition: Callable[[], T], what: str) -> T:
        """Wait until the condition is true and return its value. A test that has failed ends here after two minutes,
        saying what it has waited for.
        """
        deadline = time.monotonic() + 120
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"still not so: {what}")
            time.sleep(0.002)
        return value

    @staticmethod
    def in_threads(count: int, action: Callable[[], T]) -> list[T]:
        """Run the action in so many threads at the same time, and return what it returned in each."""
        with ThreadPoolExecutor(count) as threads:
            started = [threads.submit(action) for _ in range(count)]
        return [each.result() for each in started]

    @staticmethod
    def idle(pool: Pool) -> bool:
        """Whether no job waits or runs."""
        stats = pool.stats()
        return not (stats.waiting or stats.in_flight)

    def pids(self, pool: Pool) -> list[int]:
        """The process ids of the pool's workers, once all have one: a result may be there before the zygote's word that
        it has forked the worker.
        """
        found: list[int | None] = []

        def all_known() -> bool:
            found[:] = [worker.pid for worker in pool.stats().workers]
            return None not in found

        self.eventually(all_known, "all workers have been forked")
        return [pid for pid in found if pid is not None]

    def busy(self, pool: Pool) -> list[int]:
        """The process ids of the workers that run a job."""
        return [worker.pid for worker, runs in self._workers(pool) if runs and worker.pid is not None]

    def busy_worker(self, pool: Pool) -> int:
        """Wait until a worker runs a job, and return its process id."""
        return self.eventually(lambda: self.busy(pool), "a worker runs a job")[0]

    def corrupt(self, pool: Pool, ring: Literal["requests", "results"]) -> None:
        """Overwrite a counter in the memory that the pool's one worker shares with this process; wake the worker."""
        ((worker, _),) = self._workers(pool)
        rings = {"requests": worker.block.requests, "results": worker.block.results}
        rings[ring]._words[0] += 64  # noqa: SLF001 - only a fault writes there
        worker.wake()

    @staticmethod
    def _workers(pool: Pool) -> list[tuple[Worker, bool]]:
        """A pool's worker processes, and whether each runs a job: this is the only place in which tests look at what is
        private to a pool. Nothing public tells which worker runs a job, and tests have to kill that one.
        """
        core = pool._core  # noqa: SLF001 - see above
        assert isinstance(core, Core)
        with core._lock:  # noqa: SLF001 - see above
            job, workers = core._scheduler.job, core._workers  # noqa: SLF001 - see above
            return [(each, job(each.id, each.block.running) is not None) for each in workers.values()]

    @staticmethod
    def descendants(pid: int | None = None) -> list[int]:
        """Process ids of all descendants of a process, by default of this one, except for the resource tracker, which
        multiprocessing leaves in every process that has used it, as other tests do.
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

    def zygote(self, pool: Pool) -> psutil.Process:
        """The process that forks the pool's workers."""
        zygote = psutil.Process(self.pids(pool)[0]).parent()
        assert zygote is not None
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
    def private_bytes(pid: int) -> int:
        """Bytes of memory that a process has to itself."""
        memory = psutil.Process(pid).memory_info()
        return memory.rss - memory.shared

    @staticmethod
    def mappings(pid: int | None = None) -> list[int]:
        """The bytes of each mapping of a pool's shared memory in a process, by default in this one."""
        with open(f"/proc/{pid or 'self'}/maps", encoding="utf-8") as maps:
            lines = [line for line in maps if "memfd:parallel_exec" in line]
        return [int(end, 16) - int(start, 16) for start, end in (line.split()[0].split("-") for line in lines)]

    def footprint(self) -> Footprint:
        """What this process holds for its pools, and for anything else."""
        descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
        return Footprint(descriptors, len(self.descendants()), threading.active_count(), len(self.mappings()))

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

    @staticmethod
    def printed_pids(program: subprocess.Popen[str]) -> list[int]:
        """The process ids on the next line that the program prints."""
        assert program.stdout is not None
        return [int(pid) for pid in program.stdout.readline().split()]


@pytest.fixture(scope="session")
def tools() -> Tools:
    return Tools()


@pytest.fixture(params=["process", "thread"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(2, backend=request.param) as pool:
        yield pool
