"""A job as the parent knows it, and the two messages that carry it: the request to a worker and its result."""

from __future__ import annotations

import io
import logging
import pickle
import struct
from collections.abc import Sequence
from concurrent.futures import Future
from enum import IntEnum
from typing import Any, NamedTuple

import orjson

from .. import errors
from ..documents import Output, result_value
from ..errors import PexecError
from .ring import Buffer

console = logging.getLogger("parallel_exec.console")

REQUEST, RESULT = 1, 2  # kinds of frames

# Job id, image id, limits id, kind of document, bytes of the function's name, bytes of the payload if that is a segment
# of its own (else 0). The payload is the name and the document.
_REQUEST = struct.Struct("<QIIIIQ")
# Job id, status, kind of result, bytes of console records, bytes of the payload if that is a segment of its own (else
# 0). The payload is the console records (JSON pairs of level and text) and the result or the pickled error.
_RESULT = struct.Struct("<QIIIQ")


class Status(IntEnum):
    """How a job ended in its worker."""

    DONE = 0  # the result is JSON text, or what its kind says
    FAILED = 1  # the result is a pickled PexecError


class Job:
    """One function and one document on their way through the pool.

    Attributes:
        id: number of the job in its pool, from 1.
        image, limits: ids under which the pool publishes the plugin's memory image and the limits.
        plugin, function: names, for errors.
        document: the document's bytes, kept until the job is done, so that it can be sent again.
        kind: what they are: JSON text or a typed array's elements (`parallel_exec.arrays`).
        future: what the caller waits on.
        output: as what the future gives the result; None for its kind and its bytes as they are.
        index: position of the document in its map, or None.
    """

    __slots__ = (
        "claimed",
        "document",
        "function",
        "future",
        "id",
        "image",
        "index",
        "kind",
        "limits",
        "output",
        "plugin",
    )

    def __init__(
        self,
        id: int,
        *,
        image: int,
        limits: int,
        plugin: str,
        function: str,
        document: Buffer,
        kind: int,
        output: Output | None,
        index: int | None,
    ) -> None:
        self.id = id
        self.image = image
        self.limits = limits
        self.plugin = plugin
        self.function = function
        self.document = document
        self.kind = kind
        self.output = output
        self.index = index
        self.future: Future[Any] = Future()
        self.claimed = False

    @property
    def size(self) -> int:
        """Bytes that the job takes of a worker's window."""
        return len(self.document)

    def claim(self) -> bool:
        """Called when the job is handed to a worker. False: it has been cancelled, drop it."""
        if not self.claimed:
            self.claimed = self.future.set_running_or_notify_cancel()
        return self.claimed

    def cancel(self) -> None:
        """Cancel the job, which no worker has, and tell those who wait for it."""
        if not self.claimed and self.future.cancel():
            self.future.set_running_or_notify_cancel()

    def fail(self, error: BaseException) -> None:
        """End the job with an error, unless it has ended already."""
        if not self.claim() or self.future.done():
            return
        if isinstance(error, PexecError):
            error.at(plugin=self.plugin, function=self.function, document=self.index)
        self.future.set_exception(error)

    def finish(self, result: Result, content: bytes) -> None:
        """End the job with what its worker sent, and log what the plugin wrote to its console."""
        try:
            for level, text in load_console(content[: result.console_length]):
                console.log(level, "%s", text)
            payload = content[result.console_length :]
            if result.status != Status.DONE:
                self.fail(load_error(payload))
                return
            value: Any = (result.kind, payload)
            if self.output is not None:
                value = result_value(result.kind, payload, self.output)
        except PexecError as error:
            self.fail(error)
            return
        except Exception as error:
            self.fail(PexecError(f"the result ({len(content)} bytes) cannot be read: {error}"))
            return
        self.future.set_result(value)


def frozen(document: Buffer) -> bytes | memoryview:
    """The document as something that nobody changes while it waits."""
    if isinstance(document, memoryview) and isinstance(document.obj, bytes):  # read-only views may be of anything
        return document.cast("B")
    return document if isinstance(document, bytes) else bytes(document)


class Request(NamedTuple):
    """A request as the worker reads it; the payload may be in the ring or in a segment."""

    job: int
    image: int
    limits: int
    kind: int
    name_length: int
    segment: int

    def pack(self) -> bytes:
        """The frame's meta bytes."""
        return _REQUEST.pack(*self)

    @classmethod
    def unpack(cls, meta: bytes) -> Request:
        """Read what `pack` wrote; struct.error if it is something else."""
        return cls(*_REQUEST.unpack(meta))


class Result(NamedTuple):
    """A result as the parent reads it; the payload may be in the ring or in a segment."""

    job: int
    status: int
    kind: int
    console_length: int
    segment: int

    def pack(self) -> bytes:
        """The frame's meta bytes."""
        return _RESULT.pack(*self)

    @classmethod
    def unpack(cls, meta: bytes) -> Result:
        """Read what `pack` wrote; struct.error if it is something else."""
        return cls(*_RESULT.unpack(meta))


def dump_console(records: Sequence[tuple[int, str]]) -> bytes:
    """Console records of a job as bytes; none are no bytes."""
    return orjson.dumps(records) if records else b""


def load_console(content: bytes) -> list[tuple[int, str]]:
    """The records that `dump_console` wrote."""
    return [(int(level), str(text)) for level, text in orjson.loads(content)] if content else []


def dump_error(error: PexecError) -> bytes:
    """An error as bytes; one that cannot be pickled becomes a plain PexecError with the same text."""
    try:
        return pickle.dumps(error, protocol=5)
    except Exception as reason:
        return pickle.dumps(PexecError(f"{error} (the {type(error).__name__} itself cannot be sent: {reason})"))


def load_error(content: bytes) -> PexecError:
    """The error that `dump_error` wrote. Only this package's errors are unpickled: a worker runs untrusted code."""
    try:
        error = _ErrorUnpickler(io.BytesIO(content)).load()
    except Exception as reason:
        return PexecError(f"the job failed, and its error cannot be read: {reason}")
    return error if isinstance(error, PexecError) else PexecError(f"the job failed with {error!r}")


class _ErrorUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = getattr(errors, name, None) if module == errors.__name__ else None
        if name == "_rebuild" or (isinstance(found, type) and issubclass(found, PexecError)):
            return found
        raise pickle.UnpicklingError(f"{module}.{name} is not an error of parallel_exec")
