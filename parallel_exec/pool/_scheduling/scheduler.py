"""Which job is where: waiting in the parent, in flight at a worker, or done. Pure bookkeeping, no I/O and no locks.

Jobs wait in one queue, and every worker has a small window of jobs in flight: large enough that it finds the next job
when it ends one, small enough that little is stuck behind a slow job, that cancelling works for nearly everything, and
that a dying worker has little to hand back. Jobs travel in batches: one job, or several tiny ones.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from parallel_exec.pool._scheduling.process_target import ProcessTarget
from parallel_exec.pool._transport.block import RESERVE, RING_BYTES

# Batches in flight per worker.
WINDOW_BATCHES = 8
# More than two batches only as far as they lie in the worker's ring; two, so that the next is there when one ends.
WINDOW_BYTES = RING_BYTES - RESERVE
PAIR_BYTES = 8 << 20
# Documents that travel together are tiny: a job with one of 16 KiB takes longer than a batch's own costs.
BATCH_BYTES = 16 << 10

# Deaths of workers with no job finished in between, and each within so many seconds of the one before.
CRASHES_PER_WORKER = 2
CRASHES_AT_LEAST = 8
CRASH_ROW_S = 30.0


class Task(Protocol):
    """What the scheduler has to know of a job."""

    @property
    def size(self) -> int: ...
    @property
    def kind(self) -> int: ...
    @property
    def target(self) -> ProcessTarget: ...
    @property
    def patient(self) -> bool: ...
    @property
    def claimed(self) -> bool: ...
    def claim(self) -> bool: ...


T = TypeVar("T", bound=Task)


class Batch(Generic[T]):
    """Jobs of one target that travel together.

    Attributes:
        worker: whom they are handed to.
        sequence: the first one's number among all jobs of that worker; the others follow.
        quiet: whether the worker need not announce their results while it has enough to do.
        alone: whether the worker had nothing to do before.
    """

    __slots__ = ("alone", "jobs", "quiet", "sequence", "worker")

    def __init__(self, worker: int, sequence: int) -> None:
        self.worker = worker
        self.sequence = sequence
        self.quiet = self.alone = False
        self.jobs: list[T] = []


class Window(Generic[T]):
    """One worker's jobs in flight, by their sequence, in the order in which they were handed to it."""

    __slots__ = ("bytes", "domain", "ends", "jobs", "next", "open", "quiet_until", "stalled", "worker")

    def __init__(self, worker: int) -> None:
        self.worker = worker
        self.jobs: dict[int, T] = {}
        self.ends: deque[int] = deque()  # the sequence behind each batch
        self.bytes = 0
        self.next = 1
        self.domain: str | None = None  # of all its jobs so far, once there is one
        self.open = True
        self.quiet_until = 0  # the sequence behind the last quiet batch
        self.stalled = False  # jobs were taken back from it, and it has not ended one since

    def take(self, sequence: int) -> T | None:
        """Count the job out and return it, if it is here."""
        job = self.jobs.pop(sequence, None)
        if job is not None:
            self.bytes -= job.size
        return job


