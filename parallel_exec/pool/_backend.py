"""What runs a pool's jobs, as the pool and its maps see it: processes (`Core`) or threads (`ThreadCore`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from parallel_exec.plugins import PluginFunction
from parallel_exec.pool._deployment import DeployedFunction, Deployments
from parallel_exec.pool._events import Events
from parallel_exec.pool._scheduling.job import Job, Target
from parallel_exec.pool._stats import PoolStats


class MapConsumer(Protocol):
    """A map that is consumed.

    Attributes:
        ready: whether it has a result to give.
    """

    @property
    def ready(self) -> bool: ...

    def sleep(self, timeout: float) -> None:
        """Wait until it is ready, for so many seconds at most, while others collect."""


class Waiting(Protocol):
    """How the consumers of maps wait for results (`Collecting`)."""

    def join(self, owner: object) -> None:
        """A map begins to be consumed."""

    def leave(self, owner: object) -> None:
        """A map ends, or is given up."""

    def need(self, owner: object) -> None:
        """A thread that consumes no map waits for results."""

    def wait(self, consumer: MapConsumer, timeout: float) -> None:
        """Wait until a map has a result, for so many seconds at most. It may return earlier."""


class Backend(Protocol):
    """See `Core`; all methods may be called by any thread."""

    events: Events
    deployments: Deployments[Any]

    @property
    def collecting(self) -> Waiting: ...

    def target(self, function: PluginFunction | DeployedFunction, /) -> Target: ...
    def knows(self, function: PluginFunction | DeployedFunction) -> bool: ...
    def add(self, jobs: Sequence[Job[Any]]) -> None: ...
    def cancel(self, owner: object) -> None: ...
    def hungry(self) -> bool: ...
    def warm_up(self, targets: Sequence[Any], timeout: float | None) -> None: ...
    def stats(self) -> PoolStats: ...
    def check_open(self) -> None: ...
    def close(self, *, cancel: bool = False) -> None: ...
    def close_soon(self) -> None: ...
    def abort(self) -> None: ...
    def join(self) -> None: ...
