"""Runs a WebAssembly module's jobs, each from the module's image: reset in place, or in a new instance."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import wasmtime

from parallel_exec._codec import arrays, message_pack
from parallel_exec._codec.arrays import Encoded
from parallel_exec.errors import InvalidDocument, OutputTooLarge, PexecError, PluginError, WasmError
from parallel_exec.host import HostFunction
from parallel_exec.limits import Limits
from parallel_exec.sandbox._chain import is_chain
from parallel_exec.sandbox._console import OnConsole
from parallel_exec.sandbox._engine import raw
from parallel_exec.sandbox._engine.deadline import Deadline
from parallel_exec.sandbox._engine.engine import MODULE_STACK, Engine
from parallel_exec.sandbox._engine.memory import MemoryRefused
from parallel_exec.sandbox._limit_errors import out_of_memory, output_too_large
from parallel_exec.sandbox._runner import Runner
from parallel_exec.sandbox._wasm.chain import run_chain
from parallel_exec.sandbox._wasm.image import WasmImage
from parallel_exec.sandbox._wasm.instance import WasmInstance, open_instance, trap_error
from parallel_exec.sandbox._wasm.prepare import CALL
from parallel_exec.sandbox._wasm.wapc import Exited, Wapc

# Memory larger than this is not reset: a new instance takes about 50 us for each MiB, a reset 200.
MOST_RESET = 4 << 20

_KEPT_OPERATIONS = 64


class _Payload(bytes):
    """A binary document, which goes to a chain's first function as it is."""


