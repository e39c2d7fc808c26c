"""What a strategy is: one way to run a plugin's function over a document, again and again."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Self

from parallel_exec.limits import Limits
from parallel_exec.measure.machine import describe_machine, describe_versions
from parallel_exec.plugins import Plugin


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What every strategy does per job: call `function` of `plugin` on `document` and return the result as JSON text.

    Attributes:
        plugin: the plugin.
        function: the name of its function.
        document: the document, as JSON text.
        document_name: what reports call the document.
        limits: bounds on each job; a pinned seed and time make the strategies' answers comparable.
        workers: the number of worker processes, for strategies that use them.
    """

    plugin: Plugin
    function: str
    document: bytes
    document_name: str = "document"
    limits: Limits
    workers: int = 1

    def as_json(self) -> dict[str, Any]:
        """Return what was measured, on which machine and with which versions, as values for JSON."""
        return {
            "machine": describe_machine(),
            "versions": describe_versions(),
            "plugin": {"name": self.plugin.name, "function": self.function, "sha256": self.plugin.digest},
            "document": {"name": self.document_name, "bytes": len(self.document)},
            "workers": self.workers,
        }


class JobStage(StrEnum):
    """The stages of a job, in order."""

    INSTANTIATE = "instantiate"  # make an instance of a module: its memory, its data segments
    INITIALISE = "initialise"  # start the engine in it
    LOAD_SCRIPT = "load script"  # compile and run the plugin's source
    COPY_IN = "copy in"  # copy the document's bytes into linear memory
    PARSE = "parse"  # bytes to a JavaScript value
    RUN = "run"  # the plugin's function
    WRITE = "write"  # its result to JSON text
    COPY_OUT = "copy out"  # copy the text out of linear memory
    RESET = "reset"  # make ready for the next job: restore the image, or discard the instance
    TRANSPORT = "transport"  # to another process and back


class StageClock:
    """Times the stages of a job, one after another.

    >>> clock = StageClock()
    >>> clock.lap(JobStage.RUN)
    >>> list(clock.seconds)
    [<JobStage.RUN: 'run'>]
    """

    def __init__(self) -> None:
        self.seconds: dict[JobStage, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: JobStage) -> None:
        """Add the time since the last lap to a stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = time.perf_counter()


class Strategy(ABC):
    """One strategy. `prepare` is called first and is not part of a job; then come jobs, and at last `close`.

    A job is self-contained: it sees no state of another one, and its result is JSON text in this process.

    Attributes:
        name: the strategy's name.
        cached: what is done before a job starts.
        batched: whether jobs overlap, so that only a batch of them has a cost per job.
    """

    name: ClassVar[str]
    cached: ClassVar[str]
    batched: ClassVar[bool] = False

    def __init__(self, work: Work) -> None:
        self.work = work

    @abstractmethod
    def prepare(self) -> None:
        """Do, starting from the plugin's source, what is done once rather than per job.

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
        """Run jobs, overlapping if the strategy is `batched`, and return their results.

        Raises:
            PexecError: a job failed.
        """
        return [self.run() for _ in range(jobs)]

    @abstractmethod
    def stages(self) -> dict[JobStage, float]:
        """Run one job stage by stage and return the seconds that each stage took, without those that it does not have.

        Raises:
            PexecError: the job failed.
        """

    def close(self) -> None:  # noqa: B027 - most strategies hold nothing that has to be released
        """Release what `prepare` acquired. Calling it again does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
