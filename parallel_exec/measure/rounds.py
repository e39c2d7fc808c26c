"""Measuring contestants side by side: in rounds, each in another order, so that drift (a clock rate, a neighbour on the
machine) affects all of them alike; and the percentiles of what was measured.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, Self

from parallel_exec.errors import PexecError
from parallel_exec.measure.answers import Referee

ROUNDS = 10
_WARM_UP_JOBS = 3
_LEAST_JOBS = 20
_MOST_JOBS = 2000
_LEAST_BATCH = 250


class Contestant(Protocol):
    """Anything that runs jobs: a strategy or a peer."""

    @property
    def name(self) -> str: ...
    @property
    def batched(self) -> bool: ...
    def prepare(self) -> None: ...
    def run(self) -> bytes: ...
    def run_many(self, jobs: int) -> list[bytes]: ...


class Progress(Protocol):
    """Is told how far the measuring has come."""

    def say(self, text: str) -> None:
        """Take note of what is happening now."""

    def start(self, total: int) -> None:
        """Take note of the total number of jobs."""

    def advance(self, jobs: int) -> None:
        """Take note that that many more jobs are done."""


class JobFailed(PexecError):
    """A contestant's job failed; the message names the contestant."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One measurement: the seconds that some jobs took together."""

    seconds: float
    jobs: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a job costs, from many samples.

    Attributes:
        median_us: microseconds per job, the median.
        p10_us: the 10th percentile.
        p90_us: the 90th percentile.
        jobs: the number of jobs measured.
        jobs_per_s: jobs divided by the time that all of them took.
        samples: the number of samples, fewer than jobs where jobs overlap. One sample is every percentile.
    """

    median_us: float
    p10_us: float
    p90_us: float
    jobs: int
    jobs_per_s: float
    samples: int

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Self:
        """Sum up samples. A sample of several jobs counts once, with its time per job.

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


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Return the value below which a fraction of the values lies, interpolated between neighbours.

    Args:
        ordered: at least one value, in ascending order.
        fraction: from 0 (the least) to 1 (the greatest).

    Raises:
        ValueError: there are no values, or the fraction is out of range.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 0.5)
    2.5
    """
    if not ordered:
        raise ValueError("a percentile needs at least one value")
    if not 0 <= fraction <= 1:
        raise ValueError(f"the fraction must be from 0 to 1; got {fraction!r}")
    position = fraction * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    # A weighted sum rather than below + difference, so that equal neighbours give exactly their value.
    share = position - below
    return ordered[below] * (1 - share) + ordered[above] * share if share else ordered[below]


@dataclass
class Timings:
    """A contestant and what was measured of it.

    Attributes:
        contestant: the contestant.
        prepare_s: seconds from nothing to its first result.
        answer: its first result, as JSON text.
        samples: the measurements.
    """

    contestant: Contestant
    prepare_s: float
    answer: bytes
    samples: list[Sample] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.contestant.name

    @property
    def summary(self) -> Summary:
        return Summary.of(self.samples)


def prepare(contestant: Contestant, referee: Referee) -> Timings:
    """Prepare a contestant, run its first job, and time both together.

    Raises:
        AnswersDiffer: its answer is not that of the others.
        JobFailed: its first job, or its preparation, failed.
    """
    start = time.perf_counter()
    with _named(contestant):
        contestant.prepare()
        answer = contestant.run()
    prepare_s = time.perf_counter() - start
    referee.hear(contestant.name, answer)
    return Timings(contestant, prepare_s, answer)


def choose_jobs(contestant: Contestant, seconds: float, workers: int) -> int:
    """Return how many of a contestant's jobs take about that many seconds, judging by a few, which also warm it up.

    Raises:
        JobFailed: a job failed.
    """
    jobs = _WARM_UP_JOBS * (8 * workers if contestant.batched else 1)
    start = time.perf_counter()
    with _named(contestant):
        contestant.run_many(jobs)
    per_job = (time.perf_counter() - start) / jobs
    return max(_LEAST_JOBS, min(_MOST_JOBS, round(seconds / per_job)))


def split(jobs: int, rounds: int) -> list[int]:
    """Divide jobs over rounds as evenly as possible; their sum is `jobs`.

    >>> split(10, 4)
    [2, 3, 2, 3]
    """
    return [jobs * (index + 1) // rounds - jobs * index // rounds for index in range(rounds)]


def measure(
    contestants: Sequence[Timings],
    jobs: Mapping[str, int],
    referee: Referee,
    *,
    rng: random.Random,
    done: Callable[[str, int], None],
) -> None:
    """Run each contestant's number of jobs, in rounds, and add the samples.

    Args:
        contestants: the contestants, prepared; their samples are added to.
        jobs: how many jobs to measure, by the contestant's name.
        referee: hears every answer, outside the measured time.
        rng: shuffles each round.
        done: called with a name and a number of jobs whenever that many more are done.

    Raises:
        AnswersDiffer: a contestant's answer is not that of the others.
        JobFailed: a job failed.
    """
    # A batch begins and ends with idle workers: overlapping jobs get fewer and larger rounds. They take a tenth of the
    # time of 100 jobs.
    shares = {
        each.name: split(
            jobs[each.name],
            min(ROUNDS, max(1, jobs[each.name] // _LEAST_BATCH)) if each.contestant.batched else ROUNDS,
        )
        for each in contestants
    }
    for index in range(ROUNDS):
        order = list(contestants)
        rng.shuffle(order)
        for each in order:
            share = shares[each.name][index] if index < len(shares[each.name]) else 0
            if share:
                with _named(each.contestant):
                    answers = _round(each, share)
                for answer in answers:
                    referee.hear(each.name, answer)
                done(each.name, share)


@contextmanager
def _named(contestant: Contestant) -> Iterator[None]:
    try:
        yield
    except PexecError as error:
        raise JobFailed(f"{contestant.name}: {error}") from error


def _round(timings: Timings, jobs: int) -> list[bytes]:
    contestant = timings.contestant
    if contestant.batched:
        start = time.perf_counter()
        answers = contestant.run_many(jobs)
        timings.samples.append(Sample(seconds=time.perf_counter() - start, jobs=jobs))
        return answers
    answers = []
    for _ in range(jobs):
        start = time.perf_counter()
        answer = contestant.run()
        timings.samples.append(Sample(seconds=time.perf_counter() - start))
        answers.append(answer)
    return answers
