"""What a pool has done: counted as reports come in, in constant memory, and read as frozen values.

Durations and fuel go into histograms with a bucket for each number of bits, so that counting one is an addition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from parallel_exec.pool._events import EventKind
from parallel_exec.pool._scheduling.job import Job
from parallel_exec.pool._transport.frames import Entry

_BUCKETS = 65
_SECONDS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))


@dataclass(frozen=True, slots=True, repr=False)
class Distribution:
    """How a quantity was distributed over jobs.

    Attributes:
        count: of how many jobs it is known.
        total: their sum, in seconds or instructions.
        buckets: how many values lay below ``2**i * unit`` and not below the half of that, for each ``i`` from 0.
        unit: what the buckets count in: a nanosecond or an instruction.
    """

    count: int
    total: float
    buckets: tuple[int, ...]
    unit: float

    @property
    def mean(self) -> float:
        """The mean; 0 of nothing."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """Return the value below which so many percent lie, to within a factor of two; 0 of nothing.

        >>> Distribution(4, 12.0, (0, 0, 2, 2), 1.0).percentile(50)
        4.0
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"percent must be from 0 to 100; got {percent}")
        rank = percent / 100 * self.count
        below = 0
        for bits, number in enumerate(self.buckets):
            if number and below + number >= rank:
                low, high = float((1 << bits) >> 1), float(1 << bits if bits else 0)
                return (low + (high - low) * max(0.0, rank - below) / number) * self.unit
            below += number
        return 0.0

    def __repr__(self) -> str:
        figures = (self.mean, self.percentile(50), self.percentile(99))
        mean, median, most = map(self.shown, figures)
        return f"<Distribution over {self.count:,} jobs: mean {mean}, median {median}, 99 % below {most}>"

    def shown(self, value: float) -> str:
        """Return a value of the distribution's as text.

        >>> Distribution(0, 0.0, (), 1e-9).shown(0.0000123456), Distribution(0, 0.0, (), 1.0).shown(12345.6)
        ('12.3 us', '12,346')
        """
        if self.unit == 1.0:
            return f"{value:,.0f}"
        unit, size = next(((unit, size) for unit, size in _SECONDS if value >= size), _SECONDS[-1])
        return f"{value / size:.3g} {unit}"


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class JobCounts:
    """Counts of jobs that have ended.

    Attributes:
        jobs: how many, failed ones included.
        failures: how many failed, by the name of the error's class.
        bytes_in, bytes_out: bytes of their documents, and of what came back: results, errors, console records.
        queue: seconds from when a job was submitted until a worker began it.
        run: seconds from its beginning until its result was ready, the reset included.
        reset: seconds that making the sandbox ready for the next job took.
        fuel: WebAssembly instructions, of those jobs whose limits have them counted.
    """

    jobs: int
    failures: Mapping[str, int]
    bytes_in: int
    bytes_out: int
    queue: Distribution
    run: Distribution
    reset: Distribution
    fuel: Distribution

    def __repr__(self) -> str:
        failed = ", ".join(f"{number:,} {name}" for name, number in self.failures.items()) or "none"
        medians = ", ".join(
            f"{name} {times.shown(times.percentile(50))}"
            for name, times in (("queue", self.queue), ("run", self.run), ("reset", self.reset))
        )
        return (
            f"<{type(self).__name__}{self._where()}: {self.jobs:,} jobs, failed: {failed}; "
            f"{self.bytes_in:,} bytes in, {self.bytes_out:,} out; medians: {medians}>"
        )

    def _where(self) -> str:
        return ""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class WorkerStats(JobCounts):
    """What a live worker has done.

    Attributes:
        worker: its number in its pool.
        pid: its process id, or None if it has not been forked yet; of a thread, this process's.
    """

    worker: int
    pid: int | None

    def _where(self) -> str:
        return f" {self.worker} (process {self.pid})"


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class PoolStats(JobCounts):
    """What a pool has done, in all, workers that are gone included.

    Attributes:
        workers: those that are alive.
        waiting: jobs that no worker has.
        in_flight: jobs that workers have and that have not ended.
        events: how many of each kind there were (`PoolEvent`).
        restarts: how many workers took the place of others.
    """

    workers: tuple[WorkerStats, ...] = ()
    waiting: int = 0
    in_flight: int = 0
    events: Mapping[EventKind, int] = field(default_factory=dict)

    def _where(self) -> str:
        return f" of {len(self.workers)} workers, {self.waiting:,} jobs waiting, {self.in_flight:,} in flight"

    @property
    def restarts(self) -> int:
        return sum(self.events.get(kind, 0) for kind in ("worker died", "worker killed", "worker retired"))


