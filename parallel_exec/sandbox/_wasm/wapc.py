"""The host's side of waPC (https://wapc.io), by which a WebAssembly module is called and calls back.

::

    host   __guest_call(length of the operation's name, length of the payload) ──►
    guest    __guest_request(address for the name, address for the payload)      the host writes both there
             __host_call(...), __host_response(...), ...                         a host function, and its result
             __console_log(address, length)                                      a line of the job's console
             __guest_response(address, length) or __guest_error(address, length)
           ◄── 1, or 0 for a failure

Every address and length that the guest gives is checked before anything is read or written there; one outside its
memory ends the job.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Final

import wasmtime

from parallel_exec import _signals
from parallel_exec._codec import message_pack
from parallel_exec.errors import PluginError, WasmError
from parallel_exec.host import HostFunction
from parallel_exec.limits import Limits
from parallel_exec.sandbox._console import OnConsole, hand_out
from parallel_exec.sandbox._engine import raw
from parallel_exec.sandbox._engine.deadline import Deadline
from parallel_exec.sandbox._engine.engine import Engine
from parallel_exec.sandbox._engine.memory import LinearMemory
from parallel_exec.sandbox._host_runner import HostRunner, text_of
from parallel_exec.sandbox._limit_errors import output_too_large, timeout
from parallel_exec.sandbox._text import printable, read_text
from parallel_exec.sandbox._wasm.prepare import CALL

MODULE: Final = "wapc"
WASI: Final = ("wasi_snapshot_preview1", "wasi_unstable")

# Every function of WASI returns this errno: nothing is offered. Those without a result end the job (proc_exit).
_ENOSYS: Final = 52
_WASI_TYPES: Final = frozenset(("i32", "i64"))
_MOST_FAILURE: Final = 64 << 10  # bytes of an error's text
_RECORD: Final = 5  # bytes that a console record counts beside its text, as in the JavaScript engine

_I32: Final = wasmtime.ValType.i32()


class Exited(Exception):
    """The guest called WASI's proc_exit with `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(f"it calls proc_exit({status})")
        self.status = status