class WasmRunner(Runner[WasmInstance]):
    """`Runner` for modules that somebody else compiled. They check no deadline of ours, so the machine code checks the
    epoch of an engine that is this runner's own.

    Args:
        image: of the plugin.
        limits: on each job.
        on_console: receives console records.
        host: host functions by name.
        engine: an engine with epochs that nobody else uses; by default a new one.
    """

    def __init__(
        self,
        image: WasmImage,
        limits: Limits,
        on_console: OnConsole,
        host: Mapping[str, HostFunction] | None,
        *,
        engine: Engine | None = None,
    ) -> None:
        super().__init__(limits)
        self._image = image
        self._on_console = on_console
        self._engine = engine or Engine(epoch=True, stack=MODULE_STACK, metered=limits.fuel is not None)
        self._wapc = Wapc(self._engine, self._engine.compile(image.wasm), limits, host)
        self._job = 0
        self._operations: dict[str, bytes] = {}
        self._intact = True  # whether the last call has come back from the module
        self._call: Callable[..., int]
        self._setters: list[Callable[[], None]]
        self._open()

    @property
    def busy(self) -> bool:
        return self._wapc.host.busy

    def drop(self) -> None:
        if self._instance is not None:
            super().drop()
            del self._call, self._setters, self._wapc.memory, self._wapc.deadline  # they hold the store

    def run(self, function: str, content: Encoded, kind: int, stopped: Callable[[], bool] | None) -> tuple[int, bytes]:
        if self._dirty:
            self.check_idle()
            self.drop()  # an exception, such as Ctrl-C, cut the last job short somewhere below
        instance = self._instance or self._open()
        self._dirty = True
        self._intact = True
        self._job = self._job % 0xFFFFFFFF + 1
        self._wapc.host.begin()
        self._wapc.begin()
        deadline = self._deadline
        deadline.begin(self._job)
        if stopped is not None and stopped():
            self.stop()
        try:
            if is_chain(function):
                return arrays.JSON, self._run_chain(function, _document(content, kind))
            if kind == arrays.JSON:
                return kind, self._json(self._call_on_value(function, _document(content, kind)))
            return (kind if kind == arrays.MESSAGE_PACK else arrays.BYTES), self._invoke(function, content)
        finally:
            deadline.end()
            self._finish(instance)

    def _run_chain(self, name: str, document: Any) -> bytes:
        length = 1

        def keep(value: Any) -> bytes:
            nonlocal length
            text = self._json(value)
            length += len(text) + 1
            if length > self.limits.output_bytes:
                raise output_too_large(self.limits, length)
            return text

        return b"[" + b",".join(run_chain(name, document, self._call_on_value, keep)) + b"]"

    def _call_on_value(self, function: str, value: Any) -> Any:
        try:
            payload = value if isinstance(value, _Payload) else message_pack.pack(value)
            return message_pack.decode(self._invoke(function, payload))
        except PexecError as error:
            raise error.at(function=function) from None

    def _json(self, value: Any) -> bytes:
        """Return the result as JSON text, for a document that was JSON."""
        try:
            text = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
        except (orjson.JSONEncodeError, RecursionError) as error:
            raise PluginError(f"the result is not JSON ({error}); use input='msgpack' or input='binary'") from None
        if len(text) > self.limits.output_bytes:
            raise output_too_large(self.limits, len(text))
        return text

    def _invoke(self, function: str, payload: Encoded) -> bytes:
        """Call the module once."""
        operation = self._operations.get(function)
        if operation is None:
            if len(self._operations) >= _KEPT_OPERATIONS:
                self._operations.clear()
            operation = self._operations[function] = function.encode("utf-8", "surrogatepass")
        instance, wapc = self._instance, self._wapc
        assert instance is not None
        wapc.request(operation, payload)
        self._intact = False  # until it returns: a call that is cut short leaves an unknown state
        try:
            with wapc.host.callbacks:
                succeeded = self._call(len(operation), len(payload))
        except (raw.Trapped, wasmtime.WasmtimeError, Exited) as stopped:
            error: BaseException = wapc.raised or stopped
            if isinstance(error, raw.Trapped):
                error = trap_error(instance, self.limits, error)
            raise WasmError(str(error), trapped=True) if isinstance(error, Exited) else error from None
        self._intact = True
        if succeeded:
            return wapc.answer
        failure = wapc.failure
        if wanted := instance.refused():
            raise out_of_memory(self.limits, wanted)
        raise WasmError("the function failed, and does not say why" if failure is None else failure)

    def _open(self) -> WasmInstance:
        self.check_open()
        image = self._image
        instance = open_instance(self._wapc, self._engine, self.limits)
        size = image.memory_size
        try:
            instance.grow_to(size)
        except MemoryRefused:
            raise out_of_memory(self.limits, size) from None
        for address, content in image.changes:
            instance.view[address : address + len(content)] = content
        items = dict(instance.mutable())
        self._setters = [
            raw.global_setter(instance.store, items[name], kind, content) for name, kind, content in image.globals
        ]
        for put in self._setters:
            put()
        call = instance.function(CALL)
        assert call is not None  # `Wapc` has checked
        self._call = raw.bind_numbers(instance.store, call)
        self._deadline = self._wapc.deadline = Deadline(instance, self.limits)
        self._instance = instance
        return instance

    def _finish(self, instance: WasmInstance) -> None:
        """Make the sandbox ready for the next job, and hand out the console's records."""
        self.reached = size = instance.size()
        self.fuel_used = self._deadline.fuel_used
        self._wapc.request(b"", b"")  # documents and results may be large: do not keep them until the next job
        # Memory does not shrink, and the next job could see its size.
        if not self._intact or size != self._image.memory_size or size > MOST_RESET:
            self.drop()
        else:
            start = time.perf_counter_ns()
            self._image.plan.apply(instance, size)
            for put in self._setters:
                put()
            self.reset_ns = time.perf_counter_ns() - start
            self._dirty = False
        self._wapc.tell(self._on_console)


def _document(content: Encoded, kind: int) -> Any:
    """Return a document's value; for a binary document, a `_Payload`."""
    if kind == arrays.JSON:
        try:
            return orjson.loads(content)
        except (orjson.JSONDecodeError, RecursionError) as error:
            raise InvalidDocument(f"the document is not JSON: {error}") from None
    if kind == arrays.MESSAGE_PACK:
        try:
            return message_pack.decode(content)
        except (PluginError, OutputTooLarge) as error:
            raise InvalidDocument(f"the document is not MessagePack: {error}") from None
    return _Payload(content)
