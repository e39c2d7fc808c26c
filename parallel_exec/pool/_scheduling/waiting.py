"""Waiting for results and whatever else happens in a pool: for how long, and what is overdue by then."""

from __future__ import annotations

import math
import threading

from parallel_exec.pool._scheduling.duty import Duty
from parallel_exec.pool._scheduling.job import Job
from parallel_exec.pool._scheduling.publisher import Publisher
from parallel_exec.pool._scheduling.scheduler import Scheduler
from parallel_exec.pool._scheduling.stopping import Stops
from parallel_exec.pool._scheduling.supervisor import Supervisor
from parallel_exec.pool._transport.poller import Poller

# While a worker has nothing to do and another one has jobs that it has not begun, how long a job may take until those
# are taken back.
STALL_S = 0.001
# Longest wait for a bell while results may be there that are announced with later ones only, which may take long.
QUIET_S = 0.003


class Waiting:
    """What whoever collects does while no result is there (`Core._step`).

    Args:
        taking: held by whoever takes results, and here while workers may be buried.
        lock: the pool's.
        The others are the pool's parts.
    """

    def __init__(
        self,
        taking: threading.Lock,
        lock: threading.Lock,
        poller: Poller,
        scheduler: Scheduler[Job],
        supervisor: Supervisor,
        stops: Stops,
        publisher: Publisher,
        duty: Duty,
    ) -> None:
        self._taking = taking
        self._lock = lock
        self._poller = poller
        self._scheduler = scheduler
        self._supervisor = supervisor
        self._workers = supervisor.workers
        self._stops = stops
        self._publisher = publisher
        self._duty = duty
        self._check_at = math.inf

    def check_by(self, when: float) -> None:
        """Something may be overdue at this time of `time.monotonic`, and not only when the last check said."""
        self._check_at = min(self._check_at, when)

    def wait(self, timeout: float | None, now: float, *, leave: bool) -> bool:
        """Wait for something to happen and deal with all but results.

        Args:
            timeout: seconds to wait at most.
            now: the time of `time.monotonic`.
            leave: leave what is not a result to another call of this.

        Returns:
            False if there is something that was left.
        """
        with self._lock:
            starving = self._scheduler.starving()
            unannounced = self._scheduler.unannounced
        if starving and (timeout is None or timeout > STALL_S):
            timeout = STALL_S
        elif unannounced and (timeout is None or timeout > QUIET_S):
            timeout = QUIET_S
        if timeout is None or now + timeout > self._check_at:
            if now >= self._check_at:
                if leave and self._is_overdue(now):
                    return False
                self._check(now)
            if self._check_at < math.inf:
                timeout = min(self._check_at - now, math.inf if timeout is None else timeout)
        results = [worker.block.results for worker in self._workers.values()]
        sleeps = all(ring.doze() for ring in results)
        try:
            handlers = self._poller.wait(timeout if sleeps else 0.0)
        finally:
            for ring in results:
                ring.wake()
        if leave and any(handler != self._supervisor.silence for handler in handlers):
            return False
        with self._taking, self._lock:
            for handler in handlers:
                handler()
            if handlers:
                self._duty.tell_attendants()
            if starving and not handlers and self._scheduler.starving():
                self._take_back()
        return True

    def _is_overdue(self, now: float) -> bool:
        with self._lock:
            return self._stops.due <= now or bool(self._supervisor.overdue(now))

    def _check(self, now: float) -> None:
        """Kill what is overdue, and find out when to check again."""
        with self._lock:
            self._supervisor.kill_overdue(now)
            self._stops.kill_lingering(now)
            # What is handed over from now on is due no earlier than this.
            within = now + self._publisher.least_patience_s
            self._check_at = min(self._supervisor.next_due(), within, self._stops.due)

    def _take_back(self) -> None:
        """Hand what a worker with a long job has not begun to those that have nothing to do."""
        worker, sequence = self._scheduler.busiest()
        self._scheduler.take_back(worker, self._workers[worker].block.revoke(sequence))
