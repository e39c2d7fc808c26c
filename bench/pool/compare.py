#!/usr/bin/env python3
"""Compare the pool with other pools that do the same work, each job in a fresh sandbox of ours, and with other engines.

    python bench/pool/compare.py                     all parts
    python bench/pool/compare.py throughput tiny     these parts
    python bench/pool/compare.py tiny --load idle busy crowded
                                                     with nothing else to do, both CPUs busy, eight busy processes
    python bench/pool/compare.py --json out.json     write the figures as well
    python bench/pool/compare.py --page docs/benchmarks/pool.md

Peers that are not installed are named. All contestants are measured in rounds, each in another order; what counts are
the ratios of the medians within one run. Answers are compared.

    throughput  distinct documents of 120 KB, 2 workers, no chunking by the caller for ours, the best for the others
    overhead    CPU time of the same jobs: in a bare process, in the pool's workers, in its parent; and of the one thing
                that a parent cannot leave out, copying the document into shared memory
    tiny        documents of 100 bytes
    latency     submit and result of one tiny job, the median of all
    uneven      one job of 300 ms among a hundred of 3 ms, and the ideal: two bare processes, each of which takes the
                next document when it has done one
    start       first result of a program's first pool, from when it has imported what it needs, and of a later pool
    memory      of an idle worker, and of this process over an endless generator
    interrupt   from Ctrl-C to the KeyboardInterrupt, or to the end of the `with` block: the longest of 30
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import mmap
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))  # workers of the peers import `work` from here
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))

import psutil
import work
from pages import Section, write_page

import parallel_exec as px
from parallel_exec.measure.fixture import plugin_path
from parallel_exec.measure.machine import describe_machine, describe_versions

WORKERS = 2
ROUNDS = 15
CHUNKS = (1, 4, 16, 50)
DOCUMENTS = 400  # 50 MB: more than caches hold, and long enough that a map's beginning and end weigh little
TRACK = px.Plugin.from_file(plugin_path()).function("calculate", output="bytes")
IDENTITY = px.Plugin("function identity(d) { return d }", name="identity.js").function("identity", output="bytes")
# The clock stands still in a job, so it counts.
SPIN = px.Plugin("function spin(n) { let x = 0; for (let i = 0; i < n; i++) x = (x + i) % 7; return x }").function(
    "spin", output="bytes"
)
BARE = {"calculate": TRACK, "spin": SPIN}

Results = dict[str, dict[str, float]]
Runner = Callable[[], Any]


def timed(run: Runner) -> list[float]:
    """The seconds that it takes."""
    start = time.perf_counter()
    run()
    return [time.perf_counter() - start]


def in_turns(
    runners: dict[str, Runner], rounds: int = ROUNDS, sample: Callable[[Runner], list[float]] = timed
) -> dict[str, float]:
    """Return the median of each runner's samples, by default its seconds."""
    samples: dict[str, list[float]] = {name: [] for name in runners}
    for run in runners.values():
        run()
    order = list(runners)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            samples[name] += sample(runners[name])
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
    documents = work.track_documents(DOCUMENTS)
    expected = [float(work.in_python(document)) for document in documents]
    absent = missing("loky", "joblib", "py_mini_racer")
    runners: dict[str, Runner] = {}
    with ExitStack() as stack:
        pool = stack.enter_context(px.Pool(WORKERS))
        runners["ours: map"] = checked(lambda: pool.map(TRACK, documents), expected)
        bare = stack.enter_context(ProcessPoolExecutor(WORKERS, multiprocessing.get_context("forkserver")))
        halves = [stack.enter_context(Bare("calculate", half)) for half in (documents[::2], documents[1::2])]
        runners["bare processes"] = checked(lambda: run_bare(halves), expected[::2] + expected[1::2])
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
        seconds = in_turns(runners, rounds=9)
    return {name: len(documents) / taken for name, taken in seconds.items()}


