#!/usr/bin/env python3
"""Compare the pool with other pools that do the same work, each job in a fresh sandbox of ours, and with other engines.

    python bench/pool/compare.py                     all parts
    python bench/pool/compare.py throughput tiny     these parts
    python bench/pool/compare.py --json out.json     the figures, too

Peers that are not installed are named. Everybody is measured in turn, round by round in another order; what counts are
the ratios of the medians within one run. Answers are compared.

    throughput  distinct documents of 120 KB, 2 workers, no chunking by the caller for ours, the best for the others
    tiny        documents of 100 bytes
    latency     submit and result of one tiny job
    uneven      one job of 300 ms among a hundred of 3 ms
    start       first result of a new pool
    memory      of an idle worker, and of this process over an endless generator
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # workers of the peers import `work` from here
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))

import psutil  # type: ignore[import-untyped]
import work

import parallel_exec as px
from parallel_exec.bench.fixture import plugin_path
from parallel_exec.bench.machine import describe_machine, describe_versions

WORKERS = 2
ROUNDS = 7
CHUNKS = (1, 4, 16)
TRACK = px.Plugin.from_file(plugin_path()).function("calculate", output="bytes")
IDENTITY = px.Plugin("function identity(d) { return d }", name="identity.js").function("identity", output="bytes")
# The clock stands still in a job, so it counts.
SPIN = px.Plugin("function spin(n) { let x = 0; for (let i = 0; i < n; i++) x = (x + i) % 7; return x }").function(
    "spin"
)

Results = dict[str, dict[str, float]]
Runner = Callable[[], Any]


def in_turns(runners: dict[str, Runner], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median of each runner's seconds."""
    samples: dict[str, list[float]] = {name: [] for name in runners}
    for run in runners.values():
        run()
    order = list(runners)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            start = time.perf_counter()
            runners[name]()
            samples[name].append(time.perf_counter() - start)
    return {name: median(taken) for name, taken in samples.items()}


def checked(run: Callable[[], Iterator[bytes]], expected: list[float]) -> Runner:
    """The runner, with its answers compared to 1e-5."""

    def run_and_compare() -> None:
        got = [float(answer) for answer in run()]
        if len(got) != len(expected) or any(abs(a - b) > 1e-5 * abs(b) for a, b in zip(got, expected, strict=True)):
            raise RuntimeError("the answers differ")

    return run_and_compare


def missing(*modules: str) -> set[str]:
    """Those that cannot be imported, after naming them."""
    absent = set()
    for module in modules:
        try:
            __import__(module)
        except ImportError:
            print(f"  {module} is not installed: left out", file=sys.stderr)
            absent.add(module)
    return absent