class Scheduler(Generic[T]):
    """Guarantees: a job is in the queue or in exactly one window until it is finished, failed, cancelled or drained;
    jobs leave the queue in the order they came, and those of a lost or a busy worker go back to its front, in their
    order.
    """

    def __init__(self, jobs_per_worker: int | None = None) -> None:
        """Begin without workers.

        Args:
            jobs_per_worker: how many jobs a worker is given at most; then it has to be replaced.
        """
        self._most_jobs = jobs_per_worker or math.inf
        self._queue: deque[T] = deque()
        self._windows: dict[int, Window[T]] = {}
        self._crashes = 0
        self._last_crash = 0.0

    @property
    def idle(self) -> bool:
        """Whether no job waits or is in flight."""
        return not self._queue and not any(window.jobs for window in self._windows.values())

    @property
    def counts(self) -> tuple[int, int]:
        """How many jobs wait, and how many are in flight."""
        return len(self._queue), sum(len(window.jobs) for window in self._windows.values())

    def add_worker(self, worker: int) -> None:
        """A worker is there to take jobs."""
        self._windows[worker] = Window(worker)

    def add(self, jobs: Sequence[T]) -> None:
        """Jobs wait."""
        self._queue.extend(jobs)

    def close_window(self, worker: int) -> None:
        """The worker is to get no more jobs; it is about to be lost."""
        self._windows[worker].open = False

    def assign(self) -> Iterator[Batch[T]]:
        """Move jobs from the queue to the windows with the least in them, yielding batch by batch, until nothing waits
        or no window has room. Cancelled jobs are dropped.
        """
        queue = self._queue
        while queue:
            job = queue[0]
            window = self._emptiest(job.size, job.target.domain)
            if window is None:
                return
            if not job.claim():
                queue.popleft()
                continue
            batch: Batch[T] = Batch(window.worker, window.next)
            jobs, target = batch.jobs, job.target
            jobs.append(job)
            queue.popleft()
            size = job.size
            window.domain = target.domain
            if target.batch > 1 and size < BATCH_BYTES and job.patient:
                size = self._fill(batch, size)
            window.next += len(jobs)
            window.ends.append(window.next)
            window.bytes += size
            if len(jobs) == 1:
                window.jobs[batch.sequence] = job
            else:
                window.jobs.update(zip(range(batch.sequence, window.next), jobs, strict=True))
            batch.alone = len(window.jobs) == len(jobs)
            batch.quiet = target.quiet
            yield batch
            if batch.quiet:  # still: whoever hands it over may know better
                window.quiet_until = window.next

    def _fill(self, batch: Batch[T], size: int) -> int:
        """Add jobs of the same target, as long as they are tiny; return the bytes of all."""
        queue, jobs = self._queue, batch.jobs
        target, kind = jobs[0].target, jobs[0].kind
        most = min(
            target.batch, len(queue) // len(self._windows) + 1, self._most_jobs - batch.sequence + 1
        )  # a few jobs are for all workers, too
        while queue and len(jobs) < most:
            job = queue[0]
            if job.target is not target or job.kind != kind or not job.patient or size + job.size > BATCH_BYTES:
                break
            if job.claim():
                jobs.append(job)
                size += job.size
            queue.popleft()
        return size

    def withdraw(self, batch: Batch[T]) -> None:
        """The batch that `assign` yielded last could not be handed over: take it out of the books."""
        window = self._windows[batch.worker]
        for sequence in range(batch.sequence, batch.sequence + len(batch.jobs)):
            window.take(sequence)
        window.ends.pop()

    def finished(self, worker: int, sequence: int, count: int) -> list[T | None]:
        """The worker has ended so many jobs from this sequence on, well or badly. None: it never had that one, or it
        has been counted out already.
        """
        window = self._windows.get(worker)
        if window is None:
            return [None] * count
        if count == 1:
            jobs = [window.take(sequence)]
        else:
            jobs = [window.take(number) for number in range(sequence, sequence + count)]
        ends = window.ends
        while ends and ends[0] <= sequence + count:
            ends.popleft()
        window.stalled = False
        if jobs[0] is not None:
            self._crashes = 0
        return jobs

    def job(self, worker: int, sequence: int) -> T | None:
        """The job with this sequence, if it is in flight at the worker."""
        window = self._windows.get(worker)
        return None if window is None else window.jobs.get(sequence)

    def first(self, worker: int) -> T | None:
        """The first job in flight at the worker."""
        return next(iter(self._windows[worker].jobs.values()), None)

    def requeue(self, jobs: Sequence[T]) -> None:
        """Jobs that had been handed over come first again, in their order."""
        self._queue.extendleft(reversed(jobs))

    @property
    def hungry(self) -> bool:
        """Whether a worker could do with more jobs than wait."""
        return not self._queue and any(
            window.open and len(window.ends) < WINDOW_BATCHES // 2 for window in self._windows.values()
        )

    def spent(self) -> int | None:
        """A worker that has nothing to do and has to be replaced by a new one: it has had its number of jobs, or it may
        not run the next job's domain, and none that may is there.
        """
        idle = [window.worker for window in self._windows.values() if not window.jobs and window.open]
        for worker in idle:
            if self._windows[worker].next > self._most_jobs:
                return worker
        if not idle or not self._queue:
            return None
        job = self._queue[0]
        if self._emptiest(job.size, job.target.domain) is not None:
            return None
        return next((worker for worker in idle if self._windows[worker].domain != job.target.domain), None)

    def starving(self) -> bool:
        """Whether a worker has nothing to do while another one has more than a job."""
        if self._queue or len(self._windows) < 2:
            return False
        counts = [len(window.jobs) for window in self._windows.values() if window.open and not window.stalled]
        return 0 in counts and max(counts) > 1

    @property
    def unannounced(self) -> bool:
        """Whether a worker has a batch in flight whose end it need not announce before it sleeps."""
        return any(window.jobs and next(iter(window.jobs)) < window.quiet_until for window in self._windows.values())

    def stalled(self, worker: int) -> bool:
        """Whether jobs were taken back from the worker and it has not reported since: it owes at least that."""
        return self._windows[worker].stalled

    def take_back(self, worker: int, running: int) -> None:
        """Take back from a busy worker, which has been told, what it has not begun.

        Args:
            worker: its id.
            running: the sequence that it has begun last.
        """
        window = self._windows[worker]
        later = [sequence for sequence in window.jobs if sequence > running]
        self.requeue([job for job in map(window.take, later) if job is not None])
        window.ends.clear()
        window.ends.append(running + 1)
        window.stalled = True

    def discard(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Remove the unwanted among the jobs that wait, and return them."""
        gone = [job for job in self._queue if unwanted(job)]
        if gone:
            self._queue = deque(job for job in self._queue if not unwanted(job))
        return gone

    def in_flight(self, wanted: Callable[[T], bool]) -> list[T]:
        """Such jobs that workers have."""
        return [job for window in self._windows.values() for job in window.jobs.values() if wanted(job)]

    def holders(self, wanted: Callable[[T], bool]) -> list[tuple[int, int]]:
        """The workers that have such jobs in flight, and the sequence of the last job of each."""
        windows = self._windows.values()
        return [(each.worker, each.next - 1) for each in windows if any(map(wanted, each.jobs.values()))]

    def busiest(self) -> tuple[int, int]:
        """The worker with the most jobs in flight, and the sequence of the last of them."""
        window = max((each for each in self._windows.values() if each.open), key=lambda each: len(each.jobs))
        return window.worker, window.next - 1

    def lost(self, worker: int, running: int) -> T | None:
        """The worker is dead. Requeue what it had not started and return the job that it was running, if it was.

        Args:
            worker: its id.
            running: the sequence that it has begun last, 0 for none.
        """
        window = self._windows.pop(worker)
        failed = window.take(running)
        self.requeue(list(window.jobs.values()))
        return failed

    def count_crash(self, now: float) -> None:
        """A process of the pool died, at this many seconds of a monotonic clock."""
        self._crashes = self._crashes + 1 if now - self._last_crash < CRASH_ROW_S else 1
        self._last_crash = now

    def crashes_too_often(self, workers: int) -> bool:
        """Whether so many processes died in a row, with no job finished in between, that starting more is pointless."""
        return self._crashes >= max(CRASHES_AT_LEAST, CRASHES_PER_WORKER * workers)

    def drain_unclaimed(self) -> list[T]:
        """Remove the jobs that wait and that no worker ever had, and return them."""
        unclaimed = [job for job in self._queue if not job.claimed]
        self._queue = deque(job for job in self._queue if job.claimed)
        return unclaimed

    def drain(self) -> list[T]:
        """Remove all jobs, those in flight first, and return them."""
        jobs = [job for window in self._windows.values() for job in window.jobs.values()]
        for window in self._windows.values():
            window.jobs.clear()
            window.ends.clear()
            window.bytes = 0
        jobs.extend(self._queue)
        self._queue.clear()
        return jobs

    def _emptiest(self, size: int, domain: str | None) -> Window[T] | None:
        """The window with the fewest batches that may take a job; one of any size fits an empty one."""
        best, least = None, WINDOW_BATCHES
        for window in self._windows.values():
            batches = len(window.ends)
            if batches >= least or not window.open or window.stalled or window.next > self._most_jobs:
                continue
            # Twice: the ring may skip so much at its end.
            if batches and window.bytes + 2 * size > (WINDOW_BYTES if batches > 1 else PAIR_BYTES) and window.jobs:
                continue
            if window.domain == domain or window.next == 1:
                best, least = window, batches
        return best
