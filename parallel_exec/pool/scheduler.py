"""Which job is where: waiting in the parent, in flight at a worker, or done. Pure bookkeeping, no I/O and no locks.

Jobs wait in one queue, and every worker has a small window of jobs in flight: large enough that it finds the next job
when it ends one, small enough that little is stuck behind a slow job, that cancelling works for nearly everything, and
that a dying worker has little to hand back.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

WINDOW_JOBS = 4
# More than two jobs only as far as they lie in the worker's ring; two, so that the next is there when one ends.
WINDOW_BYTES = 400 << 10
PAIR_BYTES = 8 << 20

# Deaths of workers with no job finished in between, and each within so many seconds of the one before.
CRASHES_PER_WORKER = 2
CRASHES_AT_LEAST = 8
CRASH_ROW_S = 30.0


class Task(Protocol):
    """What the scheduler has to know of a job."""

    @property
    def id(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def claimed(self) -> bool: ...
    def claim(self) -> bool: ...


T = TypeVar("T", bound=Task)


class Window(Generic[T]):
    """One worker's jobs in flight, in the order in which they were handed to it."""

    __slots__ = ("bytes", "jobs", "open")

    def __init__(self) -> None:
        self.jobs: OrderedDict[int, T] = OrderedDict()
        self.bytes = 0
        self.open = True

    def has_room(self, size: int) -> bool:
        """Whether one more job of this size fits; a job of any size fits an empty window."""
        if not self.open or not self.jobs:
            return self.open
        return len(self.jobs) < WINDOW_JOBS and self.bytes + size <= (
            WINDOW_BYTES if len(self.jobs) > 1 else PAIR_BYTES
        )

    def put(self, job: T) -> None:
        """Count the job in."""
        self.jobs[job.id] = job
        self.bytes += job.size

    def take(self, job_id: int) -> T | None:
        """Count the job out and return it, if it is here."""
        job = self.jobs.pop(job_id, None)
        if job is not None:
            self.bytes -= job.size
        return job


class Scheduler(Generic[T]):
    """Guarantees: a job is in the queue or in exactly one window until it is finished, failed, cancelled or drained;
    jobs leave the queue in the order they came, and those of a lost worker go back to its front, in their order.
    """

    def __init__(self) -> None:
        self._queue: deque[T] = deque()
        self._windows: dict[int, Window[T]] = {}
        self._assigning: tuple[int, T] | None = None
        self._crashes = 0
        self._last_crash = 0.0

    @property
    def idle(self) -> bool:
        """Whether no job waits or is in flight."""
        return not self._queue and not any(window.jobs for window in self._windows.values())

    def add_worker(self, worker: int) -> None:
        """A worker is there to take jobs."""
        self._windows[worker] = Window()

    def add(self, job: T) -> None:
        """A job waits."""
        self._queue.append(job)

    def close_window(self, worker: int) -> None:
        """The worker is to get no more jobs; it is about to be lost."""
        self._windows[worker].open = False

    def assign(self) -> Iterator[tuple[int, T]]:
        """Move jobs from the queue to the windows with the least in them, yielding each as (worker, job), until nothing
        waits or no window has room. Cancelled jobs are dropped.

        When an exception ends the loop over this, whatever it is and wherever it hit, `undo` makes the books right
        again.
        """
        while self._queue:
            job = self._queue[0]
            worker = self._emptiest(job.size)
            if worker is None:
                return
            if not job.claim():
                self._queue.popleft()
                continue
            self._assigning = worker, job
            self._queue.popleft()
            self._windows[worker].put(job)
            yield worker, job
            self._assigning = None

    def undo(self) -> None:
        """The job that `assign` yielded last was not handed over, or nobody knows: it comes first again."""
        if self._assigning is None:
            return
        worker, job = self._assigning
        window = self._windows.get(worker)
        if window is not None and window.jobs.pop(job.id, None) is not None:
            window.bytes = sum(each.size for each in window.jobs.values())
        if not self._queue or self._queue[0] is not job:
            self._queue.appendleft(job)
        self._assigning = None

    def finished(self, worker: int, job_id: int) -> T | None:
        """The worker has ended the job, well or badly. None: it never had it, or it has been counted out already."""
        window = self._windows.get(worker)
        job = window.take(job_id) if window is not None else None
        if job is not None:
            self._crashes = 0
        return job

    def lost(self, worker: int, running: int) -> T | None:
        """The worker is dead. Requeue what it had not started and return the job that it was running, if it was.

        Args:
            worker: its id.
            running: id of the job it was running, 0 for none.
        """
        window = self._windows.pop(worker)
        failed = window.take(running)
        self._queue.extendleft(reversed(window.jobs.values()))
        return failed

    def count_crash(self, now: float) -> None:
        """A process of the pool died, at this many seconds of a monotonic clock."""
        self._crashes = self._crashes + 1 if now - self._last_crash < CRASH_ROW_S else 1
        self._last_crash = now

    def hopeless(self, workers: int) -> bool:
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
        for worker in self._windows:
            self._windows[worker] = Window()
        jobs.extend(self._queue)
        self._queue.clear()
        return jobs

    def _emptiest(self, size: int) -> int | None:
        best, least = None, WINDOW_JOBS
        for worker, window in self._windows.items():
            if len(window.jobs) < least and window.has_room(size):
                best, least = worker, len(window.jobs)
        return best