def throughput() -> dict[str, float]:
    """Jobs per second over distinct documents."""
    documents = work.track_documents(160)
    expected = [float(work.in_python(document)) for document in documents]
    absent = missing("loky", "joblib", "py_mini_racer")
    runners: dict[str, Runner] = {}
    with ExitStack() as stack:
        pool = stack.enter_context(px.Pool(WORKERS))
        runners["ours: map"] = checked(lambda: pool.map(TRACK, documents), expected)
        halves = [documents[:80], documents[80:]]
        bare = stack.enter_context(ProcessPoolExecutor(WORKERS, multiprocessing.get_context("forkserver")))
        bare_processes = [Bare(half) for half in halves]
        for process in bare_processes:
            stack.callback(process.close)
        runners["bare processes"] = lambda: run_bare(bare_processes)
        spawned = stack.enter_context(multiprocessing.get_context("forkserver").Pool(WORKERS))
        for chunk in CHUNKS:

            def by_executor(function: Any, chunk: int = chunk) -> Iterator[bytes]:
                return bare.map(function, documents, chunksize=chunk)

            runners[f"ProcessPoolExecutor, sandbox, chunks of {chunk}"] = checked(
                lambda run=by_executor: run(work.in_sandbox), expected
            )
            runners[f"ProcessPoolExecutor, Python, chunks of {chunk}"] = checked(
                lambda run=by_executor: run(work.in_python), expected
            )
            if "py_mini_racer" not in absent:
                runners[f"ProcessPoolExecutor, mini-racer, chunks of {chunk}"] = checked(
                    lambda run=by_executor: run(work.in_mini_racer), expected
                )
            runners[f"multiprocessing.Pool, sandbox, chunks of {chunk}"] = checked(
                lambda chunk=chunk: spawned.imap(work.in_sandbox, documents, chunksize=chunk), expected
            )
        if "loky" not in absent:
            import loky

            executor = stack.enter_context(loky.ProcessPoolExecutor(WORKERS))
            for chunk in CHUNKS:
                runners[f"loky, sandbox, chunks of {chunk}"] = checked(
                    lambda chunk=chunk: executor.map(work.in_sandbox, documents, chunksize=chunk), expected
                )
        if "joblib" not in absent:
            import joblib

            parallel = stack.enter_context(joblib.Parallel(WORKERS, batch_size="auto"))
            runners["joblib, sandbox, automatic batches"] = checked(
                lambda: parallel(joblib.delayed(work.in_sandbox)(document) for document in documents), expected
            )
        seconds = in_turns(runners)
    return {name: len(documents) / taken for name, taken in seconds.items()}


