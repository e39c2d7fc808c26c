"""The strategies that ``pexec bench`` and ``pexec profile`` compare: seven ways to run the same job.

One file each. From `baseline` to `parallel` a job finds more and more done already; each really does what its name
says.
"""

from __future__ import annotations

from .baseline import Baseline
from .cached import Cached
from .image import Image
from .parallel import Parallel
from .parser import Parser
from .strategy import Clock, Stage, Strategy, Work
from .wizer import Wizer
from .wizer_plus import WizerPlus

STRATEGIES: dict[str, type[Strategy]] = {
    strategy.name: strategy for strategy in (Baseline, Wizer, WizerPlus, Cached, Parser, Image, Parallel)
}
"""All strategies by name, in the order in which reports show them."""

__all__ = ["STRATEGIES", "Clock", "Stage", "Strategy", "Work"]
