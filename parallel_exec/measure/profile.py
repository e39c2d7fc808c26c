"""`pexec profile`: where the time of a job goes, by strategy.

Each part is timed as a call of its own, and the whole job apart from that: the sum of the parts is more than the
whole where going in and out of the sandbox between two parts costs something, and differs from it by chance.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from parallel_exec.measure.answers import Referee
from parallel_exec.measure.compare import Progress
from parallel_exec.measure.machine import describe_machine, describe_versions
from parallel_exec.measure.rounds import prepare, split
from parallel_exec.measure.statistics import percentile
from parallel_exec.measure.strategies import STRATEGIES, Stage, Strategy, Work

ROUNDS = 10


@dataclass
class Profiled:
    """One strategy's jobs, taken apart.

    Attributes:
        stages_us: median microseconds of each part that a job has.
        total_us: median microseconds of the whole job, timed apart; of one job alone where jobs can overlap.
    """

    strategy: Strategy
    parts: list[dict[Stage, float]] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)

    @property
    def stages_us(self) -> dict[Stage, float]:
        return {
            stage: max(0.0, statistics.median(part[stage] for part in self.parts)) * 1e6
            for stage in Stage
            if stage in self.parts[0]
        }

    @property
    def total_us(self) -> float:
        return percentile(sorted(self.totals), 0.5) * 1e6


@dataclass
class Profile:
    """The outcome of a profile."""

    work: Work
    document_name: str
    strategies: list[Profiled] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the figures as values for JSON."""
        work = self.work
        return {
            "machine": describe_machine(),
            "versions": describe_versions(),
            "plugin": {"name": work.plugin.name, "function": work.function, "sha256": work.plugin.digest},
            "document": {"name": self.document_name, "bytes": len(work.document)},
            "workers": work.workers,
            "stages": [str(stage) for stage in Stage],
            "strategies": [
                {
                    "name": profiled.strategy.name,
                    "jobs": len(profiled.parts),
                    "stages_us": {str(stage): round(us, 3) for stage, us in profiled.stages_us.items()},
                    "sum_us": round(sum(profiled.stages_us.values()), 3),
                    "total_us": round(profiled.total_us, 3),
                }
                for profiled in self.strategies
            ],
        }


def profile(
    work: Work, *, names: Sequence[str], jobs: int, document_name: str, progress: Progress, seed: int | None = None
) -> Profile:
    """Take apart so many jobs of each strategy, in rounds of which each has another order.

    Raises:
        AnswersDiffer: the strategies do not come to the same answer.
        PexecError: a job failed.
    """
    outcome = Profile(work, document_name)
    referee = Referee()
    rng = random.Random(seed)
    with ExitStack() as stack:
        for name in names:
            progress.say(f"preparing {name}")
            strategy = stack.enter_context(STRATEGIES[name](work))
            prepare(strategy, referee)
            strategy.stages()  # warm
            outcome.strategies.append(Profiled(strategy))
        progress.start(jobs * len(names))
        for share in split(jobs, ROUNDS):
            order = list(outcome.strategies)
            rng.shuffle(order)
            for profiled in order:
                progress.say(profiled.strategy.name)
                for _ in range(share):
                    profiled.parts.append(profiled.strategy.stages())
                    start = time.perf_counter()
                    profiled.strategy.run()
                    profiled.totals.append(time.perf_counter() - start)
                progress.advance(share)
    return outcome
