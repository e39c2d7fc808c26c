#!/usr/bin/env python3
"""How much of a pool's throughput is left behind gRPC: streams of documents to `pexec serve` compared with `Pool.map`.

    python bench/service/compare.py --workers 2 --json out.json --page docs/benchmarks/service.md

They take turns, in each round in another order, on the same documents, and the answers are compared. The server is a
process of its own with as many workers as the pool here; this process is the client, so client, server and workers
share the machine's CPUs. What counts is the median of the ratios to `Pool.map` in the same round, and the CPU time that
each process spends on a document, which neighbours on the machine affect least.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import parallel_exec as px
from parallel_exec.measure.fixture import plugin_path
from parallel_exec.measure.machine import describe_machine, describe_versions
from parallel_exec.service import Client

BENCH = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(BENCH), str(BENCH / "pool")]
import work  # noqa: E402 - its folder is not on the path before
from pages import Section, write_page  # noqa: E402 - nor is this one's

PARTS = ("client", "server", "workers")
NOTE = """Documents per second are medians; `of Pool.map` is the median of the ratios in the same round; the last
columns are the CPU time that each process spends on a document."""
TINY = px.Plugin("function identity(d) { return d }", name="identity.js")
# What to run, and the process ids of client, server and workers, whose CPU time counts.
Runner = tuple[Callable[[], Iterator[bytes]], dict[str, list[int]]]


def serve(workers: int, address: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "parallel_exec", "serve", "--workers", str(workers), "--listen", address]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server, server.stdout.readline().split()[-1]


def cpu_s(pids: list[int]) -> float:
    """Return the CPU time that processes have spent, in all their threads, including those that have ended."""
    total = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def worker_pids(client: Client) -> list[int]:
    """Return the process ids of the server's workers, once all of them have started."""
    while True:
        pids = [pid for pid, _ in client.stats().workers]
        if all(pids):
            return pids


def measure(runners: dict[str, Runner], expected: list[bytes], rounds: int) -> dict[str, dict[str, float]]:
    """Return each runner's documents per second, their ratio to Pool.map's, and CPU per document in microseconds."""
    rates: dict[str, list[float]] = {name: [] for name in runners}
    cpu: dict[str, list[list[float]]] = {name: [] for name in runners}
    order = list(runners)
    for number in range(rounds + 1):
        random.shuffle(order)
        for name in order:
            run, parts = runners[name]
            before = [cpu_s(pids) for pids in parts.values()]
            start = time.perf_counter()
            got = list(run())
            taken = time.perf_counter() - start
            after = [cpu_s(pids) for pids in parts.values()]
            if got != expected:
                sys.exit(f"{name}: wrong answers")
            if number:  # the first round warms up
                rates[name].append(len(expected) / taken)
                cpu[name].append(
                    [(end - begin) * 1e6 / len(expected) for begin, end in zip(before, after, strict=True)]
                )
    found = {}
    for name, (_, parts) in runners.items():
        ratios = [ours / theirs for ours, theirs in zip(rates[name], rates["Pool.map"], strict=True)]
        found[name] = {"per second": median(rates[name]), "of Pool.map": median(ratios)}
        found[name] |= {part: mean(column) for part, column in zip(parts, zip(*cpu[name], strict=True), strict=True)}
    return found


def compare(workers: int, count: int, rounds: int, windows: list[int]) -> dict[str, dict[str, dict[str, float]]]:
    track = px.Plugin.from_file(plugin_path())
    distinct = work.track_documents(64)
    tracks = [distinct[number % 64] for number in range(count)]
    tiny = [work.TINY] * count * 5
    found = {}
    with TemporaryDirectory() as folder, px.Pool(workers) as pool:
        servers = [serve(workers, "127.0.0.1:0"), serve(workers, f"unix:{folder}/pexec.sock")]
        try:
            with Client(servers[0][1]) as tcp, Client(servers[1][1]) as unix:
                for name, plugin, function, documents in (
                    ("track, 121 KB", track, "calculate", tracks),
                    ("identity, 100 bytes", TINY, "identity", tiny),
                ):
                    for client in (tcp, unix):
                        client.deploy(function, plugin)
                    local = plugin.function(function, output="bytes")
                    expected = list(pool.map(local, documents))
                    pids = [worker.pid for worker in pool.stats().workers if worker.pid]
                    parts = {"client": [os.getpid()], "workers": pids}
                    runners: dict[str, Runner] = {"Pool.map": (lambda: pool.map(local, documents), parts)}  # noqa: B023

                    def through(number: int, **options: Any) -> Runner:
                        results = (tcp, unix)[number].stream
                        parts = {
                            "client": [os.getpid()],
                            "server": [servers[number][0].pid],
                            "workers": worker_pids((tcp, unix)[number]),
                        }
                        return (
                            lambda: (
                                each.value
                                for each in results(function, function, documents, output="bytes", **options)  # noqa: B023
                            )
                        ), parts

                    runners["stream, bytes, TCP"] = through(0)
                    runners["stream, bytes, unix"] = through(1)
                    for window in windows:
                        runners[f"stream, shm, TCP, window {window}"] = through(0, shared=True, window=window)
                    runners["stream, shm, unix"] = through(1, shared=True)
                    found[name] = measure(runners, expected, rounds)
        finally:
            for server, _ in servers:
                server.terminate()
                server.wait()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the service with its pool.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--windows", default="32,256,1024", help="windows of the streams over shared memory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write a page of the documentation")
    arguments = parser.parse_args()
    print(describe_machine(), describe_versions(), sep="; ")
    windows = [int(window) for window in arguments.windows.split(",")]
    found = compare(arguments.workers, arguments.documents, arguments.rounds, windows)
    for name, figures in found.items():
        print(f"\n{name}: documents per second, their ratio to Pool.map's, and microseconds of CPU per document")
        for what, row in figures.items():
            spent = ", ".join(f"{part} {row[part]:.0f}" for part in PARTS if part in row)
            print(f"  {what:30} {row['per second']:9,.0f} {row['of Pool.map']:6.2f}   {spent}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    if arguments.page:
        write_page(
            arguments.page,
            "Service",
            Section(
                columns=("documents", "way", "per second", "of Pool.map", *(f"{part}, us" for part in PARTS)),
                rows=[
                    (
                        name,
                        way,
                        f"{row['per second']:,.0f}",
                        f"{row['of Pool.map']:.2f}",
                        *(f"{row[part]:.0f}" if part in row else "" for part in PARTS),
                    )
                    for name, figures in found.items()
                    for way, row in figures.items()
                ],
                notes=[NOTE, f"{arguments.workers} workers."],
            ),
        )


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH"))))
    main()
