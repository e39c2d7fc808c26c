"""Stopping jobs that nobody waits for any more, wherever they are (README: stopped while it runs)."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError

from parallel_exec.pool._scheduling.collecting import Collecting
from parallel_exec.pool._scheduling.job import Job
from parallel_exec.pool._scheduling.process_target import ProcessTarget
from parallel_exec.pool._scheduling.processes import Worker
from parallel_exec.pool._scheduling.scheduler import Scheduler
from parallel_exec.pool._scheduling.supervisor import Supervisor

# How long a job that was stopped may go on before its worker is killed; a new one takes a few milliseconds.
LINGER_S = 0.02


class Stops:
    """Owners (futures and maps) whose jobs are to be stopped, and workers that go on running such a job.

    All but `ask` is called by whoever collects, with the pool's lock held.

    Args:
        take: takes the results that a worker has sent.
        collecting: keeps the collector awake for what is to be done here.
    """

    def __init__(
        self,
        scheduler: Scheduler[Job[ProcessTarget]],
        supervisor: Supervisor,
        take: Callable[[Worker], None],
        collecting: Collecting,
    ) -> None:
        self._scheduler = scheduler
        self._supervisor = supervisor
        self._take = take
        self._collecting = collecting
        self._owners: deque[object] = deque()
        self._lingering: list[tuple[float, Worker, int]] = []  # when to kill which worker if it still has which job

    @property
    def asked(self) -> bool:
        """Whether there is something to carry out."""
        return bool(self._owners)

    @property
    def due(self) -> float:
        """The time of `time.monotonic` at which to call `kill_lingering`; infinite for never."""
        return min([due for due, _, _ in self._lingering], default=math.inf)

    def ask(self, owner: object) -> None:
        """Have all jobs of an owner stopped; any thread may call this."""
        self._collecting.need(owner)
        self._owners.append(owner)

    def carry_out(self) -> list[tuple[Job[ProcessTarget], CancelledError]]:
        """Stop what is to be stopped; return the jobs, which have thereby failed."""
        stopped = []
        while self._owners:
            owner = self._owners.popleft()
            stopped += [(job, CancelledError()) for job in self._stop(owner)]
            self._collecting.dismiss(owner)
        return stopped

    def _stop(self, owner: object) -> list[Job[ProcessTarget]]:
        def unwanted(job: Job[ProcessTarget]) -> bool:
            return job.owner is owner

        for ident, last in self._scheduler.holders(unwanted):
            worker = self._supervisor.workers[ident]
            running = worker.block.revoke(last)
            self._scheduler.take_back(ident, running)
            # Having begun nothing else, and getting nothing else before it has ended this, it has nothing to lose.
            job = self._scheduler.job(ident, running)
            if job is not None and unwanted(job):
                self._lingering.append((time.monotonic() + LINGER_S, worker, running))
                self._collecting.need(self)
        return self._scheduler.in_flight(unwanted) + self._scheduler.discard(unwanted)

    def kill_lingering(self, now: float) -> None:
        """Replace the workers that have gone on for too long."""
        for due, worker, sequence in self._lingering:
            if due <= now and worker.id in self._supervisor.workers:
                self._take(worker)
                if self._scheduler.job(worker.id, sequence) is not None:
                    self._supervisor.retire(worker)
        self._lingering = [each for each in self._lingering if each[0] > now]
        if not self._lingering:
            self._collecting.dismiss(self)