class Tally:
    """Counts that grow; for one thread at a time.

    Attributes:
        bytes_out: bytes that came back, counted by the report.
    """

    __slots__ = ("_failures", "_fuel", "_lost", "_queue", "_reset", "_run", "_sums", "bytes_out")

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self.bytes_out = self._lost = 0
        self._sums = [0] * 5  # of bytes in, queue, run, reset and fuel
        self._queue, self._run, self._reset, self._fuel = ([0] * _BUCKETS for _ in range(4))

    def add(self, job: Job[Any], entry: Entry) -> None:
        """Count a job that a worker has ended. This has to be quick."""
        _, _, _, _, run_ns, start_ns, reset_ns, fuel = entry
        waited = max(start_ns - job.queued_ns, 0)  # a worker can say anything
        sums = self._sums
        sums[0] += job.size
        sums[1] += waited
        sums[2] += run_ns
        sums[3] += reset_ns
        self._queue[waited.bit_length()] += 1
        self._run[run_ns.bit_length()] += 1
        self._reset[reset_ns.bit_length()] += 1
        if fuel:
            sums[4] += fuel
            self._fuel[fuel.bit_length()] += 1

    def failed(self, error: BaseException) -> None:
        """Count the class of a job that `add` has counted."""
        name = type(error).__name__
        self._failures[name] = self._failures.get(name, 0) + 1

    def lost(self, error: BaseException) -> None:
        """Count a job that no worker ended."""
        self._lost += 1
        self.failed(error)

    def merge(self, other: Tally) -> None:
        """Count what the other one has counted, too."""
        self.bytes_out += other.bytes_out
        self._lost += other._lost
        for name, number in list(other._failures.items()):
            self._failures[name] = self._failures.get(name, 0) + number
        mine = (self._sums, self._queue, self._run, self._reset, self._fuel)
        theirs = (other._sums, other._queue, other._run, other._reset, other._fuel)
        for to, of in zip(mine, theirs, strict=True):
            to[:] = map(int.__add__, to, of)

    def adopt(self, other: Tally) -> None:
        """As `merge`; from now on failures that the other one is told are counted here."""
        self.merge(other)
        other._failures = self._failures

    def worker(self, worker: int, pid: int | None) -> WorkerStats:
        """The counts as those of a worker."""
        return WorkerStats(worker=worker, pid=pid, **self._values())  # type: ignore[arg-type]

    def pool(
        self, workers: tuple[WorkerStats, ...], waiting: int, in_flight: int, events: Mapping[EventKind, int]
    ) -> PoolStats:
        """The counts as those of a pool."""
        return PoolStats(workers=workers, waiting=waiting, in_flight=in_flight, events=events, **self._values())  # type: ignore[arg-type]

    def _values(self) -> dict[str, object]:
        bytes_in, *totals = self._sums
        found: dict[str, object] = {"jobs": sum(self._run) + self._lost, "failures": dict(self._failures)}
        found |= {"bytes_in": bytes_in, "bytes_out": self.bytes_out}
        histograms = {"queue": self._queue, "run": self._run, "reset": self._reset, "fuel": self._fuel}
        for (name, buckets), total in zip(histograms.items(), totals, strict=True):
            unit = 1.0 if name == "fuel" else 1e-9
            found[name] = Distribution(sum(buckets), total * unit, tuple(buckets), unit)
        return found
