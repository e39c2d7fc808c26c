"""Deadlines: one thread per process that tells overdue jobs to stop, and sleeps when none can be due.

Arming a job is two attribute stores, because it happens 10,000 times a second; the thread wakes at the earliest
deadline it knows of and looks at all armed slots. A job may be armed just as the thread goes to sleep; `_wake` settles
that race. While the thread looks at the slots, `_wake` is infinite, so every job armed meanwhile opens the gate and
the thread looks again; afterwards `_wake` is the time at which it will wake, and only a job due earlier opens the
gate.

No lock guards the slots. A finalizer removes its slot, and a finalizer can run anywhere: in the middle of a locked
region of its own thread, or at the interpreter's exit, when this thread, a daemon, may have died inside one. So the
thread looks at a copy of the set, and what it calls keeps alive what it writes to.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable

from parallel_exec._signals import Gate, held


class Slot:
    """A sandbox's place in the watchdog: the job it runs now, and when that job is due.

    Attributes:
        due: time of `time.monotonic()` at which the job must stop; infinite while none runs.
        stop: tells a job, by its number, to stop.
        cpu: a thread's clock and what it will show when the job must stop, which is at `due` or later; None if the job
            must stop at `due`.
    """

    __slots__ = ("cpu", "due", "job", "stop")

    def __init__(self, stop: Callable[[int], None]) -> None:
        self.due = math.inf
        self.job = 0
        self.cpu: tuple[int, float] | None = None
        self.stop = stop

    def left(self) -> float:
        """Return the seconds of CPU time that the job has left, or 0 where `due` decides."""
        if self.cpu is None:
            return 0.0
        clock, end = self.cpu
        try:
            return end - time.clock_gettime(clock)
        except OSError:  # the thread is gone, and its job with it
            return 1.0


def _nothing(_job: int) -> None:
    pass


class Watchdog:
    """The thread and the slots it watches. `Watchdog.shared()` is this process's.

    Attributes:
        slots: those that are registered.
    """

    _shared: Watchdog | None = None
    _shared_lock = threading.Lock()

    def __init__(self) -> None:
        self.slots: set[Slot] = set()
        self.forget_thread()

    def forget_thread(self) -> None:
        """Be as new, but for the slots."""
        self._lock = threading.Lock()
        self._gate = Gate()
        self._wake = math.inf
        self._thread: threading.Thread | None = None

    @classmethod
    def shared(cls) -> Watchdog:
        """Return this process's watchdog; its thread starts with the first job that has a deadline."""
        if cls._shared is None:
            with cls._shared_lock:
                if cls._shared is None:
                    cls._shared = cls()
        return cls._shared

    @classmethod
    def after_fork(cls) -> None:
        """Let the first job with a deadline start another thread, for this one does not survive a fork."""
        cls._shared_lock = threading.Lock()
        if cls._shared is not None:
            cls._shared.forget_thread()

    def register(self, stop: Callable[[int], None]) -> Slot:
        """Return a new slot; the watchdog's thread calls `stop` with the number of a job that is overdue.

        A call may still be under way when `unregister` returns: `stop` must refer to the memory that it writes to.
        """
        slot = Slot(stop)
        self.slots.add(slot)
        return slot

    def unregister(self, slot: Slot) -> None:
        """Forget a slot and its `stop`, and with it the memory that it refers to. Never waits."""
        slot.due = math.inf
        slot.stop = _nothing
        self.slots.discard(slot)

    def arm(self, slot: Slot, job: int, seconds: float) -> None:
        """Say that the slot's job number `job` is due in so many seconds. `disarm` is ``slot.due = math.inf``.

        Raises:
            RuntimeError: the watchdog's thread cannot be started: the job must not run.
            MemoryError: there is no memory for that thread.
        """
        due = time.monotonic() + seconds
        slot.job = job
        slot.due = due
        if due < self._wake:
            if self._thread is None:
                self._start()
            self._gate.open()

    def _start(self) -> None:
        with held(), self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="parallel_exec watchdog", daemon=True)
                thread.start()
                self._thread = thread  # not before: if it cannot be started, the next job tries again

    def _run(self) -> None:
        while True:
            self._gate.close()
            self._wake = math.inf
            self._wake = wake = self.stop_overdue()
            self._gate.wait(-1 if wake == math.inf else max(0.0, wake - time.monotonic()))

    def stop_overdue(self) -> float:
        """Tell overdue jobs to stop; return when to look again. No reference to a sandbox's memory is kept."""
        now = time.monotonic()
        wake = math.inf
        for slot in self.slots.copy():
            job, due = slot.job, slot.due
            if due <= now and (left := slot.left()) > 0.0:
                wake = min(wake, now + max(left, 0.001))
            elif due <= now:
                slot.stop(job)
                # The job may end and the next begin at any point here; it is then due later, and `stop` names a job
                # that is over. A job that goes on is told again.
                wake = min(wake, now + 0.01)
            else:
                wake = min(wake, due)
        return wake


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Watchdog.after_fork)
