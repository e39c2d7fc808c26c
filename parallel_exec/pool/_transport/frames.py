"""The two messages of the rings: a request with a batch of jobs, and a report with the results of some of them.

A batch is jobs of one target that follow each other; most often it is one job. Each job has a *sequence*: its number
among all that its worker was ever sent. What is of fixed size is in a frame's meta bytes, which the ring checks; the
payload lies in the frame or, if it has no room there, in a segment::

    request   meta: request, u32 lengths of the other documents, name of the function   payload: the documents
    report    meta: report, an entry per job                                payload: console records and result of each
    prepare   meta: image id and limits id of a sandbox to make ready (answered by a record: `RecordKind.READY`)
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from parallel_exec import errors
from parallel_exec.errors import PexecError

MOST_BATCHED = 64  # jobs in a request

REQUEST, REPORT, PREPARE = 1, 2, 3  # kinds of frames

# Sequence of the first job, bytes of the payload if that is a segment of its own (else 0), image id, limits id, kind of
# the documents, whether the report may go unannounced, number of jobs, length of the first document.
_REQUEST = struct.Struct("<QQIIIHHI")
# Sequence of the first job, number of jobs, bytes of the payload if in a segment.
_REPORT = struct.Struct("<QIQ")
_ENTRY = struct.Struct("<BBIIQQQQ")
NEEDS = struct.Struct("<II")  # of a prepare
_LENGTHS = {count: struct.Struct(f"<{count}I") for count in range(1, MOST_BATCHED + 1)}


# How a job ended in its worker.
DONE = 0  # the result is JSON text, or what its kind says
FAILED = 1  # the result is a pickled PexecError
REVOKED = 2  # it was not begun, because the parent has taken it back

# One job of a report: how it ended, kind of the result, bytes of its console records, bytes of its result; nanoseconds
# that it took, when it began on the monotonic clock, nanoseconds of its reset, and its fuel if that is counted.
Entry = tuple[int, int, int, int, int, int, int, int]


class RequestFrame(NamedTuple):
    """A batch of jobs on its way to a worker."""

    sequence: int
    image: int
    limits: int
    kind: int
    quiet: bool
    segment: int
    name: bytes
    lengths: Sequence[int]

    @classmethod
    def unpack(cls, meta: bytes) -> RequestFrame:
        """Read what `pack_request` wrote; struct.error or KeyError if it is something else."""
        sequence, segment, image, limits, kind, quiet, count, first = _REQUEST.unpack_from(meta)
        if count == 1:
            lengths, at = (first,), _REQUEST.size
        else:
            others = _LENGTHS[count - 1]
            lengths, at = (first, *others.unpack_from(meta, _REQUEST.size)), _REQUEST.size + others.size
        # As `cls(...)`, which takes three times as long.
        return tuple.__new__(cls, (sequence, image, limits, kind, quiet, segment, meta[at:], lengths))


def pack_request(request: RequestFrame) -> bytes:
    """The meta bytes of a request."""
    sequence, image, limits, kind, quiet, segment, name, lengths = request
    count = len(lengths)
    head = _REQUEST.pack(sequence, segment, image, limits, kind, quiet, count, lengths[0])
    if count == 1:
        return head + name
    return head + _LENGTHS[count - 1].pack(*lengths[1:]) + name


def pack_report(sequence: int, segment: int, entries: Sequence[Entry]) -> bytes:
    """The meta bytes of a report on jobs from this sequence on.

    Args:
        segment: bytes of the payload if that is in a segment, else 0.
        entries: one for each job.
    """
    head = _REPORT.pack(sequence, len(entries), segment)
    if len(entries) == 1:
        return head + _ENTRY.pack(*entries[0])
    return b"".join((head, *[_ENTRY.pack(*entry) for entry in entries]))


def unpack_report(meta: bytes) -> tuple[int, int, list[Entry]]:
    """Read what `pack_report` wrote, into its arguments; struct.error if it is something else."""
    sequence, count, segment = _REPORT.unpack_from(meta)
    entries: list[Entry] = list(_ENTRY.iter_unpack(meta[_REPORT.size :]))
    if len(entries) != count or not count:
        raise struct.error(f"a report with {len(entries)} of {count} entries")
    return sequence, segment, entries


def dump_console(records: Sequence[tuple[int, str]]) -> bytes:
    """Console records of a job as bytes; `b""` if there are none."""
    return orjson.dumps(records) if records else b""


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
