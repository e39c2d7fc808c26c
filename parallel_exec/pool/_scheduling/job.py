"""A job, and its target: the function of a plugin that it calls. Both backends have these."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any, Generic, Protocol, TypeVar

from parallel_exec._codec.documents import Output, result_value
from parallel_exec.errors import PexecError
from parallel_exec.plugins import PluginFunction
from parallel_exec.pool._callbacks import report_raised
from parallel_exec.pool._future import JobFuture
from parallel_exec.pool._transport.ring import Buffer
from parallel_exec.pool._version import Version
from parallel_exec.sandbox._chain import readable_name

NOTHING = (0, b"")


class Target:
    """A function of a plugin as a pool knows it.

    Attributes:
        plugin, function: names, for errors.
        version: of which deployment its results are, if of one.
    """

    __slots__ = ("__weakref__", "function", "plugin", "version")

    def __init__(self, function: PluginFunction, version: Version | None) -> None:
        self.plugin = function.plugin.name
        self.function = readable_name(function.name)
        self.version = version


T = TypeVar("T", bound=Target)


class Sink(Protocol):
    """What waits for jobs without futures."""

    def job_ended(self, job: Job[Any], /) -> None:
        """The job has ended; called by whichever thread ends it."""


class Job(Generic[T]):
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
        target: T,
        document: Buffer,
        kind: int,
        output: Output,
        index: int | None = None,
        *,
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
        """Called when the job is handed to a worker. False: drop it; it was cancelled or stopped, or would
        run again for nobody.
        """
        if not self.claimed:
            future = self.future
            self.claimed = not self.dropped if future is None else future.set_running_or_notify_cancel()
        return self.claimed and not self.ended and not self.unwanted

    def cancel(self) -> None:
        """Cancel the job, if no worker has it, and tell those who wait for it.

        A map's job that a worker has becomes `unwanted`.
        """
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
