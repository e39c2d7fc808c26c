"""What became of a JavaScript job: the guest's status and error record as one of this package's errors, and the
records of its console.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator

from parallel_exec._codec.arrays import Encoded
from parallel_exec.errors import InvalidDocument, JSError, PexecError, PluginError
from parallel_exec.limits import Limits
from parallel_exec.sandbox._chain import function_names, is_chain, is_group
from parallel_exec.sandbox._engine.raw import Trapped
from parallel_exec.sandbox._js.instance import JavaScriptInstance
from parallel_exec.sandbox._js.mailbox import Reply, Status
from parallel_exec.sandbox._limit_errors import limit_of_trap, out_of_memory, output_too_large, timeout
from parallel_exec.sandbox._text import read_text

_LENGTH = struct.Struct("<I")
_CONSOLE_HEADER = struct.Struct("<BI")  # level and length
_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_RECORD_TEXTS = 3  # name, message and stack
# How documents begin that are close to JSON, and why they are not.
_BEGINNINGS = (
    (b"\xef\xbb\xbf", "it begins with a byte order mark"),
    (b"\xff\xfe", "it is UTF-16, where JSON is UTF-8"),
    (b"\xfe\xff", "it is UTF-16, where JSON is UTF-8"),
    (b"\x1e", "it begins with a record separator, as each document of a text sequence does (RFC 8142)"),
    (b"\x1f\x8b", "it is compressed by gzip"),
)
# What the engine reports for a plugin that was written for Node's modules.
_COMMON_JS = frozenset(f"{name} is not defined" for name in ("require", "module", "exports"))
_MOST_DIGITS = 9  # of a line or a column

Place = tuple[str, int, int]
"""File, line and column."""


def read_record(content: bytes) -> tuple[str, str, str]:
    """Return name, message and stack of an error record (guest/report.inc.c); missing texts are empty."""
    texts: list[str] = []
    position = 0
    while position + _LENGTH.size <= len(content) and len(texts) < _RECORD_TEXTS:
        (length,) = _LENGTH.unpack_from(content, position)
        position += _LENGTH.size
        texts.append(read_text(content[position : position + length]))
        position += length
    texts += [""] * (_RECORD_TEXTS - len(texts))
    return texts[0], texts[1], texts[2]


def console_records(content: bytes) -> Iterator[tuple[int, str]]:
    r"""Yield level and text of one job's console records (guest/console.inc.c).

    >>> list(console_records(b"\x02\x05\x00\x00\x00hello"))
    [(20, 'hello')]
    """
    position = 0
    while position + _CONSOLE_HEADER.size <= len(content):
        level, length = _CONSOLE_HEADER.unpack_from(content, position)
        position += _CONSOLE_HEADER.size
        yield _LEVELS.get(level, logging.INFO), read_text(content[position : position + length])
        position += length


def location(stack: str) -> Place | tuple[None, None, None]:
    r"""Return file, line and column of the innermost frame of a JavaScript stack that names them.

    What JSON.parse and eval were given is ``<input>``, which helps nobody: a frame in a file is preferred.

    >>> location("    at <eval> (<input>:1:1)\n    at calculate (track.js:3:9)\n")
    ('track.js', 3, 9)
    """
    places = [place for frame in stack.split("\n") if (place := _place(frame.strip())) is not None]
    in_a_file = (place for place in places if not place[0].startswith("<"))
    return next(in_a_file, places[0] if places else (None, None, None))


def _place(frame: str) -> Place | None:
    """Return the place in ``at name (file:line:column)``, a call, or in ``at file:line:column``, a syntax error.

    The plugin can make up the whole stack: with numbers of any length, or such that a regular expression takes minutes.
    """
    if not frame.startswith("at "):
        return None
    text = frame[:-1].partition(" (")[2] if frame.endswith(")") else frame.removeprefix("at ")
    where, _colon, column = text.rpartition(":")
    file, _colon, line = where.rpartition(":")
    if not (file and _is_short_number(line) and _is_short_number(column)):
        return None
    return file, int(line), int(column)


def _is_short_number(text: str) -> bool:
    return 0 < len(text) <= _MOST_DIGITS and text.isascii() and text.isdecimal()


def job_error(
    instance: JavaScriptInstance, reply: Reply, limits: Limits, function: str, document: Encoded = b""
) -> PexecError:
    """Return the error for a job that ended with any status but OK.

    Args:
        instance: where it ran.
        reply: what the guest reports.
        limits: on the job.
        function: the function that was called, or the chain.
        document: what it was called on.
    """
    error: PexecError
    match reply.status:
        case Status.THREW:
            error = _thrown(instance, reply)
        case Status.BAD_DOCUMENT:
            error = _bad_document(instance, reply, document)
        case Status.TIMED_OUT:
            error = timeout(limits)
        case Status.OUT_OF_MEMORY:
            error = out_of_memory(limits, reply.memory_wanted)
        case Status.OUTPUT_TOO_LARGE:
            error = output_too_large(limits, reply.output_len)
        case Status.NO_FUNCTION:
            error = PluginError(
                f"the plugin has no function {_failed_function(function, reply)!r}; "
                "a script must declare it at top level, a module must export it"
            )
        case Status.PENDING:
            error = JSError(
                "Pending", "the returned promise can never settle: nothing is left to run that could settle it"
            )
        case _:
            raise AssertionError(f"the engine reports the unknown status {reply.status}")
    return _in_chain(error, function, reply)


def load_error(instance: JavaScriptInstance, reply: Reply, limits: Limits) -> PexecError:
    """Return the error for a failed load of a plugin."""
    if reply.status == Status.THREW:
        name, message, stack = _record(instance, reply)
        file, line, column = location(stack)
        where = f" (at {file}:{line}:{column})" if file is not None else ""
        what = "does not compile" if name == "SyntaxError" else "fails while it is loaded"
        return PluginError(
            f"the plugin {what}: {name}: {message}{_hint(name, message)}{where}", file=file, line=line, column=column
        )
    if reply.status == Status.PENDING:
        return PluginError("the plugin's top level awaits a promise that can never settle")
    return job_error(instance, reply, limits, "")


def trap_error(reply: Reply, limits: Limits, trap: Trapped, function: str = "") -> PexecError:
    """Return the error for a call that ended in a trap; the instance must not be used again."""
    error = timeout(limits) if reply.status == Status.TIMED_OUT else limit_of_trap(trap, limits)
    if error is None:
        if trap.stack_overflow:
            error = JSError("RangeError", "the native stack is exhausted")
        elif reply.memory_wanted:
            error = out_of_memory(limits, reply.memory_wanted)
        else:
            error = JSError("InternalError", f"the engine stopped: {trap}")
    return _in_chain(error, function, reply)


def _record(instance: JavaScriptInstance, reply: Reply) -> tuple[str, str, str]:
    return read_record(instance.read(reply.output_ptr, reply.output_len))


def _thrown(instance: JavaScriptInstance, reply: Reply) -> JSError:
    name, message, stack = _record(instance, reply)
    file, line, column = location(stack)
    error = JSError(name, message, stack, file=file, line=line, column=column)
    error.args = (f"{error}{_hint(name, message)}",)
    return error


def _bad_document(instance: JavaScriptInstance, reply: Reply, document: Encoded) -> InvalidDocument:
    name, message, _stack = _record(instance, reply)
    if name == "RangeError":
        return InvalidDocument(f"the document is nested too deeply: {message}", offset=reply.error_offset)
    if reply.error_offset == 0:
        begins = bytes(document[:3])
        message = next((why for beginning, why in _BEGINNINGS if begins.startswith(beginning)), message)
    return InvalidDocument(f"the document is not JSON: {message}", offset=reply.error_offset)


def _hint(name: str, message: str) -> str:
    """Return what to do about a plugin that wants other modules, to go after its message."""
    if message.startswith("could not load module"):
        return "; a plugin is one file and imports nothing: bundle what it needs into it"
    if name == "ReferenceError" and message in _COMMON_JS:
        return (
            "; a plugin is not a CommonJS module: it declares functions at top level, or exports them as an ES module, "
            "and what it requires has to be bundled into it"
        )
    return ""


def _in_chain(error: PexecError, name: str, reply: Reply) -> PexecError:
    """Say at which of a chain's functions and, in a group, at which array of values a job failed."""
    if is_chain(name):
        error.at(function=_failed_function(name, reply))
        if is_group(name):
            error.group_item = reply.item
    return error


def _failed_function(name: str, reply: Reply) -> str:
    if not is_chain(name):
        return name
    names = function_names(name)
    return names[min(reply.stage, len(names) - 1)]  # the guest's number is not trusted
