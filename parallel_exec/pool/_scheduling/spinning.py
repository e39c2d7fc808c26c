"""Looking for the result of a short job instead of sleeping until it comes.

To be woken costs a thread some 30 us on an idle machine, and a result that the collector takes from a ring for another
thread costs two of that. So the thread that asks for the result of a job which takes less looks at the ring itself for
a while, and takes the result from there; the collector sleeps on. Only one that is the pool's only job is waited for
like that, by one thread.

That thread may hold locks of its user's. So it runs none of the user's code, such as callbacks: reports of jobs that
would are left to the collector, and so is whatever there is to do but to end a job.

Where CPUs are scarce the worker may have to wait for the very CPU that this thread uses up. Looking in vain is
therefore not repeated soon.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from parallel_exec.pool._future import JobFuture
from parallel_exec.pool._scheduling.duty import Duty
from parallel_exec.pool._scheduling.job import Job
from parallel_exec.pool._scheduling.processes import Worker
from parallel_exec.pool._scheduling.scheduler import Scheduler
from parallel_exec.pool._transport.bell import Wakeup
from parallel_exec.pool._transport.ring import Ring

# How long is looked at most. On an idle machine a tiny job's result is there some 60 us after it was sent.
SPIN_S = 200e-6
# To look in vain costs more than looking gains: a failure weighs two, a success takes one of that back, and after a
# failure so many results are left to the collector as two to the power of the weight, which is this at most.
MOST_WEIGHT = 10


class Spinner:
    """Takes the results of short jobs in the thread that waits for them.

    Args:
        lock: the pool's.
        taking: whoever takes results and ends jobs holds this.
        collect: takes results and ends jobs, with `taking` held and, while it ends them, the lock that it is given;
            False: it left something to the collector.
        scheduler: knows which workers have jobs.
        workers: of the pool, by their number.
        duty: knows whether there is anything else to do.
        wakeup: wakes the collector.
    """

    def __init__(
        self,
        lock: threading.Lock,
        taking: threading.Lock,
        collect: Callable[[threading.RLock], bool],
        scheduler: Scheduler[Job],
        workers: dict[int, Worker],
        duty: Duty,
        wakeup: Wakeup,
    ) -> None:
        self._lock = lock
        self._taking = taking
        self._collect = collect
        self._scheduler = scheduler
        self._workers = workers
        self._duty = duty
        self._wakeup = wakeup
        # Held by whoever gives a future callbacks. Reentrant: a collection of garbage may run a finalizer that does.
        self._plain = threading.RLock()
        self._weight = 0  # of looking in vain
        self._pause = 0  # how many results are left to the collector from now on

    def wait(self, future: JobFuture, timeout: float | None) -> None:
        """Wait for the result of a short job for some microseconds, if the job is all there is to do.

        Args:
            future: the job's.
            timeout: seconds to wait at most; if they are few, the result is left to the collector.
        """
        # Not held up by a collector that is busy, with callbacks perhaps, nor by another thread that looks.
        if not self._duty.is_alone(future) or self._taking.locked() or (timeout is not None and timeout < SPIN_S):
            return
        if self._pause > 0:
            self._pause -= 1
            return
        with self._taking:
            self._look(future, time.monotonic() + SPIN_S)
        if self._duty.is_pending(future):
            self._weight = min(self._weight + 2, MOST_WEIGHT)
            self._pause = 1 << self._weight
        else:
            self._weight = max(self._weight - 1, 0)

    def leave(self, future: JobFuture) -> None:
        """Have the future's job, if it has not ended, ended by the collector."""
        with self._plain:
            future.spinner = None

    def _look(self, future: JobFuture, until: float) -> None:
        with self._lock:
            rings = self._busy_rings()
        try:
            if not self._look_at(rings, future, until):
                self._wakeup.ring()
        except BaseException:
            self._wakeup.ring()
            raise

    def _busy_rings(self) -> list[Ring]:
        busy = [worker for worker in self._workers.values() if self._scheduler.is_busy(worker.id)]
        return [worker.block.results for worker in busy]

    def _look_at(self, rings: Sequence[Ring], future: JobFuture, until: float) -> bool:
        """Look until the result is there or the time is over; return whether nothing is left to the collector."""
        for ring in rings:
            ring.wake()
        complete = True
        # The time counts also while something is unread: of a worker that cannot be trusted nothing is taken.
        while complete and self._duty.is_pending(future) and time.monotonic() < until:
            if any(ring.unread for ring in rings):
                complete = self._take()
        # All of them: those that are not looked at any more have to ring the collector.
        asleep = [ring.doze() for ring in rings]
        return complete and all(asleep)

    def _take(self) -> bool:
        try:
            return self._collect(self._plain)
        except BaseException:
            self._duty.torn()
            raise
