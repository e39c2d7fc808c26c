"""A soak: good jobs and attacks in a random mix on one pool, for as long as asked.

    python tests/attacks/soak.py --minutes 10 --workers 2

Every good answer must be right, every job must end, no process may be left over, and this process's memory must not
grow. Prints a summary; the exit status is 1 if any of that fails.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import parallel_exec as px  # noqa: E402
from tests.attacks import (  # noqa: E402
    test_depth,
    test_interrupt,
    test_loops,
    test_memory,
    test_native_loops,
    test_pollution,
    test_results,
    test_throws,
)
from tests.attacks.attack import MIB, NEIGHBOUR, PLUGIN, PREPARING, good_answer  # noqa: E402

FAMILIES = (
    test_loops,
    test_native_loops,
    test_memory,
    test_depth,
    test_pollution,
    test_interrupt,
    test_throws,
    test_results,
)
IN_FLIGHT = 64
JOB_S = 120.0  # a job that takes longer is lost
FLAT = 64 * MIB  # how much this process may grow once it is warm
WARM_S = 20.0


class Soak:
    """Jobs on one pool, their ends, and the faults that were found."""

    def __init__(self, pool: px.Pool, share: float, seed: int) -> None:
        self.faults: list[str] = []
        self.ends: Counter[str] = Counter()
        self.good = self.attacks = 0
        self._pool = pool
        self._share = share
        self._draw = random.Random(seed)
        self._hostile = [attack for family in FAMILIES for attack in family.TABLE]
        self._numbers = itertools.count()
        self._waiting: dict[Future[Any], tuple[float, Any]] = {}  # since when, and the answer: None for an attack

    def run(self, end: float, memory: Memory) -> None:
        """Submit jobs until `end`, and wait for all of them."""
        while self._waiting or time.monotonic() < end:
            while len(self._waiting) < IN_FLIGHT and time.monotonic() < end:
                self._submit(next(self._numbers))
            done, _pending = wait(self._waiting, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                self._judge(future, self._waiting.pop(future)[1])
            lost = [future for future, (since, _answer) in self._waiting.items() if time.monotonic() - since > JOB_S]
            if lost:
                # sys.exit inside the block ends the pool, which would otherwise wait for them.
                sys.exit(f"failed: {len(lost)} jobs have not ended after {JOB_S:g} s")
            memory.look()

    def _submit(self, number: int) -> None:
        answer: list[Any] | None
        if self._draw.random() < self._share:
            name, document = self._draw.choice(self._hostile).call
            function, answer = PLUGIN.function(name), None
        elif number % 2:
            function, document, answer = PLUGIN.function("good"), number, good_answer(number)
        else:
            function, document, answer = NEIGHBOUR.function("next"), number, [1, number, "undefined", "1,2"]
        self._waiting[self._pool.submit(function, document)] = time.monotonic(), answer

    def _judge(self, future: Future[Any], answer: list[Any] | None) -> None:
        error = future.exception()
        if answer is None:
            self.attacks += 1
            self.ends[type(error).__name__ if error else "a value"] += 1
            if error is not None and not isinstance(error, px.PexecError):
                self.faults.append(f"an attack ended with {error!r}")
        elif error is not None or future.result() != answer:
            self.faults.append(f"a good job ended with {error!r}" if error else "a good job's answer is wrong")
        else:
            self.good += 1


class Memory:
    """The most memory that this process had while it warmed up, and the most in all."""

    def __init__(self, warm_until: float) -> None:
        self.warm = self.peak = 0
        self._warm_until = warm_until

    def look(self) -> None:
        rss = psutil.Process().memory_info().rss
        if time.monotonic() < self._warm_until:
            self.warm = max(self.warm, rss)
        self.peak = max(self.peak, rss)


def main() -> int:
    """Run the soak and return the exit status."""
    parser = argparse.ArgumentParser(description="Good jobs and attacks in a random mix on one pool.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--attacks", type=float, default=0.03, help="the share of attacks among the jobs (0 to 1)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    end = time.monotonic() + 60.0 * options.minutes
    memory = Memory(min(time.monotonic() + WARM_S, end))
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with px.Pool(options.workers, limits=PREPARING) as pool:
        soak = Soak(pool, options.attacks, options.seed)
        soak.run(end, memory)
        processes = len(started_since(before))
    faults = soak.faults
    if processes > options.workers + 1:
        faults.append(f"{processes} processes of a pool of {options.workers} workers")
    psutil.wait_procs(started_since(before), timeout=10)
    if orphans := [child.pid for child in started_since(before)]:
        faults.append(f"processes left over: {orphans}")
    if memory.peak > memory.warm + FLAT:
        faults.append(f"this process grew from {memory.warm / MIB:.0f} to {memory.peak / MIB:.0f} MiB")
    ends = ", ".join(f"{count} {name}" for name, count in soak.ends.most_common())
    report = [
        f"{soak.good} good jobs, {soak.attacks} attacks, which ended with {ends}",
        f"this process: {memory.warm / MIB:.0f} MiB when warm, {memory.peak / MIB:.0f} MiB at most",
        *(f"FAULT ({count} times): {fault}" for fault, count in Counter(faults).most_common(20)),
        "failed" if faults else "passed",
    ]
    print(*report, sep="\n")  # noqa: T201 - what the program is for
    return 1 if faults else 0


def started_since(before: set[int]) -> list[psutil.Process]:
    """Return this process's children that are not among these."""
    return [child for child in psutil.Process().children(recursive=True) if child.pid not in before]


if __name__ == "__main__":
    sys.exit(main())
