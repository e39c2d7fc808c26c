"""One instance's deadline: how much time and fuel a job of it may use, and how the watchdog stops it.

A word in its mailbox tells the guest that a job is overdue (guest/deadline.h). With ``Limits(interrupt="epoch")`` the
machine code checks as well: a counter of the wasmtime engine, which is then the sandbox's own, so that advancing it
stops nobody else. A module that is not ours checks nothing but that counter. A job's deadline is two steps of it. The
watchdog advances it every 10 ms while the job is overdue; a late step, for a job that is over, is at most one and does
not stop the next job.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator

from parallel_exec.limits import Limits
from parallel_exec.sandbox._engine.memory import UNLIMITED, LinearMemory
from parallel_exec.sandbox._engine.watchdog import Watchdog

_STEPS = 2


class Deadline:
    """Bounds on the calls into one instance. It belongs to the instance's thread.

    Attributes:
        fuel_used: the instructions that the last call took, or None if they are not counted.
    """

    __slots__ = (
        *("__weakref__", "_epoch", "_fuel", "_is_cpu", "_job", "_seconds", "_slot", "_stopped", "_store", "_watchdog"),
        "fuel_used",
    )

    def __init__(self, instance: LinearMemory, limits: Limits) -> None:
        self._store = instance.store
        self._seconds = limits.time_s
        self._is_cpu = limits.clock == "cpu"
        self._fuel = limits.fuel if instance.engine.metered else None
        self._epoch = instance.engine.epoch
        self.fuel_used: int | None = None
        self._job, self._stopped = 0, -1
        self._watchdog = Watchdog.shared()
        self._slot = self._watchdog.register(_stopper(instance))

    def begin(self, job: int, *, metered: bool = True) -> None:
        """Start counting for job number `job`; `metered` is False for a call that runs nothing of the plugin's."""
        self._job = job
        if self._fuel is not None:
            self._store.set_fuel(self._fuel if metered else UNLIMITED)
        if self._epoch:
            self._store.set_epoch_deadline(_STEPS)
        if self._seconds is not None:
            if self._is_cpu:
                clock = time.pthread_getcpuclockid(threading.get_ident())
                self._slot.cpu = clock, time.clock_gettime(clock) + self._seconds
            self._watchdog.arm(self._slot, job, self._seconds)

    def is_over(self) -> bool:
        """Say whether the job is overdue, or told to stop."""
        return self._stopped == self._job or (self._slot.due <= time.monotonic() and self._slot.left() <= 0.0)

    def stop(self) -> None:
        """Stop the running job now. Any thread may call this."""
        self._stopped = job = self._job
        for _ in range(_STEPS):  # all at once: unlike the watchdog, nothing calls this again
            self._slot.stop(job)

    def end(self) -> None:
        """Stop counting. Calling it again does nothing."""
        self._slot.due = math.inf
        if self._fuel is not None:
            self.fuel_used = self._fuel - min(self._store.get_fuel(), self._fuel)

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """While a host function runs, do not count its CPU time as the job's. Time on the wall clock still counts."""
        slot = self._slot
        if slot.cpu is None:
            yield
            return
        clock, end = slot.cpu
        left = end - time.clock_gettime(clock)
        slot.cpu = clock, math.inf
        try:
            yield
        finally:
            slot.cpu = clock, time.clock_gettime(clock) + left
            self._watchdog.arm(slot, slot.job, max(left, 0.0))

    def close(self) -> None:
        """Let go of the instance."""
        self._watchdog.unregister(self._slot)


def _stopper(instance: LinearMemory) -> Callable[[int], None]:
    tell = instance.tell_overdue
    if not instance.engine.epoch:
        return tell
    advance = instance.engine.runtime.increment_epoch

    def stop(job: int) -> None:
        tell(job)
        advance()

    return stop