class Bare:
    """A process that loops over its documents in its own sandbox, told when to begin."""

    def __init__(self, function: str, documents: list[bytes]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--bare", function], stdin=subprocess.PIPE, stdout=subprocess.PIPE
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

    def end(self) -> list[bytes]:
        return self._out.readline().split()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._in.close()
        self._process.wait()


def run_bare(processes: list[Bare]) -> Iterator[bytes]:
    for process in processes:
        process.begin()
    return itertools.chain(*[process.end() for process in processes])


def be_bare(function: str) -> None:
    """What a `Bare` runs. Its answers are numbers."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    documents = [source.read(int(source.readline())) for _ in range(int(source.readline()))]
    sandbox = px.Sandbox(BARE[function].plugin)
    answers: list[bytes] = []
    while True:
        sink.write(b" ".join(answers) + b"\n")
        sink.flush()
        if not source.readline():
            break
        answers = [sandbox.call_bytes(function, document) for document in documents]


def overhead() -> dict[str, float]:
    """Microseconds of CPU a job, over distinct documents; where workers and parent share CPUs, their sum counts."""
    documents = work.track_documents(DOCUMENTS)
    used: dict[str, float] = dict.fromkeys(
        ("bare process", "ours: worker", "ours: parent", "copy of the document"), 0.0
    )
    memory = memoryview(mmap.mmap(-1, 1 << 21))

    def copied() -> None:
        at = 0
        for document in documents:
            at = 0 if at + len(document) > len(memory) else at
            memory[at : at + len(document)] = document
            at += len(document)

    with px.Sandbox(TRACK.plugin) as sandbox, px.Pool(WORKERS) as pool:
        own, workers = time.process_time, lambda: sum(sum(process.cpu_times()[:2]) for process in worker_processes())

        def measure(run: Runner, *clocks: tuple[str, Callable[[], float]]) -> None:
            before = [clock() for _, clock in clocks]
            run()
            for (name, clock), begin in zip(clocks, before, strict=True):
                used[name] += clock() - begin

        for number in range(ROUNDS + 1):
            if number == 1:
                used = dict.fromkeys(used, 0.0)  # the first one was to warm up
            measure(lambda: [sandbox.call_bytes("calculate", each) for each in documents], ("bare process", own))
            measure(lambda: list(pool.map(TRACK, documents)), ("ours: worker", workers), ("ours: parent", own))
            measure(copied, ("copy of the document", own))
    return {name: seconds / ROUNDS / DOCUMENTS * 1e6 for name, seconds in used.items()}


def worker_processes() -> list[psutil.Process]:
    """The pool's, which its zygote has forked."""
    return [process for process in psutil.Process().children(recursive=True) if process.ppid() != os.getpid()]


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

    def each(run: Runner) -> list[float]:
        return [seconds for _ in range(300) for seconds in timed(run)]

    with px.Pool(WORKERS) as pool, ProcessPoolExecutor(WORKERS, multiprocessing.get_context("forkserver")) as executor:
        seconds = in_turns(
            {
                "ours: submit and result": lambda: pool.submit(IDENTITY, work.TINY).result(),
                "ProcessPoolExecutor: of nothing": lambda: executor.submit(work.nothing, None).result(),
            },
            sample=each,
        )
    return {name: taken * 1e6 for name, taken in seconds.items()}


def uneven() -> dict[str, float]:
    """Milliseconds for one job of about 300 ms among a hundred of about 3 ms."""
    with px.Sandbox(SPIN.plugin) as sandbox:
        probe = 100_000
        steps = round(probe * 0.003 / median(timed(lambda: sandbox.call("spin", probe))[0] for _ in range(9)))
    short, long = [str(steps).encode()] * 100, [str(100 * steps).encode()]
    runners: dict[str, Runner] = {}
    with ExitStack() as stack:
        pool = stack.enter_context(px.Pool(WORKERS))
        for where, before in (("the first", 0), ("the 21st", 20)):
            documents = short[:before] + long + short[before:]
            each = before // 2  # done by either process before the long one is begun
            shares = (short[:each] + long, short[each:])
            bare = [stack.enter_context(Bare("spin", share)) for share in shares]
            runners[f"ours: map, it is {where}"] = lambda documents=documents: list(pool.map(SPIN, documents))
            runners[f"ours: map, unordered, it is {where}"] = lambda documents=documents: list(
                pool.map(SPIN, documents, ordered=False)
            )
            runners[f"ideal, it is {where}"] = lambda bare=bare: run_bare(bare)
        seconds = in_turns(runners, rounds=9)
    return {name: taken * 1e3 for name, taken in seconds.items()}


def interrupt() -> dict[str, float]:
    """Milliseconds from Ctrl-C until whatever waited for jobs that never end has raised KeyboardInterrupt."""
    endless = px.Plugin("function f() { for (;;); }").function("f")

    def submit_for_ever(pool: px.Pool) -> None:
        while True:
            pool.submit(IDENTITY, work.TINY)

    def leave(pool: px.Pool) -> None:
        with pool:
            pool.submit(endless, 0)

    actions: dict[str, Callable[[px.Pool], object]] = {
        "a map": lambda pool: list(pool.map(endless, range(4))),
        "a wait for a result": lambda pool: pool.submit(endless, 0).result(),
        "submit": submit_for_ever,
        "acall": lambda pool: asyncio.run(pool.acall(endless, 0)),
        "the end of a with block, all processes gone": leave,
    }
    longest: dict[str, float] = {}
    for name, action in actions.items():
        taken = []
        for _ in range(30):
            pool = px.Pool(WORKERS)
            pool.warm_up(IDENTITY)
            taken.append(seconds_to_end(action, pool))
            pool.__exit__(KeyboardInterrupt, None, None)
        longest[name] = max(taken) * 1e3
    return longest


def seconds_to_end(action: Callable[[px.Pool], object], pool: px.Pool) -> float:
    pressed = [0.0]

    def press() -> None:
        time.sleep(random.uniform(0.02, 0.05))
        pressed[0] = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        action(pool)
    except KeyboardInterrupt:
        return time.perf_counter() - pressed[0]
    finally:
        thread.join()
    raise RuntimeError("it ended by itself")


def first_result(pool: str) -> list[float]:
    """Seconds from nothing to a new pool's first result; closing it is not counted."""
    context = multiprocessing.get_context("forkserver")
    document = work.track_documents(1)[0]
    begin = time.perf_counter()
    if pool == "ours":
        with px.Pool(WORKERS) as ours:
            ours.submit(TRACK, document).result()
            taken = time.perf_counter() - begin
    elif pool == "multiprocessing.Pool":
        with context.Pool(WORKERS) as peer:
            peer.apply(work.in_sandbox, (document,))
            taken = time.perf_counter() - begin
    else:
        with ProcessPoolExecutor(WORKERS, context) as executor:
            executor.submit(work.in_sandbox, document).result()
            taken = time.perf_counter() - begin
    return [taken]


def start() -> dict[str, float]:
    """Milliseconds from nothing to a new pool's first result. A program's first pool of multiprocessing's starts the
    fork server, later ones have it; ours has one of its own each time.
    """
    pools = ("ours", "multiprocessing.Pool", "ProcessPoolExecutor")

    def in_new_program(run: Runner) -> list[float]:
        return [
            float(
                subprocess.run([sys.executable, __file__, "--first", run()], stdout=subprocess.PIPE, check=True).stdout
            )
        ]

    first = in_turns({pool: lambda pool=pool: pool for pool in pools}, rounds=7, sample=in_new_program)
    later = in_turns({pool: lambda pool=pool: first_result(pool) for pool in pools}, sample=lambda run: run())
    found = {f"{pool}, a program's first": taken * 1e3 for pool, taken in first.items()}
    return found | {f"{pool}, a later one": taken * 1e3 for pool, taken in later.items()}


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
        idle = median(process.memory_full_info().pss for process in worker_processes())
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
    "overhead": (overhead, "us of CPU a job"),
    "tiny": (tiny, "jobs/s"),
    "latency": (latency, "us"),
    "uneven": (uneven, "ms"),
    "start": (start, "ms"),
    "memory": (memory, "MiB"),
    "interrupt": (interrupt, "ms"),
}
LOADS = {"idle": 0, "busy": len(os.sched_getaffinity(0)), "crowded": 8}


