"""What workers report: taken out of their rings, counted out, and kept until the jobs have been ended."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from parallel_exec.pool._scheduling.job import Job
from parallel_exec.pool._scheduling.processes import Worker, WorkerState
from parallel_exec.pool._scheduling.scheduler import Scheduler
from parallel_exec.pool._stats import Tally
from parallel_exec.pool._transport.messages import REVOKED, Entry, end_jobs, is_plain


class Reports:
    """The reports of a pool's workers. They are taken with the pool's lock held, and one thread at a time ends jobs.

    Guarantees: an exception at any point (Ctrl-C) loses no job. It is kept until it has been ended, or has not been
    counted out: then it is its worker's still.

    Args:
        scheduler: counts the jobs out.
        condemn: has a worker killed that reports what cannot be.
    """

    def __init__(self, scheduler: Scheduler[Job], condemn: Callable[[Worker, str], None]) -> None:
        self._scheduler = scheduler
        self._condemn = condemn
        self._done: deque[tuple[list[Job | None], list[Entry], bytes, Tally]] = deque()

    def take_all(self, workers: Mapping[int, Worker]) -> None:
        """Count out what the workers have ended."""
        for worker in list(workers.values()):
            if worker.block.results.unread:
                self.take(worker)

    def take(self, worker: Worker) -> None:
        """Count out what a worker has ended."""
        if worker.state is WorkerState.CONDEMNED:
            return
        taken, fault = worker.take_reports()
        if fault:
            self._condemn(worker, f"it broke the protocol: {fault}")
        if not taken:
            return
        worker.since = time.monotonic()
        tally = worker.tally
        for sequence, entries, payload in taken:
            jobs = self._scheduler.jobs(worker.id, sequence, len(entries))
            self._done.append((jobs, entries, payload, tally))
            self._scheduler.finished(worker.id, sequence, len(entries))
            tally.bytes_out += len(payload)
            for job, entry in zip(jobs, entries, strict=True):
                if job is None:
                    continue
                if entry[0] == REVOKED:
                    self._scheduler.requeue([job])  # nobody has it (README: taken back)
                else:
                    job.target.ran(entry[4])
                    tally.add(job, entry)

    @property
    def are_plain(self) -> bool:
        """Whether `end_jobs` runs no code of the user's."""
        return all(is_plain(jobs, entries) for jobs, entries, _, _ in self._done)

    def end_jobs(self) -> None:
        """End the jobs that were counted out. Callbacks of their futures run here, and may use the pool: so it is
        called without the pool's lock.
        """
        while self._done:
            jobs, entries, payload, tally = self._done[0]
            end_jobs(jobs, entries, payload, tally.failed)
            self._done.popleft()
