"""The strategies that ``pexec bench`` and ``pexec profile`` compare: seven ways to run the same job.

One file each. From `baseline` to `parallel` a job finds more and more done already; each really does what its name
says.
"""

from __future__ import annotations

from parallel_exec.measure.strategies.baseline import Baseline
from parallel_exec.measure.strategies.cached import Cached
from parallel_exec.measure.strategies.image import Image
from parallel_exec.measure.strategies.parallel import Parallel
from parallel_exec.measure.strategies.parser import Parser
from parallel_exec.measure.strategies.strategy import Clock, Stage, Strategy, Work
from parallel_exec.measure.strategies.wizer import Wizer
from parallel_exec.measure.strategies.wizer_plus import WizerPlus

STRATEGIES: dict[str, type[Strategy]] = {
    strategy.name: strategy for strategy in (Baseline, Wizer, WizerPlus, Cached, Parser, Image, Parallel)
}
"""All strategies by name, in the order in which reports show them."""

__all__ = ["STRATEGIES", "Clock", "Stage", "Strategy", "Work"]