@contextmanager
def load(processes: int) -> Iterator[None]:
    """Let so many processes compute meanwhile."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def section(part: str, name: str, found: dict[str, float]) -> Section:
    """One part's figures, for the page."""
    reference = next(iter(found.values()))
    rows = [(what, f"{figure:,.1f}", f"{reference / figure:.2f}" if figure else "") for what, figure in found.items()]
    return Section(heading=name, columns=("", PARTS[part][1], "of the first"), rows=rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the pool with its peers.")
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--load", nargs="+", choices=LOADS, default=["idle"], help="what else the machine does")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures here as well")
    parser.add_argument("--page", metavar="FILE", type=Path, help="write them as a page of the documentation as well")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {min(unknown)!r}; there are {', '.join(PARTS)}")
    results: Results = {}
    sections = []
    print(describe_machine(), describe_versions(), sep="; ")
    for part in arguments.parts or PARTS:
        measure, unit = PARTS[part]
        for condition in arguments.load:
            name = part if arguments.load == ["idle"] else f"{part}, {condition}"
            with load(LOADS[condition]):
                results[name] = found = measure()
            reference = next(iter(found.values()))
            print(f"\n{name}, {unit}")
            for what, figure in found.items():
                ratio = f"{reference / figure:8.2f} x in the first" if figure else ""
                print(f"  {what:50} {figure:12,.1f} {ratio}", flush=True)
            sections.append(section(part, name, found))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    if arguments.page:
        write_page(arguments.page, "The pool beside other pools", *sections)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        be_bare(sys.argv[2])
    elif sys.argv[1:2] == ["--first"]:
        print(*first_result(sys.argv[2]))
    else:
        main()