class Bare:
    """A process that loops over its documents in its own sandbox, told when to begin."""

    def __init__(self, documents: list[bytes]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--bare"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._in.write(f"{len(documents)}\n".encode())
        for document in documents:
            self._in.write(f"{len(document)}\n".encode() + document)
        self._in.flush()
        self._out.readline()

    def begin(self) -> None:
        self._in.write(b"go\n")
        self._in.flush()

    def end(self) -> None:
        self._out.readline()

    def close(self) -> None:
        self._in.close()
        self._process.wait()


def run_bare(processes: list[Bare]) -> None:
    for process in processes:
        process.begin()
    for process in processes:
        process.end()


def be_bare() -> None:
    """What a `Bare` runs."""
    source, sink = sys.stdin.buffer, sys.stdout
    documents = [source.read(int(source.readline())) for _ in range(int(source.readline()))]
    sandbox = px.Sandbox(TRACK.plugin)
    print("ready", file=sink, flush=True)
    while source.readline():
        for document in documents:
            sandbox.call_bytes("calculate", document)
        print("done", file=sink, flush=True)


def tiny() -> dict[str, float]:
    """Jobs per second of 100-byte documents."""
    count = 6000
    with px.Pool(WORKERS) as pool, ProcessPoolExecutor(WORKERS, multiprocessing.get_context("forkserver")) as executor:

        def ours() -> None:
            if sum(len(result) for result in pool.map(IDENTITY, (work.TINY for _ in range(count)))) == 0:
                raise RuntimeError("no results")

        def submitted() -> None:
            for future in [executor.submit(work.nothing, None) for _ in range(count)]:
                future.result()

        seconds = in_turns(
            {
                "ours: map, a reset sandbox each": ours,
                "ProcessPoolExecutor.submit of nothing": submitted,
                "ProcessPoolExecutor.map of nothing, chunks of 64": lambda: list(
                    executor.map(work.nothing, range(count), chunksize=64)
                ),
            }
        )
    return {name: count / taken for name, taken in seconds.items()}


def latency() -> dict[str, float]:
    """Microseconds of a submit and its result, one at a time."""
    count = 300
    with px.Pool(WORKERS) as pool, ProcessPoolExecutor(WORKERS, multiprocessing.get_context("forkserver")) as executor:

        def each(run: Runner) -> Runner:
            return lambda: [run() for _ in range(count)]

        seconds = in_turns(
            {
                "ours: submit and result": each(lambda: pool.submit(IDENTITY, work.TINY).result()),
                "ProcessPoolExecutor: of nothing": each(lambda: executor.submit(work.nothing, None).result()),
            }
        )
    return {name: taken / count * 1e6 for name, taken in seconds.items()}


def uneven() -> dict[str, float]:
    """Milliseconds for one job of about 300 ms among a hundred of about 3 ms; the ideal is the sum over the workers."""
    with px.Pool(WORKERS) as pool, px.Sandbox(SPIN.plugin) as sandbox:
        probe = 100_000
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            sandbox.call("spin", probe)
            taken.append(time.perf_counter() - start)
        steps = round(probe * 0.003 / median(taken))
        documents = [steps] * 100
        documents.insert(20, steps * 100)
        seconds = in_turns(
            {
                "ours: map": lambda: list(pool.map(SPIN, documents)),
                "ours: map, unordered": lambda: list(pool.map(SPIN, documents, ordered=False)),
                "200 of 3 ms: map": lambda: list(pool.map(SPIN, [steps] * 200)),
            }
        )
    return {name: taken * 1e3 for name, taken in seconds.items()}


def start() -> dict[str, float]:
    """Milliseconds from nothing to a new pool's first result."""
    context = multiprocessing.get_context("forkserver")
    document = work.track_documents(1)[0]

    def ours() -> None:
        with px.Pool(WORKERS) as pool:
            pool.submit(TRACK, document).result()

    def forkserver() -> None:
        with context.Pool(WORKERS) as pool:
            pool.apply(work.in_sandbox, (document,))

    def executor() -> None:
        with ProcessPoolExecutor(WORKERS, context) as pool:
            pool.submit(work.in_sandbox, document).result()

    seconds = in_turns(
        {"ours": ours, "multiprocessing.Pool, forkserver": forkserver, "ProcessPoolExecutor, forkserver": executor}
    )
    return {name: taken * 1e3 for name, taken in seconds.items()}


def memory() -> dict[str, float]:
    """MiB: of an idle worker and a bare process (PSS), and what an endless generator adds to this process (RSS)."""
    document = work.track_documents(1)[0]
    bare = subprocess.Popen(
        [sys.executable, "-c", "import wasmtime, orjson, sys; print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert bare.stdin is not None and bare.stdout is not None
    bare.stdout.readline()
    with px.Pool(WORKERS) as pool:
        list(pool.map(TRACK, [document] * 20))
        workers = [p for p in psutil.Process().children(recursive=True) if p.ppid() != os.getpid()]
        idle = median(process.memory_full_info().pss for process in workers)
        before = psutil.Process().memory_info().rss
        most = 0
        for number, _ in enumerate(pool.map(TRACK, (bytes(bytearray(document)) for _ in iter(int, 1)))):
            if number % 50 == 0:
                most = max(most, psutil.Process().memory_info().rss - before)
            if number == 3000:
                break
    found = {
        "idle worker": idle / 2**20,
        "bare process with wasmtime and orjson": psutil.Process(bare.pid).memory_full_info().pss / 2**20,
        "added by an endless generator": most / 2**20,
    }
    bare.stdin.close()
    bare.wait()
    return found


PARTS: dict[str, tuple[Callable[[], dict[str, float]], str]] = {
    "throughput": (throughput, "jobs/s"),
    "tiny": (tiny, "jobs/s"),
    "latency": (latency, "us"),
    "uneven": (uneven, "ms"),
    "start": (start, "ms"),
    "memory": (memory, "MiB"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the pool with its peers.")
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--json", metavar="FILE", help="write the figures here, too")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {min(unknown)!r}; there are {', '.join(PARTS)}")
    results: Results = {}
    print(describe_machine(), describe_versions(), sep="; ")
    for name in arguments.parts or PARTS:
        measure, unit = PARTS[name]
        results[name] = found = measure()
        reference = next(iter(found.values()))
        print(f"\n{name}, {unit}")
        for what, figure in found.items():
            ratio = f"{reference / figure:8.2f} x in ours" if figure else ""
            print(f"  {what:50} {figure:12,.1f} {ratio}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    be_bare() if "--bare" in sys.argv else main()
