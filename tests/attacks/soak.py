"""A soak: good jobs and attacks in a random mix on one pool, for as long as asked.

    python tests/attacks/soak.py --minutes 10 --workers 2

Every good answer must be right, every job must end, no process may be left over, and this process's memory must not
grow. Prints a summary; the exit status is 1 if anything of that fails.
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
FLAT = 64 * MIB  # what this process may grow by once it has warmed up
WARM_S = 20.0


def main() -> int:
    """Run the soak and return the exit status."""
    parser = argparse.ArgumentParser(description="Good jobs and attacks in a random mix on one pool.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--attacks", type=float, default=0.03, help="the share of attacks among the jobs (0 to 1)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    hostile = [attack for family in FAMILIES for attack in family.TABLE]
    end = time.monotonic() + 60.0 * options.minutes
    warm = min(time.monotonic() + WARM_S, end)
    me = psutil.Process()
    before = {child.pid for child in me.children(recursive=True)}
    faults: list[str] = []
    ends: Counter[str] = Counter()
    good = attacks = 0
    warm_rss = peak_rss = 0
    with px.Pool(options.workers, limits=PREPARING) as pool:
        waiting: dict[Future[Any], tuple[float, Any]] = {}
        numbers = itertools.count()
        while waiting or time.monotonic() < end:
            while len(waiting) < IN_FLIGHT and time.monotonic() < end:
                number = next(numbers)
                if draw.random() < options.attacks:
                    name, document = draw.choice(hostile).call
                    future, expected = pool.submit(PLUGIN.function(name), document), None
                elif number % 2:
                    future, expected = pool.submit(PLUGIN.function("good"), number), good_answer(number)
                else:
                    answer = [1, number, "undefined", "1,2"]
                    future, expected = pool.submit(NEIGHBOUR.function("next"), number), answer
                waiting[future] = time.monotonic(), expected
            done, _pending = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
            now = time.monotonic()
            for future in done:
                _since, expected = waiting.pop(future)
                error = future.exception()
                if expected is None:
                    attacks += 1
                    ends[type(error).__name__ if error else "a value"] += 1
                    if error is not None and not isinstance(error, px.PexecError):
                        faults.append(f"an attack ended with {error!r}")
                elif error is not None or future.result() != expected:
                    faults.append(f"a good job ended with {error!r}" if error else "a good job's answer is wrong")
                else:
                    good += 1
            lost = [future for future, (since, _expected) in waiting.items() if now - since > JOB_S]
            if lost:
                # Leaving the pool by it ends the pool, too, which would otherwise wait for them.
                sys.exit(f"failed: {len(lost)} jobs have not ended after {JOB_S:g} s")
            rss = me.memory_info().rss
            if now < warm:
                warm_rss = max(warm_rss, rss)
            peak_rss = max(peak_rss, rss)
        most = len(me.children(recursive=True)) - len(before)
        if most > options.workers + 1:
            faults.append(f"{most} processes of a pool of {options.workers} workers")
    psutil.wait_procs([child for child in me.children(recursive=True) if child.pid not in before], timeout=10)
    orphans = [child.pid for child in me.children(recursive=True) if child.pid not in before]
    if orphans:
        faults.append(f"processes left over: {orphans}")
    if peak_rss > warm_rss + FLAT:
        faults.append(f"this process grew from {warm_rss / MIB:.0f} to {peak_rss / MIB:.0f} MiB")
    print(
        f"{good} good jobs, {attacks} attacks, which ended with " + ", ".join(f"{n} {k}" for k, n in ends.most_common())
    )
    print(f"this process: {warm_rss / MIB:.0f} MiB when warm, {peak_rss / MIB:.0f} MiB at most")
    for fault, count in Counter(faults).most_common(20):
        print(f"FAULT ({count} times): {fault}")
    print("failed" if faults else "passed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
