"""`pexec profile`: where the time of a job goes, by strategy.

Each stage is timed as a separate call, and the whole job on its own: the sum of the stages exceeds the whole where
entering and leaving the sandbox between two stages costs something, and differs from it by chance.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from parallel_exec.measure.answers import Referee
from parallel_exec.measure.rounds import ROUNDS, Progress, prepare, split
from parallel_exec.measure.strategies import STRATEGIES, JobStage, Strategy, Work


@dataclass
class StrategyProfile:
    """One strategy's jobs, by stages.

    Attributes:
        strategy: the strategy.
        stages: the seconds that each stage of each job took.
        totals: the seconds that each whole job took; jobs that could overlap are run one at a time.
    """

    strategy: Strategy
    stages: list[dict[JobStage, float]] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)

    @property
    def stages_us(self) -> dict[JobStage, float]:
        """Microseconds of each stage that the job has, the median."""
        return {
            stage: max(0.0, median(job[stage] for job in self.stages)) * 1e6
            for stage in JobStage
            if stage in self.stages[0]
        }

    @property
    def total_us(self) -> float:
        """Microseconds of the whole job, the median."""
        return median(self.totals) * 1e6


@dataclass
class Profile:
    """The outcome of `pexec profile`."""

    work: Work
    strategies: list[StrategyProfile] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the figures as values for JSON."""
        return self.work.as_json() | {
            "stages": [str(stage) for stage in JobStage],
            "strategies": [
                {
                    "name": profiled.strategy.name,
                    "jobs": len(profiled.stages),
                    "stages_us": {str(stage): round(us, 3) for stage, us in profiled.stages_us.items()},
                    "sum_us": round(sum(profiled.stages_us.values()), 3),
                    "total_us": round(profiled.total_us, 3),
                }
                for profiled in self.strategies
            ],
        }


def profile(work: Work, *, names: Sequence[str], jobs: int, progress: Progress, seed: int | None = None) -> Profile:
    """Time the stages of that many jobs of each strategy, in rounds, each in another order.

    Args:
        work: what to run.
        names: the names of the strategies.
        jobs: the number of jobs per strategy.
        progress: is told what happens.
        seed: determines the order within each round; None for another order each time.

    Raises:
        AnswersDiffer: the answers do not agree.
        PexecError: a job failed.
    """
    outcome = Profile(work)
    referee = Referee()
    rng = random.Random(seed)  # noqa: S311 - it shuffles rounds
    with ExitStack() as stack:
        for name in names:
            progress.say(f"preparing {name}")
            strategy = stack.enter_context(STRATEGIES[name](work))
            prepare(strategy, referee)
            strategy.stages()  # warms up
            outcome.strategies.append(StrategyProfile(strategy))
        progress.start(jobs * len(names))
        for share in split(jobs, ROUNDS):
            order = list(outcome.strategies)
            rng.shuffle(order)
            for profiled in order:
                progress.say(profiled.strategy.name)
                for _ in range(share):
                    profiled.stages.append(profiled.strategy.stages())
                    start = time.perf_counter()
                    profiled.strategy.run()
                    profiled.totals.append(time.perf_counter() - start)
                progress.advance(share)
    return outcome
