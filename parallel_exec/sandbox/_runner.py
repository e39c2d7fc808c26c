"""What a sandbox needs for either kind of plugin: one instance at a time, jobs in it, and a reset between them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from parallel_exec._codec.arrays import Encoded
from parallel_exec._codec.documents import Input
from parallel_exec.errors import PexecError
from parallel_exec.limits import Limits
from parallel_exec.sandbox._engine.deadline import Deadline
from parallel_exec.sandbox._engine.memory import LinearMemory
from parallel_exec.sandbox._image_file import Runs

AnInstance_co = TypeVar("AnInstance_co", bound=LinearMemory, covariant=True)


class Image(ABC):
    """What every job of a plugin starts from: data, which workers read from shared memory.

    Attributes:
        plugin_name: the plugin's name, for messages.
        runs: the parts of linear memory that are not zero: address and bytes of each.
        input: how the plugin's functions get documents by default.
    """

    plugin_name: str
    runs: Runs
    input: ClassVar[Input]

    @abstractmethod
    def to_bytes(self) -> bytes:
        """Return the image in its file format, which `load_image` reads."""


class Runner(ABC, Generic[AnInstance_co]):
    """Runs one plugin's jobs, each from the plugin's image, in one instance that is reset or replaced between them. It
    belongs to one thread at a time.

    Attributes:
        limits: on each job.
        reached: how far into linear memory the last job reached, in bytes.
        fuel_used: instructions that it took, or None if they are not counted.
        reset_ns: nanoseconds from its end to readiness for the next one; 0 if that needs another instance.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.reached = 0
        self.fuel_used: int | None = None
        self.reset_ns = 0
        self._closed = False
        self._dirty = False  # whether a job may have left something in the instance's memory
        self._instance: AnInstance_co | None = None
        self._deadline: Deadline

    @abstractmethod
    def run(
        self,
        function: str,
        content: Encoded,
        kind: int,
        stopped: Callable[[], bool] | None,
    ) -> tuple[int, bytes]:
        """Run one job (see `Sandbox.run`)."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether a host function is running."""

    @property
    def memory_bytes(self) -> int:
        """The current size of linear memory in bytes."""
        return 0 if self._instance is None else self._instance.size()

    def stop(self) -> None:
        """End the job that another thread runs as if it had reached its deadline."""
        self._deadline.stop()

    def close(self) -> None:
        """Give memory back; any later job raises ValueError.

        Raises:
            PexecError: a host function is running.
        """
        self.check_idle()
        self._closed = True
        self.drop()

    def drop(self) -> None:
        """Give the instance back; the next job makes another one."""
        if self._instance is not None:
            self._deadline.close()
            self._instance = None
            self._dirty = False

    def check_idle(self) -> None:
        """Raise a PexecError if a host function is running."""
        if self.busy:
            raise PexecError("the sandbox is running the job that called this host function; use another sandbox here")

    def check_open(self) -> None:
        """Raise a ValueError if the sandbox is closed."""
        if self._closed:
            raise ValueError("the sandbox is closed")
