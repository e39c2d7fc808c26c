"""The Python side of host functions (guest/host.inc.c): reads a call from linear memory, runs it, writes its reply."""

from __future__ import annotations

import logging
import struct
import threading
import weakref
from collections.abc import Mapping, Sequence

import orjson

from parallel_exec import _signals
from parallel_exec._codec.documents import decode
from parallel_exec._signals import Callbacks
from parallel_exec.errors import PexecError
from parallel_exec.host import HostFunction
from parallel_exec.limits import Limits
from parallel_exec.sandbox._engine.deadline import Deadline
from parallel_exec.sandbox._engine.instance import Instance
from parallel_exec.sandbox._js.mailbox import INPUT_PADDING

log = logging.getLogger("parallel_exec.host")

# call, ptr, len, room, status
_EXCHANGE = struct.Struct("<5I")
_STATUS = struct.Struct("<I")
_RESULT, _THREW = 0, 1

_MESSAGE_MAX = 1000  # characters of an exception's text that a plugin is told
_LOGGED_FAILURES = 5  # per job: a plugin must not be able to fill the log

_Reply = tuple[int, bytes]


class _Depth(threading.local):
    value = 0


# How many host functions run in this thread. Each may have a sandbox below it, which takes up to 4 MiB of the native
# stack (a module 1, engine.MODULE_STACK): two of them fit a thread's 8.
_depth = _Depth()


class HostRunner:
    """Runs the host functions of one sandbox.

    Attributes:
        busy: a host function is running.
        callbacks: the context of calls into the sandbox.
    """

    def __init__(self, functions: Mapping[str, HostFunction], limits: Limits) -> None:
        self.busy = False
        self.callbacks = Callbacks()
        self._functions = functions
        self._limits = limits
        self._failures = 0

    def begin(self) -> None:
        """Called before each job."""
        self._failures = 0

    def run(self, name: str, arguments: Sequence[object]) -> object:
        """Run a host function.

        Raises:
            TypeError: there is none of this name. What the function raises.
        """
        if name not in self._functions:
            raise TypeError("there is no such host function")
        if _depth.value:
            raise PexecError("a plugin that a host function runs cannot call host functions itself")
        self.busy = True
        _depth.value = 1
        try:
            return _signals.interruptibly(self._functions[name], *arguments)
        finally:
            _depth.value = 0
            self.busy = False

    def check_arguments(self, length: int) -> None:
        """Raise a ValueError if so many bytes of arguments are too many."""
        if length > self._limits.output_bytes:
            raise ValueError(f"the arguments exceed Limits.output_bytes={self._limits.output_bytes}")

    def check_result(self, name: str, length: int) -> None:
        """Raise a RangeError if a result of so many bytes is too large."""
        if length > self._limits.document_bytes:
            limit = f"Limits.document_bytes={self._limits.document_bytes}"
            raise RangeError(f"the result of the host function {name}(), {length} bytes, exceeds {limit}")

    def note_failure(self, name: str, error: Exception) -> None:
        """Log that a call failed; the first few of each job."""
        self._failures += 1
        if self._failures <= _LOGGED_FAILURES:
            log.error("the host function %s() failed", name, exc_info=error)
        elif self._failures == _LOGGED_FAILURES + 1:
            log.error("host functions fail on in this job; that is not logged any more")


class HostCalls(HostRunner):
    """Serves the host functions of one sandbox of JavaScript.

    Attributes:
        raised: the exception, such as Ctrl-C, that a host function ended the job with.
    """

    def __init__(self, functions: Mapping[str, HostFunction], limits: Limits) -> None:
        super().__init__(functions, limits)
        self.raised: BaseException | None = None
        self._reply: _Reply = (_RESULT, b"null")

    def attach(self, instance: Instance, deadline: Deadline) -> None:
        """Put our side into the instance's function table."""
        address = instance.ask("host_exchange")
        # The store keeps the callback until it dies: it must not keep the store alive in its turn.
        owner, clock = weakref.ref(instance), weakref.ref(deadline)

        def serve() -> None:
            found, running = owner(), clock()
            assert found is not None and running is not None  # whoever made the call holds them
            try:
                _signals.deliver()
                with running.outside():
                    self._serve(found, address)
            except BaseException as error:
                self.raised = error
                raise

        (slot,) = struct.unpack_from("<I", instance.view, address)
        instance.set_function(slot, serve)

    def begin(self) -> None:
        super().begin()
        self._reply = (_RESULT, b"null")

    def end(self) -> BaseException | None:
        """Called when a job was torn off: return the exception that a host function did it with, if one did."""
        raised, self.raised = self.raised, None
        return raised

    def _serve(self, instance: Instance, address: int) -> None:
        _call, ptr, length, room, _status = _EXCHANGE.unpack_from(instance.view, address)
        if length:
            self._reply = self._perform(instance.read(ptr, length))
        status, text = self._reply
        if len(text) + INPUT_PADDING <= room and instance.within(ptr, room):
            instance.view[ptr : ptr + len(text)] = text
            self._reply = (_RESULT, b"null")
        _EXCHANGE.pack_into(instance.view, address, _call, ptr, len(text), room, status)

    def _perform(self, text: bytes) -> _Reply:
        """Run one call and return its reply. What the guest says is not trusted."""
        name = ""
        try:
            self.check_arguments(len(text))
            match decode(text):
                case [str(name), *arguments]:
                    pass
                case _:
                    raise TypeError("there is no such host function")
            result = self.run(name, arguments)
        except Exception as error:
            self.note_failure(name, error)
            return _threw(error)
        try:
            content = orjson.dumps(result)
        except (orjson.JSONEncodeError, RecursionError) as error:
            self.note_failure(name, error)
            return _threw(TypeError(f"the host function {name}() returned what is not JSON"))
        try:
            self.check_result(name, len(content))
        except RangeError as error:
            self.note_failure(name, error)
            return _threw(error)
        return _RESULT, content


class RangeError(ValueError):
    """A result that is too large; the plugin sees JavaScript's error of this name."""


def told(error: Exception) -> str:
    """Return an exception's text as far as a plugin is told it."""
    try:
        message = str(error)[:_MESSAGE_MAX]
    except Exception:
        message = ""
    return message.encode("utf-8", "replace").decode()


def _threw(error: Exception) -> _Reply:
    return _THREW, orjson.dumps([type(error).__name__[:100], told(error)])