class Wapc:
    """What the imports of one sandbox's instances, one after another, are linked to.

    Attributes:
        memory: the current instance's.
        deadline: that of its jobs, once there is one.
        answer: the guest's response to the last call.
        failure: the error that it reported, or None.
        raised: the exception of a linked function that ended the last call, or None.
    """

    def __init__(
        self, engine: Engine, module: wasmtime.Module, limits: Limits, host: Mapping[str, HostFunction] | None
    ) -> None:
        """Link a compiled module.

        Raises:
            PluginError: it lacks exports that waPC needs, or wants imports that waPC does not have.
        """
        self.memory: LinearMemory
        self.deadline: Deadline | None = None
        self.host = HostRunner(host or {}, limits)
        self.answer = b""
        self.failure: str | None = None
        self.raised: BaseException | None = None
        self._limits = limits
        self._operation: bytes = b""
        self._payload: bytes | bytearray | memoryview = b""
        self._host_response = b""
        self._host_error = b""
        self._console: list[str] = []
        self._console_room = limits.console_bytes
        self._console_dropped = 0
        self._imports: dict[str, tuple[int, bool, Callable[..., int | None]]] = {
            "__guest_request": (2, False, self._guest_request),
            "__guest_response": (2, False, self._guest_response),
            "__guest_error": (2, False, self._guest_error),
            "__host_call": (8, True, self._host_call),
            "__host_response_len": (0, True, lambda: len(self._host_response)),
            "__host_response": (1, False, lambda address: self._write(address, self._host_response)),
            "__host_error_len": (0, True, lambda: len(self._host_error)),
            "__host_error": (1, False, lambda address: self._write(address, self._host_error)),
            "__console_log": (2, False, self._console_log),
        }
        _check_exports(module)
        linker = wasmtime.Linker(engine.runtime)
        linker.allow_shadowing = True  # a module may import a function twice
        self._kept = [self._define(linker, each) for each in module.imports]
        try:
            self._linked = linker.instantiate_pre(module)
        except wasmtime.WasmtimeError as error:
            raise PluginError(
                f"the module imports one function as two kinds: {printable(str(error).splitlines()[0], 300)}"
            ) from None

    def exports(self, store: wasmtime.Store) -> Mapping[str, object]:
        """Make an instance in a store, and return its exports."""
        return self._linked.instantiate(store).exports(store)

    def begin(self) -> None:
        """Begin a job."""
        self._console_room = self._limits.console_bytes

    def request(self, operation: bytes, payload: bytes | bytearray | memoryview) -> None:
        """Set operation and payload of the next call."""
        self._operation = operation
        self._payload = payload
        self.answer = b""
        self.failure = self.raised = None
        self._host_response = self._host_error = b""

    def tell(self, on_console: OnConsole) -> None:
        """Hand out what was written to the console since the last time."""
        lines, self._console = self._console, []
        dropped, self._console_dropped = self._console_dropped, 0
        hand_out(((logging.INFO, line) for line in lines), dropped, on_console)

    # What the guest calls

    def _guest_request(self, operation: int, payload: int) -> None:
        self._write(operation, self._operation)
        self._write(payload, self._payload)

    def _guest_response(self, address: int, length: int) -> None:
        if length > self._limits.output_bytes:
            raise output_too_large(self._limits, length)
        self.answer = self._read(address, length)

    def _guest_error(self, address: int, length: int) -> None:
        self.failure = read_text(self._read(address, min(length, _MOST_FAILURE)))

    def _host_call(
        self,
        _binding: int,
        _binding_length: int,
        _namespace: int,
        _namespace_length: int,
        operation: int,
        operation_length: int,
        payload: int,
        length: int,
    ) -> int:
        self._host_response = self._host_error = b""
        name = read_text(self._read(operation, min(operation_length, 256)))
        clock = self.deadline.outside() if self.deadline is not None else nullcontext()
        try:
            self.host.check_arguments(length)
            content = self._read(payload, length)
            with clock:
                result = self.host.run(name, [message_pack.decode(content)] if content else [])
            answer = message_pack.pack(result)
            self.host.check_result(name, len(answer))
        except WasmError:
            raise
        except Exception as error:
            self.host.note_failure(ascii(name)[1:-1], error)  # the guest chose the name
            self._host_error = f"{name}: {type(error).__name__}: {text_of(error)}".encode()
            return 0
        self._host_response = answer
        return 1

    def _console_log(self, address: int, length: int) -> None:
        self._console_room -= length + _RECORD
        if self._console_room < 0:
            self._console_dropped += 1
        else:
            self._console.append(read_text(self._read(address, length)))

    # How

    def _read(self, address: int, length: int) -> bytes:
        if not self.memory.within(address, length):
            raise WasmError(f"it names {length} bytes at {address}, which do not lie in its memory", trapped=True)
        return bytes(self.memory.view[address : address + length])

    def _write(self, address: int, content: bytes | bytearray | memoryview) -> None:
        length = len(content)
        if not self.memory.within(address, length):
            raise WasmError(f"it wants {length} bytes at {address}, which do not lie in its memory", trapped=True)
        self.memory.view[address : address + length] = content

    def _guarded(self, function: Callable[..., int | None]) -> Callable[..., int | None]:
        """Return a function that the guest may call. After the deadline, which code without a backward jump never
        checks, it raises a `JobTimeout`.
        """

        def guarded(*numbers: int) -> int | None:
            _signals.deliver()
            if self.deadline is not None and self.deadline.is_over():
                raise timeout(self._limits)
            return function(*numbers)

        return guarded

    def _failed(self, error: BaseException) -> None:
        """Keep what a function raised, for this sandbox alone: wasmtime has one place for all threads."""
        self.raised = error

    def _link(
        self,
        linker: wasmtime.Linker,
        item: wasmtime.ImportType,
        kind: wasmtime.FuncType,
        function: Callable[..., int | None],
    ) -> object:
        return raw.define(linker, item.module, item.name or "", kind, self._guarded(function), self._failed)

    def _define(self, linker: wasmtime.Linker, item: wasmtime.ImportType) -> object:
        """Link one of the module's imports."""
        kind = item.type
        name = item.name or ""
        if isinstance(kind, wasmtime.FuncType):
            if item.module == MODULE and name in self._imports:
                parameters, result, function = self._imports[name]
                if kind.params == [_I32] * parameters and kind.results == [_I32] * result:
                    return self._link(linker, item, kind, function)
            elif item.module in WASI and kind.results in ([], [_I32]) and {*map(str, kind.params)} <= _WASI_TYPES:
                return self._link(linker, item, kind, _refuse if kind.results else _exit)
        raise PluginError(
            f"the module wants the import {printable(item.module)}.{printable(name)} ({_type_text(kind)}), "
            "which a waPC host does not have; "
            f"it has {', '.join(self._imports)} in {MODULE!r}, and WASI's functions, which all fail"
        )


def _refuse(*_arguments: object) -> int:
    return _ENOSYS


def _exit(status: int = 0, *_arguments: object) -> None:
    raise Exited(status)


def _check_exports(module: wasmtime.Module) -> None:
    exports = {each.name: each.type for each in module.exports}
    if not isinstance(exports.get("memory"), wasmtime.MemoryType):
        raise PluginError("the module does not export a memory as 'memory', to which a waPC host writes requests")
    call = exports.get(CALL)
    if not isinstance(call, wasmtime.FuncType):
        raise PluginError(f"the module does not export the function {CALL}, through which a waPC host calls it")
    if call.params != [_I32, _I32] or call.results != [_I32]:
        raise PluginError(f"the module's {CALL} is {_type_text(call)}; waPC's is (i32, i32) -> (i32)")


def _type_text(kind: object) -> str:
    if isinstance(kind, wasmtime.FuncType):
        return f"({', '.join(map(str, kind.params))}) -> ({', '.join(map(str, kind.results))})"
    return type(kind).__name__.removesuffix("Type").lower()
