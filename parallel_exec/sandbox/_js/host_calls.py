"""JavaScript's calls of host functions (guest/host.inc.c): reads each from linear memory, runs it, writes its reply."""

from __future__ import annotations

import struct
import weakref
from collections.abc import Mapping
from typing import Any

import orjson

from parallel_exec import _signals
from parallel_exec._codec.documents import decode
from parallel_exec.host import HostFunction
from parallel_exec.limits import Limits
from parallel_exec.sandbox._engine.deadline import Deadline
from parallel_exec.sandbox._host_runner import HostRunner, text_of
from parallel_exec.sandbox._js.instance import JavaScriptInstance
from parallel_exec.sandbox._js.mailbox import INPUT_PADDING

# call, ptr, len, room, status
_EXCHANGE = struct.Struct("<5I")
_SLOT = struct.Struct("<I")  # call
_RESULT, _THREW = 0, 1

_Reply = tuple[int, bytes]


class JavaScriptHostCalls(HostRunner):
    """Serves the host functions of one JavaScript sandbox.

    Attributes:
        raised: the exception, such as Ctrl-C, with which a host function ended the job.
    """

    def __init__(self, functions: Mapping[str, HostFunction], limits: Limits) -> None:
        super().__init__(functions, limits)
        self.raised: BaseException | None = None
        self._reply: _Reply = (_RESULT, b"null")

    def attach(self, instance: JavaScriptInstance, deadline: Deadline) -> None:
        """Put our side into the instance's function table."""
        address = instance.ask("host_exchange")
        # The store keeps the callback until it dies: it must not keep the store alive in its turn.
        owner, clock = weakref.ref(instance), weakref.ref(deadline)

        def serve() -> None:
            found, running = owner(), clock()
            assert found is not None  # whoever made the call holds both
            assert running is not None
            try:
                _signals.deliver()
                with running.outside():
                    self._serve(found, address)
            except BaseException as error:
                self.raised = error
                raise

        (slot,) = _SLOT.unpack_from(instance.view, address)
        instance.set_function(slot, serve)

    def begin(self) -> None:
        super().begin()
        self._reply = (_RESULT, b"null")

    def end(self) -> BaseException | None:
        """Return, once, the exception with which a host function ended the job, or None."""
        raised, self.raised = self.raised, None
        return raised

    def _serve(self, instance: JavaScriptInstance, address: int) -> None:
        _call, ptr, length, room, _status = _EXCHANGE.unpack_from(instance.view, address)
        if length:
            self._reply = self._perform(instance.read(ptr, length))
        status, text = self._reply
        if len(text) + INPUT_PADDING <= room and instance.within(ptr, room):
            instance.view[ptr : ptr + len(text)] = text
            self._reply = (_RESULT, b"null")
        _EXCHANGE.pack_into(instance.view, address, _call, ptr, len(text), room, status)

    def _perform(self, text: bytes) -> _Reply:
        """Run one call and return its reply. What the guest writes is not trusted."""
        name = ""
        try:
            self.check_arguments(len(text))
            name, arguments = _name_and_arguments(decode(text))
            result = self.run(name, arguments)
            try:
                content = orjson.dumps(result)
            except (orjson.JSONEncodeError, RecursionError) as error:
                self.note_failure(name, error)
                return _threw(TypeError(f"the host function {name}() returned what is not JSON"))
            self.check_result(name, len(content))
        except Exception as error:
            self.note_failure(name, error)
            return _threw(error)
        return _RESULT, content


def _name_and_arguments(call: Any) -> tuple[str, list[Any]]:
    match call:
        case [str(name), *arguments]:
            return name, arguments
    raise TypeError("there is no such host function")


def _threw(error: Exception) -> _Reply:
    return _THREW, orjson.dumps([type(error).__name__[:100], text_of(error)])
