"""A job as the parent knows it, and its target: the function of a plugin that it calls."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Protocol

from parallel_exec._codec.documents import Output, result_value
from parallel_exec.errors import PexecError
from parallel_exec.plugins import PluginFunction
from parallel_exec.pool._callbacks import report_raised
from parallel_exec.pool._future import JobFuture
from parallel_exec.pool._transport.channel import Shared
from parallel_exec.pool._transport.ring import Buffer
from parallel_exec.sandbox._chain import readable_name

if TYPE_CHECKING:
    from parallel_exec.pool._version import Version

# A batch of tiny jobs is to take a worker about so long: much longer than a batch's own costs (some 20 us), and short
# enough that nobody notices who waits for the rest of it.
BATCH_NS = 400_000
MOST_BATCHED = 64
# Jobs that take less may leave their results unannounced until the next one's (README: quiet frames).
QUIET_NS = 1_000_000
# Results of jobs that take less are looked for: to sleep until they come costs two wakings (spinning.py).
SHORT_NS = 100_000
_SMOOTHING = 8
NOTHING = (0, b"")


class Target:
    """A function of a plugin as a pool knows it: where its memory image and its limits are published, and what its jobs
    have cost.

    Attributes:
        image, limits: numbers under which workers know the plugin's memory image and the limits.
        needs: both.
        shared: what workers are given before its first job.
        domain: whose plugin it is, if domains are kept apart.
        plugin, function: names, for errors.
        name: the function's name as it is sent.
        patience_s: seconds after its start at which a job's worker is killed; infinite for never.
        batch: most jobs that may travel together.
        quiet: whether its jobs are so short that not every result needs to be announced.
        short: whether they are so short that their results are better looked for than waited for.
        repeatable: whether a job can be run twice without anybody's noticing: it calls no host functions.
        version: of which deployment its results are, if of one.
    """

    __slots__ = (
        "__weakref__",
        "_cost_ns",
        "batch",
        "domain",
        "function",
        "image",
        "limits",
        "name",
        "needs",
        "patience_s",
        "plugin",
        "quiet",
        "repeatable",
        "shared",
        "short",
        "version",
    )

    def __init__(
        self,
        shared: tuple[Shared, ...],
        function: PluginFunction,
        patience_s: float,
        domain: str | None,
        version: Version | None = None,
    ) -> None:
        self.shared = shared
        self.image = shared[0].ident
        self.limits = shared[-1].ident
        self.needs = self.image, self.limits
        self.version = version
        self.plugin = function.plugin.name
        self.function = readable_name(function.name)
        self.name = function.name.encode("utf-8", "surrogatepass")
        self.patience_s = patience_s
        self.domain = domain
        self.batch = 1
        self.quiet = self.short = False
        self.repeatable = not function.plugin.host
        self._cost_ns = 0

    def ran(self, run_ns: int) -> None:
        """Learn from a job that took so many nanoseconds."""
        known = self._cost_ns
        self._cost_ns = cost = known + (run_ns - known) // _SMOOTHING if known else run_ns
        if self.repeatable:  # when a worker dies, what it did of a batch may be done again
            fit = BATCH_NS // (cost + 1)
            self.batch = MOST_BATCHED if fit > MOST_BATCHED else fit or 1
        self.quiet = cost < QUIET_NS
        self.short = cost < SHORT_NS


class Sink(Protocol):
    """What waits for jobs without futures."""

    def job_ended(self, job: Job, /) -> None:
        """The job has ended; called by whichever thread ends it."""


class Job:
    """One function and one document on their way through the pool.

    Attributes:
        target: what is called.
        document: the document's bytes, kept until the job is done, so that it can be sent again.
        size: how many they are.
        kind: what they are: JSON text or a typed array's elements (`parallel_exec._codec.arrays`).
        output: as what the result is given.
        index: position of the document in its map, or None.
        future: what the caller waits on; None for a job of a map.
        sink: the map that a job belongs to, which is told when it ends.
        attempts: how often it may have been begun.
        claimed: whether it has been handed to a worker, from when on it cannot be cancelled.
        unwanted: whether nobody reads its result, so that it is not run again should its worker die.
        ended: whether `result` returns at once.
        queued_ns: when it was given to the pool, by the monotonic clock.
    """

    __slots__ = (
        "_error",
        "_value",
        "attempts",
        "claimed",
        "document",
        "dropped",
        "ended",
        "future",
        "index",
        "kind",
        "output",
        "queued_ns",
        "sink",
        "size",
        "target",
        "unwanted",
    )

    def __init__(
        self,
        target: Target,
        document: Buffer,
        kind: int,
        output: Output,
        index: int | None = None,
        future: JobFuture | None = None,
        sink: Sink | None = None,
    ) -> None:
        self.target = target
        self.document = document
        self.size = len(document)
        self.kind = kind
        self.output = output
        self.index = index
        self.future = future
        self.sink = sink
        self.attempts = 1
        self.queued_ns = 0
        self.claimed = self.dropped = self.unwanted = self.ended = False
        self._value: tuple[int, bytes] = NOTHING
        self._error: BaseException | None = None

    def claim(self) -> bool:
        """Called when the job is handed to a worker. False: it has been cancelled or stopped, or is to run
        again and unwanted; drop it.
        """
        if not self.claimed:
            future = self.future
            self.claimed = (
                # Running: an exception hit between the second of these and the assignment.
                not self.dropped if future is None else future.running() or future.set_running_or_notify_cancel()
            )
        return self.claimed and not self.ended and not self.unwanted

    def cancel(self) -> None:
        """Cancel the job, if no worker has it, and tell those who wait for it; a map's that one has is `unwanted`."""
        if self.ended:
            return
        future = self.future
        if self.claimed:
            self.unwanted = future is None
            return
        self.dropped = True
        if future is None:
            self._error = CancelledError()
            self._end()
            return
        try:
            cancelled = future.cancel()
        except BaseException:
            report_raised(f"of {future!r}")
            cancelled = True
        if cancelled:
            future.set_running_or_notify_cancel()

    def fail(self, error: BaseException) -> None:
        """End the job with an error, unless it has ended already."""
        future = self.future
        if self.ended or not (self.unwanted or self.claim()):
            return
        if isinstance(error, PexecError):
            error.at(plugin=self.target.plugin, function=self.target.function, document=self.index)
        if future is None:
            self._error = error
            self._end()
            return
        if not future.done():
            try:
                future.set_exception(error)
            except BaseException:
                report_raised(f"of {future!r}")
        self.ended = True

    def finish(self, kind: int, content: bytes) -> None:
        """End the job with the kind and the bytes of its result.

        A map's are decoded by the map's consumer, rather than by a thread that has other results to see to.
        """
        if self.ended:  # it was stopped, and its worker ended it nevertheless
            return
        future = self.future
        if future is None:
            self._value = kind, content
            self.ended = True
            if self.sink is not None:
                self.sink.job_ended(self)
            return
        try:
            value = result_value(kind, content, self.output)
        except PexecError as error:
            self.fail(error)
            return
        except Exception as error:
            self.fail(PexecError(f"the result ({len(content)} bytes) cannot be read: {error}"))
            return
        if not future.done():
            try:
                future.set_result(value)
            except BaseException:
                report_raised(f"of {future!r}")
        self.ended = True

    def _end(self) -> None:
        self.ended = True
        if self.sink is not None:
            self.sink.job_ended(self)

    def result(self) -> Any:
        """Return what a map's job, which has ended, has as its result; or raise its error."""
        if self._error is not None:
            raise self._error
        try:
            kind, content = self._value
            return result_value(kind, content, self.output)
        except PexecError as error:
            raise error.at(plugin=self.target.plugin, function=self.target.function, document=self.index) from None

    def outcome(self) -> Any:
        """As `result`, but return a `PexecError` instead of raising it."""
        try:
            return self.result()
        except PexecError as error:
            return error

    @property
    def patient(self) -> bool:
        """Whether its result may wait for those of the jobs that travel with it: a map's may, a future's not."""
        return self.future is None

    @property
    def owner(self) -> object:
        """Who waits for the job: its future or its map."""
        return self.sink if self.future is None else self.future

    @property
    def held(self) -> int:
        """Bytes that the job keeps: its document, and its result once it has ended."""
        return self.size + len(self._value[1])


def frozen(document: Buffer) -> bytes | memoryview:
    """The document as something that nobody changes while it waits."""
    if isinstance(document, bytes):
        return document
    if isinstance(document, memoryview) and isinstance(document.obj, bytes):  # read-only views may be of anything
        return document.cast("B")
    return bytes(document)
