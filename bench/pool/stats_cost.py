"""What counting a job costs: `python bench/pool/stats_cost.py`. The pool counts every job that a worker has ended."""

from __future__ import annotations

import timeit

from parallel_exec.pool._stats import Tally

JOBS = 50_000


class Job:
    size = 110_000
    queued_ns = 1_000_000


def main() -> None:
    add, job, entry = Tally().add, Job(), (0, 0, 0, 20, 200_000, 1_300_000, 8_000, 0)
    best = min(timeit.repeat(lambda: add(job, entry), number=JOBS, repeat=7))  # type: ignore[arg-type]
    print(f"counting a job: {best / JOBS * 1e6:.2f} us")


if __name__ == "__main__":
    main()
