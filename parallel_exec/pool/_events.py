"""Events: what happens to a pool's workers and deployments, counted, and told to whoever wants to know."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from parallel_exec.pool._callbacks import report_raised
from parallel_exec.pool._version import Version

EventKind = Literal[
    "worker started", "worker died", "worker killed", "worker retired", "job retried", "deployment swapped"
]


@dataclass(frozen=True, slots=True)
class PoolEvent:
    """Something that happened in a pool.

    Attributes:
        kind: ``"worker started"``; ``"worker died"``: by itself, or somebody killed it; ``"worker killed"``: by the
            pool; ``"worker retired"``: another one takes its place as the options ask; ``"job retried"``: it is run
            again because its worker died; ``"deployment swapped"``: another version is current.
        text: why, or how, in words; may be empty.
        worker: the worker's number in its pool, or None.
        pid: its process id, or None.
        version: the version that a deployment has now, or None.
    """

    kind: EventKind
    text: str = ""
    worker: int | None = None
    pid: int | None = None
    version: Version | None = None


OnEvent = Callable[[PoolEvent], object]


class Events:
    """Events on their way to a callback, which is never called with the pool's lock held.

    Attributes:
        counts: how many of each kind there were.
        waiting: events not yet passed to the callback.

    Args:
        on_event: the callback, or None.
    """

    def __init__(self, on_event: OnEvent | None) -> None:
        self.counts: Counter[EventKind] = Counter()
        self.waiting: deque[PoolEvent] = deque()
        self._on_event = on_event

    def note(self, event: PoolEvent) -> None:
        """Something has happened; the callback is told by the next `deliver`."""
        self.counts[event.kind] += 1
        if self._on_event is not None:
            self.waiting.append(event)

    def deliver(self) -> None:
        """Call the callback; what it raises is logged."""
        while self.waiting and self._on_event is not None:
            try:
                event = self.waiting.popleft()
            except IndexError:
                return  # another thread was faster
            try:
                self._on_event(event)
            except BaseException:
                report_raised(f"on_event of {event}")
