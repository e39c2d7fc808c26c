"""Percentiles of measured times, and what a table shows of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Return the value below which a fraction of the values lies, interpolating between neighbours.

    Args:
        ordered: at least one value, ascending.
        fraction: from 0 (the least) to 1 (the greatest).

    >>> percentile([1.0, 2.0, 3.0, 4.0], 0.5)
    2.5
    """
    if not ordered:
        raise ValueError("no values, no percentile")
    if not 0 <= fraction <= 1:
        raise ValueError(f"the fraction must be from 0 to 1; got {fraction!r}")
    position = fraction * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    # As a sum of two parts and not as below + difference, so that equal neighbours give exactly their value.
    share = position - below
    return ordered[below] * (1 - share) + ordered[above] * share if share else ordered[below]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One measurement: the seconds that some jobs took together."""

    seconds: float
    jobs: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What many jobs cost.

    Attributes:
        median_us, p10_us, p90_us: microseconds per job.
        jobs: how many were measured.
        jobs_per_s: jobs by the time that all of them took.
        samples: how many times were measured: fewer than jobs where they overlap. Of one, all percentiles are that.
    """

    median_us: float
    p10_us: float
    p90_us: float
    jobs: int
    jobs_per_s: float
    samples: int

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Self:
        """Sum up. A sample of several jobs counts once, with its time per job.

        >>> Summary.of([Sample(seconds=0.001), Sample(seconds=0.003)]).jobs_per_s
        500.0
        """
        per_job = sorted(sample.seconds / sample.jobs * 1e6 for sample in samples)
        jobs = sum(sample.jobs for sample in samples)
        return cls(
            median_us=percentile(per_job, 0.5),
            p10_us=percentile(per_job, 0.1),
            p90_us=percentile(per_job, 0.9),
            jobs=jobs,
            jobs_per_s=jobs / sum(sample.seconds for sample in samples),
            samples=len(samples),
        )
