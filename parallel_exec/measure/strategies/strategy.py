"""What a strategy is: one way to run a plugin's function over a document, again and again."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Self

from parallel_exec.limits import Limits
from parallel_exec.plugins import Plugin


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What every strategy does per job: call `function` of `plugin` on `document` and have the result as JSON text.

    Attributes:
        plugin: the plugin.
        function: the name of its function.
        document: the document, as JSON text.
        limits: bounds on each job; pinned seed and time make the strategies' answers comparable.
        workers: worker processes, for the strategies that have any.
    """

    plugin: Plugin
    function: str
    document: bytes
    limits: Limits
    workers: int = 1


class Stage(StrEnum):
    """The parts of a job, in the order in which they happen."""

    INSTANTIATE = "instantiate"  # make an instance of a module: its memory, its data segments
    INITIALISE = "initialise"  # start the engine in it
    LOAD_SCRIPT = "load script"  # compile and run the plugin's source
    COPY_IN = "copy in"  # the document's bytes into linear memory
    PARSE = "parse"  # bytes to a JavaScript value
    RUN = "run"  # the plugin's function
    WRITE = "write"  # its result to JSON text
    COPY_OUT = "copy out"  # the text out of linear memory
    RESET = "reset"  # make ready for the next job: put the image back, or throw the instance away
    TRANSPORT = "transport"  # to another process and back


class Clock:
    """Takes the time of stages one after another.

    >>> clock = Clock()
    >>> clock.lap(Stage.RUN)
    >>> list(clock.seconds)
    [<Stage.RUN: 'run'>]
    """

    def __init__(self) -> None:
        self.seconds: dict[Stage, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: Stage) -> None:
        """Book the time since the last lap on a stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = time.perf_counter()


class Strategy(ABC):
    """One strategy. `prepare` comes first and is not part of a job; then any number of jobs; `close` comes last.

    A job is complete in itself: no state of one is seen by the next, and the result is JSON text in this process.
    """

    name: ClassVar[str]
    cached: ClassVar[str]  # what a job finds done already
    batched: ClassVar[bool] = False  # jobs overlap, so only many of them together have a cost each

    def __init__(self, work: Work) -> None:
        self.work = work

    @abstractmethod
    def prepare(self) -> None:
        """Do, from the plugin's source, what is done once and not per job.

        Raises:
            PexecError: the plugin cannot be loaded within the limits.
        """

    @abstractmethod
    def run(self) -> bytes:
        """Run one job and return its result as JSON text.

        Raises:
            PexecError: the job failed.
        """

    def run_many(self, jobs: int) -> list[bytes]:
        """Run jobs, overlapping if the strategy is `batched`, and return their results."""
        return [self.run() for _ in range(jobs)]

    @abstractmethod
    def stages(self) -> dict[Stage, float]:
        """Run one job part by part and return the seconds that each part took; parts that a job does not have are
        missing.
        """

    def close(self) -> None:  # noqa: B027 - most strategies hold nothing that would have to be given back
        """Give back what `prepare` took. Calling it again does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


StrategyFactory = Callable[[Work], Strategy]
