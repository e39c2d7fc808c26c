"""Measuring contestants side by side: in rounds, each in another order, so that whatever drifts (a clock rate, a
neighbour on the machine) hits all of them alike.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from parallel_exec.errors import PexecError
from parallel_exec.measure.answers import Referee
from parallel_exec.measure.statistics import Sample, Summary

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


class JobFailed(PexecError):
    """A job of one of the contestants failed; the text says whose."""


@dataclass
class Measured:
    """A contestant and what was measured of it.

    Attributes:
        prepare_s: seconds from nothing to its first result.
        answer: its first result, as JSON text.
    """

    contestant: Contestant
    prepare_s: float
    answer: bytes
    samples: list[Sample] = field(default_factory=list)

    @property
    def summary(self) -> Summary:
        return Summary.of(self.samples)


def prepare(contestant: Contestant, referee: Referee) -> Measured:
    """Prepare a contestant, run its first job, and time both together."""
    start = time.perf_counter()
    with _named(contestant):
        contestant.prepare()
        answer = contestant.run()
    prepare_s = time.perf_counter() - start
    referee.hear(contestant.name, answer)
    return Measured(contestant, prepare_s, answer)


def choose_jobs(measured: Measured, seconds: float, workers: int) -> int:
    """Return how many jobs of a contestant fill about so many seconds, from what a few of them take.

    This warms it up, too.
    """
    contestant = measured.contestant
    jobs = _WARM_UP_JOBS * (8 * workers if contestant.batched else 1)
    start = time.perf_counter()
    with _named(contestant):
        contestant.run_many(jobs)
    per_job = (time.perf_counter() - start) / jobs
    return max(_LEAST_JOBS, min(_MOST_JOBS, round(seconds / per_job)))


def split(jobs: int, rounds: int) -> list[int]:
    """Divide jobs over rounds as evenly as can be; their sum is `jobs`.

    >>> split(10, 4)
    [2, 3, 2, 3]
    """
    return [jobs * (index + 1) // rounds - jobs * index // rounds for index in range(rounds)]


def measure(
    contestants: Sequence[Measured],
    jobs: Mapping[str, int],
    referee: Referee,
    *,
    rng: random.Random,
    done: Callable[[str, int], None],
) -> None:
    """Run each contestant's number of jobs, in rounds, and add the samples.

    Args:
        jobs: how many jobs to measure, by the contestant's name.
        referee: hears every answer, outside the measured time.
        rng: shuffles each round.
        done: told a name and a number of jobs whenever so many more are done.

    Raises:
        AnswersDiffer: a contestant's answer is not that of the others.
        PexecError: a job failed.
    """
    shares = {
        # Jobs in flight have a beginning and an end, in which not all workers are busy: fewer and larger batches.
        # They take a tenth of the time of 100 jobs.
        name: split(number, ROUNDS) if not batched else split(number, min(ROUNDS, max(1, number // _LEAST_BATCH)))
        for name, number, batched in (
            (m.contestant.name, jobs[m.contestant.name], m.contestant.batched) for m in contestants
        )
    }
    for index in range(ROUNDS):
        order = list(contestants)
        rng.shuffle(order)
        for measured in order:
            name = measured.contestant.name
            share = shares[name][index] if index < len(shares[name]) else 0
            if share:
                with _named(measured.contestant):
                    answers = _round(measured, share)
                for answer in answers:
                    referee.hear(name, answer)
                done(name, share)


@contextmanager
def _named(contestant: Contestant) -> Iterator[None]:
    try:
        yield
    except PexecError as error:
        raise JobFailed(f"{contestant.name}: {error}") from error


def _round(measured: Measured, jobs: int) -> list[bytes]:
    contestant = measured.contestant
    if contestant.batched:
        start = time.perf_counter()
        answers = contestant.run_many(jobs)
        measured.samples.append(Sample(seconds=time.perf_counter() - start, jobs=jobs))
        return answers
    answers = []
    for _ in range(jobs):
        start = time.perf_counter()
        answer = contestant.run()
        measured.samples.append(Sample(seconds=time.perf_counter() - start))
        answers.append(answer)
    return answers
