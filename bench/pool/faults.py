#!/usr/bin/env python3
"""What goes wrong in a pool, and who does what then: this package's pool and its peers (Linux).

    python bench/pool/faults.py                          everything, some minutes
    python bench/pool/faults.py killed cancel            these faults
    python bench/pool/faults.py --pool loky              this pool
    python bench/pool/faults.py --markdown               as a table for a document

Each fault happens to each pool in a program of its own (fault_cases.py), with 2 workers, as the pool is opened by
default. Everything in the table was seen in this run: the program says what its jobs come to, and what becomes of the
program and its processes is seen from outside. What says nothing for `SILENCE_S` hangs. Peers that are not installed
are named.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from fault_cases import ANSWER_S, ENDLESS_S, LIMIT_S, MOST_BYTES, OTHERS, TAKING_S
from fault_pools import CONTESTANTS

from parallel_exec.measure.machine import describe_machine, describe_versions

HERE = Path(__file__).parent
SILENCE_S = 2 * ANSWER_S + 5.0  # longer than a case may be silent that does not hang
GONE_S = 5.0  # how long processes have to end when their program has
MARK = "PEXEC_FAULTS"

Facts = dict[str, Any]


class Case:
    """A program in which one fault happens to one pool.

    Attributes:
        facts: what it has said.
        hangs: whether it did not end.
        status: with which it ended.
        stderr: what it and its processes wrote there.
    """

    def __init__(self, pool: str, fault: str, folder: Path) -> None:
        self.facts: Facts = {}
        self.hangs = False
        self.status: int | None = None
        self.stderr = ""
        self._begun = folder / "begun"
        self._begun.mkdir()
        self._mark = uuid.uuid4().hex
        path = os.pathsep.join([str(HERE), *filter(None, sys.path)])
        self._errors = (folder / "stderr").open("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "fault_cases.py"), pool, fault, str(self._begun)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONPATH": path, MARK: self._mark},
            start_new_session=True,  # signals to its group are its own
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def begun(self, jobs: int) -> None:
        """Wait until so many jobs have begun."""
        until = time.monotonic() + SILENCE_S
        while len(list(self._begun.iterdir())) < jobs:
            if time.monotonic() > until or self._process.poll() is not None:
                raise RuntimeError(f"{jobs} jobs were to begin: {self.read_errors()}")
            time.sleep(0.005)
        if len(self.processes()) < 2:
            raise RuntimeError("the processes of the pool cannot be told from others: their environment is not passed")

    def run(self) -> None:
        """Listen to the program until it ends, or is silent for too long."""
        heard = time.monotonic()
        while True:
            self.status = self._process.poll()
            with contextlib.suppress(queue.Empty):
                while True:
                    self.facts |= json.loads(self._lines.get(timeout=0.02))
                    heard = time.monotonic()
            if self.status is not None:
                return
            if time.monotonic() - heard > SILENCE_S:
                self.hangs = True
                return

    def interrupt(self) -> None:
        """Ctrl-C: the signal goes to all processes of the group."""
        os.killpg(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Kill the program, and nothing else."""
        self._process.kill()

    def processes(self) -> list[psutil.Process]:
        """The program, if it runs, and what is left of the processes that it began."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def left(self) -> tuple[int, float]:
        """How many processes are left once they had time to end, and how long that took."""
        start = time.monotonic()
        while (left := self.processes()) and time.monotonic() - start < GONE_S:
            time.sleep(0.02)
        return len(left), time.monotonic() - start

    def read_errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def close(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._process.wait()
        self.stderr = self.read_errors()
        self._errors.close()


@contextlib.contextmanager
def case(pool: str, fault: str) -> Iterator[Case]:
    with tempfile.TemporaryDirectory() as folder:
        found = Case(pool, fault, Path(folder))
        try:
            yield found
        finally:
            found.close()


# What a fault came to, in words


def named(outcome: str) -> str:
    return f"`{outcome}`" if outcome[0].isupper() else outcome


def others(counts: dict[str, int]) -> str:
    done = counts.get("done", 0)
    bad = [f"{number} {named(outcome)}" for outcome, number in counts.items() if outcome != "done"]
    return "others done" if done == OTHERS else ", ".join([f"of {OTHERS} others {done} done", *bad])


def after(facts: Facts) -> str:
    if "after" not in facts:
        return ""
    return "pool goes on" if facts["after"] == "done" else f"next job: {named(facts['after'])}"


def told(found: Case, *parts: str) -> str:
    if found.hangs:
        parts = (*parts, "program hangs")
    elif found.status:
        parts = (*parts, f"program fails ({found.stderr.strip().rpartition(chr(10))[2]})")
    return "; ".join(filter(None, parts))


def one_bad(pool: str, fault: str) -> str:
    with case(pool, fault) as found:
        found.run()
    facts = found.facts
    bad = named(facts["bad"]) if "bad" in facts else ""
    if bad and fault == "memory" and "most_mib" in facts:
        bad += f" at {facts['most_mib']:,.0f} MiB"
    return told(found, bad, others(facts["others"]) if "others" in facts else "", after(facts))


def interrupted(pool: str, fault: str) -> str:
    with case(pool, fault) as found:
        found.begun(2)
        start = time.monotonic()
        found.interrupt()
        found.run()
        took = time.monotonic() - start
        left, _ = (0, 0.0) if found.hangs else found.left()
    if found.hangs:
        return told(found)
    tracebacks = found.stderr.count("Traceback (most recent call last)")
    shown = f"{tracebacks} traceback" + ("" if tracebacks == 1 else "s")
    return "; ".join([f"out in {took:.2f} s", shown, *([f"processes left: {left}"] if left else [])])


def killed(pool: str, fault: str) -> str:
    with case(pool, fault) as found:
        found.begun(1)
        had = len(found.processes()) - 1
        found.kill()
        left, took = found.left()
    return f"{left} of {had} processes left after {GONE_S:g} s" if left else f"its {had} processes gone in {took:.2f} s"


def endless(pool: str, fault: str) -> str:
    with case(pool, fault) as found:
        found.run()
    facts = found.facts
    if not facts:
        return told(found)
    failure = named(facts["failure"]) if facts["failure"] else ""
    results = f"{facts['results']:,} results" if facts["results"] else "no result"
    return told(found, results, failure, f"{facts['ahead']:,} drawn ahead", f"+{facts['grown_mib']:,.0f} MiB")


def cancelled(pool: str, fault: str) -> str:
    with case(pool, fault) as found:
        found.run()
    facts = found.facts
    if "stop" not in facts:
        return told(found)
    runs = "runs on" if facts["runs"] else "stopped"
    return told(found, f"{named(facts['stop'])}, job {runs}", others(facts["others"]), after(facts))


def limited(pool: str, fault: str) -> str:
    with case(pool, fault) as found:
        found.run()
    facts = found.facts
    bad = ", ".join(f"{number} {named(outcome)}" for outcome, number in facts.get("bad", {}).items())
    runs = f"{facts['runs']} run on" if facts.get("runs") else "none runs on" if "runs" in facts else ""
    return told(found, bad, runs, after(facts))


def forked(pool: str, fault: str) -> str:
    with case(pool, fault) as found:
        found.run()
    facts = found.facts
    ends = "" if facts.get("fork_ends", True) else "fork hangs at its end"
    seen = f"in the fork {named(facts['fork'])}" if "fork" in facts else ""
    return told(found, seen, ends, after(facts))


FAULTS: dict[str, tuple[str, Callable[[str, str], str]]] = {
    "killed": ("a worker is killed in a job (SIGKILL)", one_bad),
    "exit": ("a job ends its process (`os._exit`)", one_bad),
    "memory": (f"a job takes memory without end (processes are held to {MOST_BYTES >> 20:,} MiB)", one_bad),
    "result": ("a job returns what cannot be sent (a lock)", one_bad),
    "error": ("a job raises what cannot be pickled", one_bad),
    "unpickle": ("a job raises what cannot be unpickled", one_bad),
    "interrupt": ("Ctrl-C in a map of jobs that never end", interrupted),
    "parent": ("the program is killed in a job (SIGKILL)", killed),
    "endless": (
        f"a map over endless documents of 100 KB, {TAKING_S * 1e3:g} ms for each result, for {ENDLESS_S:g} s",
        endless,
    ),
    "cancel": ("a running job is cancelled", cancelled),
    "limit": (f"two jobs never end, time limit {LIMIT_S:g} s", limited),
    "fork": ("the program forks, and the fork uses the pool", forked),
}


def installed(pools: list[str]) -> list[str]:
    found = []
    for name in pools:
        try:
            importlib.import_module(CONTESTANTS[name][0])
            found.append(name)
        except ImportError:
            print(f"{name} is not installed: left out", file=sys.stderr)
    return found


def described() -> str:
    machine, versions = describe_machine(), describe_versions()
    parts = [f"{machine['cpus']} CPUs of {machine['cpu']}", str(versions["python"])]
    parts.append(f"start method {multiprocessing.get_start_method()}")
    for package in ("wasmtime", "loky", "joblib"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            parts.append(f"{package} {metadata.version(package)}")
    return ", ".join(parts)


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description="What goes wrong in pools, and who does what then.")
    parser.add_argument("faults", nargs="*", help=", ".join(FAULTS))
    parser.add_argument("--pool", action="append", choices=CONTESTANTS, help="look at this one only")
    parser.add_argument("--markdown", action="store_true", help="print a table for a document")
    arguments = parser.parse_args()
    unknown = set(arguments.faults) - set(FAULTS)
    if unknown:
        parser.error(f"unknown fault {min(unknown)!r}; there are {', '.join(FAULTS)}")
    pools = installed(arguments.pool or list(CONTESTANTS))
    print(f"{described()}\n")
    if arguments.markdown:
        print(row("", *pools), "|---" * (len(pools) + 1) + "|", sep="\n")
    for fault in arguments.faults or FAULTS:
        title, see = FAULTS[fault]
        if not arguments.markdown:
            print(title)
        cells = []
        for name in pools:
            cells.append(see(name, fault))
            if not arguments.markdown:
                print(f"  {name:22} {cells[-1]}", flush=True)
        if arguments.markdown:
            print(row(title, *cells), flush=True)


if __name__ == "__main__":
    main()
