"""What became of a job: the guest's status and error record as one of this package's errors."""

from __future__ import annotations

import struct

from parallel_exec.errors import (
    FuelExhausted,
    InvalidDocument,
    JobTimeout,
    JSError,
    MemoryLimitExceeded,
    OutputTooLarge,
    PexecError,
    PluginError,
)
from parallel_exec.limits import Limits
from parallel_exec.sandbox._engine.instance import Instance
from parallel_exec.sandbox._engine.raw import Trapped
from parallel_exec.sandbox._js.mailbox import Reply, Status
from parallel_exec.sandbox._text import read_text

_LENGTH = struct.Struct("<I")
# What documents that are no JSON begin with although they are meant well.
_BEGINNINGS = (
    (b"\xef\xbb\xbf", "it begins with a byte order mark"),
    (b"\xff\xfe", "it is UTF-16, where JSON is UTF-8"),
    (b"\xfe\xff", "it is UTF-16, where JSON is UTF-8"),
    (b"\x1e", "it begins with a record separator, as each document of a text sequence does (RFC 8142)"),
    (b"\x1f\x8b", "it is compressed by gzip"),
)
# What the engine says where a plugin was written for Node's modules.
_COMMON_JS = frozenset(f"{name} is not defined" for name in ("require", "module", "exports"))


def read_record(content: bytes) -> tuple[str, str, str]:
    """Return name, message and stack of an error record (guest/report.inc.c); texts that are missing are empty."""
    texts: list[str] = []
    position = 0
    while position + _LENGTH.size <= len(content) and len(texts) < 3:
        (length,) = _LENGTH.unpack_from(content, position)
        position += _LENGTH.size
        texts.append(read_text(content[position : position + length]))
        position += length
    texts += [""] * (3 - len(texts))
    return texts[0], texts[1], texts[2]


def location(stack: str) -> tuple[str | None, int | None, int | None]:
    """Return file, line and column of the innermost frame of a JavaScript stack that names them.

    What JSON.parse and eval were given is ``<input>``, which helps nobody: a frame in a file is preferred.

    >>> location("    at <eval> (<input>:1:1)\\n    at calculate (track.js:3:9)\\n")
    ('track.js', 3, 9)
    """
    first: tuple[str | None, int | None, int | None] = (None, None, None)
    for frame in stack.split("\n"):
        place = _place(frame.strip())
        if place is not None:
            if not place[0].startswith("<"):
                return place
            first = first if first[0] else place
    return first


def _place(frame: str) -> tuple[str, int, int] | None:
    """Return the place in ``at name (file:line:column)``, a call, or in ``at file:line:column``, a syntax error.

    The plugin can make the whole stack up: with numbers of any length, or so that a regular expression takes minutes.
    """
    if not frame.startswith("at "):
        return None
    text = frame[:-1].partition(" (")[2] if frame.endswith(")") else frame.removeprefix("at ")
    where, _colon, column = text.rpartition(":")
    file, _colon, line = where.rpartition(":")
    if not (file and _is_number(line) and _is_number(column)):
        return None
    return file, int(line), int(column)


def _is_number(text: str) -> bool:
    return 0 < len(text) < 10 and text.isascii() and text.isdecimal()


def job_error(
    instance: Instance, reply: Reply, limits: Limits, function: str, document: bytes | bytearray | memoryview = b""
) -> PexecError:
    """Return the error that a job's reply, with any status but OK, stands for."""
    match reply.status:
        case Status.THREW:
            name, message, stack = read_record(instance.read(reply.output_ptr, reply.output_len))
            file, line, column = location(stack)
            thrown = JSError(name, message, stack, file=file, line=line, column=column)
            thrown.args = (f"{thrown}{_hint(name, message)}",)
            return thrown
        case Status.BAD_DOCUMENT:
            name, message, _stack = read_record(instance.read(reply.output_ptr, reply.output_len))
            if name == "RangeError":
                return InvalidDocument(f"the document is nested too deeply: {message}", offset=reply.error_offset)
            if reply.error_offset == 0:
                begins = bytes(document[:3])
                message = next((why for beginning, why in _BEGINNINGS if begins.startswith(beginning)), message)
            return InvalidDocument(f"the document is not JSON: {message}", offset=reply.error_offset)
        case Status.TIMED_OUT:
            return timeout(limits)
        case Status.OUT_OF_MEMORY:
            return out_of_memory(limits, reply.memory_wanted)
        case Status.OUTPUT_TOO_LARGE:
            return output_too_large(limits, reply.output_len)
        case Status.NO_FUNCTION:
            return PluginError(
                f"the plugin has no function {function!r}; "
                "a script must declare it at top level, a module must export it"
            )
        case Status.PENDING:
            return JSError("Pending", "the returned promise can never settle: nothing is left to run that could do it")
    raise AssertionError(f"the engine reports the unknown status {reply.status}")


def load_error(instance: Instance, reply: Reply, limits: Limits) -> PexecError:
    """Return the error that a failed load of a plugin stands for."""
    if reply.status == Status.THREW:
        name, message, stack = read_record(instance.read(reply.output_ptr, reply.output_len))
        file, line, column = location(stack)
        where = f" (at {file}:{line}:{column})" if file is not None else ""
        what = "does not compile" if name == "SyntaxError" else "fails while it is loaded"
        return PluginError(
            f"the plugin {what}: {name}: {message}{_hint(name, message)}{where}", file=file, line=line, column=column
        )
    if reply.status == Status.PENDING:
        return PluginError("the plugin's top level awaits a promise that can never settle")
    return job_error(instance, reply, limits, "")


def _hint(name: str, message: str) -> str:
    """Return what to do about a plugin that wants other modules, to go after its message."""
    if message.startswith("could not load module"):
        return "; a plugin is one file and imports nothing: bundle what it needs into it"
    if name == "ReferenceError" and message in _COMMON_JS:
        return (
            "; a plugin is no CommonJS module: it declares functions at top level, or exports them as an ES module, "
            "and what it requires has to be bundled into it"
        )
    return ""


def trap_error(reply: Reply, limits: Limits, trap: Trapped) -> PexecError:
    """Return the error of a call that ended in a trap; the instance must not be used again."""
    if reply.status == Status.TIMED_OUT or trap.interrupted:
        return timeout(limits)
    if trap.out_of_fuel:
        return FuelExhausted(f"used up Limits.fuel={limits.fuel} instructions")
    if trap.stack_overflow:
        return JSError("RangeError", "the native stack is exhausted")
    if reply.memory_wanted:
        return out_of_memory(limits, reply.memory_wanted)
    return JSError("InternalError", f"the engine stopped: {trap}")


def timeout(limits: Limits) -> JobTimeout:
    """Return the error of a job that reached its deadline."""
    if limits.time_s is None:
        return JobTimeout("stopped")
    spent = " of CPU time" if limits.clock == "cpu" else ""
    return JobTimeout(f"still running after Limits.time_s={limits.time_s:g} s{spent}")


def out_of_memory(limits: Limits, wanted: int) -> MemoryLimitExceeded:
    """Return the error of a job that asked for more linear memory than its limit."""
    asked = f"{wanted} bytes" if wanted < 0xFFFFFFFF else "more than 3.75 GiB"
    return MemoryLimitExceeded(f"asked for {asked} of memory in all; Limits.memory_bytes={limits.memory_bytes}")


def output_too_large(limits: Limits, length: int) -> OutputTooLarge:
    """Return the error of a job whose result is too large."""
    return OutputTooLarge(f"a result of {length} bytes exceeds Limits.output_bytes={limits.output_bytes}")
