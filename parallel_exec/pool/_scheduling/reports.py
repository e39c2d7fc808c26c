"""What workers report: taken out of their rings, counted out, and kept until the jobs have been ended."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import orjson

from parallel_exec.errors import PexecError
from parallel_exec.pool._scheduling.job import Job
from parallel_exec.pool._scheduling.process_target import ProcessTarget
from parallel_exec.pool._scheduling.processes import Worker, WorkerState
from parallel_exec.pool._scheduling.scheduler import Scheduler
from parallel_exec.pool._stats import Tally
from parallel_exec.pool._transport.frames import DONE, FAILED, REVOKED, Entry, load_error

_console = logging.getLogger("parallel_exec.console")


class Reports:
    """The reports of a pool's workers. They are taken with the pool's lock held, and one thread at a time ends jobs.

    Args:
        scheduler: counts the jobs out.
        kill: has a worker killed that reports what cannot be.
    """

    def __init__(self, scheduler: Scheduler[Job[ProcessTarget]], kill: Callable[[Worker, str], None]) -> None:
        self._scheduler = scheduler
        self._kill = kill
        self._done: deque[tuple[Sequence[Job[ProcessTarget] | None], Sequence[Entry], bytes, Tally]] = deque()

    def take_all(self, workers: Mapping[int, Worker]) -> None:
        """Count out what the workers have ended."""
        for worker in list(workers.values()):
            if worker.block.results.unread:
                self.take(worker)

    def take(self, worker: Worker) -> None:
        """Count out what a worker has ended."""
        if worker.state is WorkerState.BROKEN:
            return
        taken, fault = worker.take_reports()
        if fault:
            self._kill(worker, f"it broke the protocol: {fault}")
        if not taken:
            return
        worker.since = time.monotonic()
        tally = worker.tally
        for sequence, entries, payload in taken:
            jobs = self._scheduler.finished(worker.id, sequence, len(entries))
            self._done.append((jobs, entries, payload, tally))
            tally.bytes_out += len(payload)
            for job, entry in zip(jobs, entries, strict=True):
                if job is None:
                    continue
                if entry[0] == REVOKED:
                    self._scheduler.requeue([job])  # nobody has it (README: taken back)
                else:
                    job.target.ran(entry[4])
                    tally.add(job, entry)

    def end_jobs(self) -> None:
        """End the jobs that were counted out. Callbacks of their futures run here, and may use the pool: so it is
        called without the pool's lock.
        """
        while self._done:
            jobs, entries, payload, tally = self._done.popleft()
            _end_jobs(jobs, entries, payload, tally.failed)


def _end_jobs(
    jobs: Sequence[Job[ProcessTarget] | None],
    entries: Sequence[Entry],
    payload: bytes,
    failed: Callable[[PexecError], None],
) -> None:
    """End the jobs that a report is about, and log what their plugin wrote to its console.

    Args:
        jobs: as many as there are entries; None for a job that has left the books.
        entries: what the worker says of them.
        payload: their console records and results.
        failed: is told the errors of those that the plugin failed.
    """
    at = 0
    for job, (status, kind, console_length, length, *_) in zip(jobs, entries, strict=True):
        begin = at + console_length
        content = payload[begin : begin + length]  # of bytes the whole of which it is: no copy
        if console_length and job is not None:
            _log(payload[at:begin], job)
        at = begin + length
        if job is None:
            continue
        if status == DONE:
            job.finish(kind, content)
        elif status == FAILED:
            error = load_error(content)
            failed(error)
            job.fail(error)


def _log(records: bytes, job: Job[ProcessTarget]) -> None:
    try:
        for level, text in orjson.loads(records):
            _console.log(int(level), "%s", text)
    except (ValueError, TypeError):
        job.fail(PexecError("the job's console records cannot be read"))
