"""The strategies that ``pexec bench`` and ``pexec profile`` compare: seven ways to run the same job.

From `baseline` to `parallel`, more and more is done before a job starts; each really does what its name says.
"""

from __future__ import annotations

from parallel_exec.measure.strategies.fresh import Baseline, Cached, Parser, Wizer, WizerPlus
from parallel_exec.measure.strategies.resident import Parallel, Resident
from parallel_exec.measure.strategies.strategy import JobStage, StageClock, Strategy, Work

STRATEGIES: dict[str, type[Strategy]] = {
    strategy.name: strategy for strategy in (Baseline, Wizer, WizerPlus, Cached, Parser, Resident, Parallel)
}
"""All strategies by name, in the order in which reports show them."""

__all__ = ["STRATEGIES", "JobStage", "StageClock", "Strategy", "Work"]
