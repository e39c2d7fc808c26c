"""The layout of the mailbox (guest/mailbox.h), field by field."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from parallel_exec.errors import PluginError
from parallel_exec.sandbox._chain import NAME_SIZE

INPUT_PADDING = 64

# job, input_len, memory_limit, output_limit, console_limit, kind, seed, time_ms, name_len, name
_REQUEST = struct.Struct(f"<6I Q d I {NAME_SIZE}s")
_DEADLINE = struct.Struct("<I")
_REPLY = struct.Struct("<15I")

DEADLINE_OFFSET = _REQUEST.size + 4  # a reserved field keeps what follows aligned
REPLY_OFFSET = DEADLINE_OFFSET + _DEADLINE.size
PER_JOB = struct.Struct("<2I")  # job and input_len lead the request
PER_JOB_SEED = struct.Struct("<IQd")  # kind, seed, time_ms
SEED_OFFSET = 20


class Status(IntEnum):
    """How a call into the guest ended (enum job_status)."""

    OK = 0
    THREW = 1
    BAD_DOCUMENT = 2
    TIMED_OUT = 3
    OUT_OF_MEMORY = 4
    OUTPUT_TOO_LARGE = 5
    NO_FUNCTION = 6
    PENDING = 7


class LoadKind(IntEnum):
    """What a plugin's source is (enum load_kind)."""

    AUTO = 0
    SCRIPT = 1
    MODULE = 2


class Reply(NamedTuple):
    """What the guest reports about a call: the reply part of the mailbox."""

    status: int
    output_ptr: int
    output_len: int
    console_ptr: int
    console_len: int
    console_dropped: int
    error_offset: int
    input_ptr: int
    high_water: int
    heap_used: int
    memory_wanted: int
    output_kind: int
    stack_low: int
    stage: int
    item: int


def pack_request(name: str, *, memory: int, output: int, console: int) -> bytearray:
    """Return the request for a function; `PER_JOB` and `PER_JOB_SEED` write what differs from job to job.

    Args:
        name: of the function, or of the file that a plugin is loaded from.
        memory: the most bytes of linear memory.
        output: the most bytes of the result.
        console: the most bytes of console output.

    Raises:
        PluginError: the name is too long.
    """
    encoded = name.encode("utf-8", "surrogatepass")
    if len(encoded) > NAME_SIZE:
        raise PluginError(f"a name of {len(encoded)} bytes is too long; {NAME_SIZE} is the most: {name[:60]!r}...")
    return bytearray(_REQUEST.pack(0, 0, memory, output, console, 0, 0, 0.0, len(encoded), encoded))


def unpack_reply(view: memoryview, address: int) -> Reply:
    """Read the reply part of the mailbox at `address`."""
    return Reply._make(_REPLY.unpack_from(view, address + REPLY_OFFSET))


def pack_deadline(job: int) -> bytes:
    """Return what the watchdog writes at `DEADLINE_OFFSET` to stop job number `job`."""
    return _DEADLINE.pack(job)
