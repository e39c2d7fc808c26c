"""What every job of a WebAssembly module starts from: the module, and its memory and globals once it is initialised.

Its file (`_image_file`) begins with ``PEXECWSM``; the header has the plugin's name, the memory's size, the globals, and
the lengths of what follows: the prepared module, the pages of memory that are not zero, and those that differ from what
the module's data segments make, which have to be written into a new instance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import wasmtime

from parallel_exec._codec.documents import Input
from parallel_exec.errors import PluginError, WasmError
from parallel_exec.limits import Limits
from parallel_exec.sandbox import _image_file as image_file
from parallel_exec.sandbox._console import log_record
from parallel_exec.sandbox._engine import raw
from parallel_exec.sandbox._engine.deadline import Deadline
from parallel_exec.sandbox._engine.engine import MODULE_STACK, Engine
from parallel_exec.sandbox._image_file import RUN_PAGE, Runs
from parallel_exec.sandbox._reset import Plan
from parallel_exec.sandbox._runner import Image
from parallel_exec.sandbox._wasm.compile import compile_module
from parallel_exec.sandbox._wasm.instance import WasmInstance, open_instance, trap_error
from parallel_exec.sandbox._wasm.prepare import START
from parallel_exec.sandbox._wasm.wapc import Exited, Wapc

WASM_IMAGE_MAGIC = b"PEXECWSM"

# What a host calls before anything else if the module has it: its start function, then what compilers export
# (_initialize for a library, _start for a program), then waPC's own.
_INITIALISERS = {START: "its start function"} | {each: each for each in ("_initialize", "_start", "wapc_init")}


@dataclass(frozen=True, kw_only=True, eq=False)
class WasmImage(Image):
    """A WebAssembly module with its initialised memory, ready for instances.

    Attributes:
        plugin_name: the plugin's name, for messages.
        wasm: the module, prepared (`prepare`).
        memory_size: bytes of linear memory, a multiple of 64 KiB.
        globals: values of the mutable globals: name, type and bytes of each.
        runs: the pages that are not zero: ascending, disjoint runs of (address, bytes).
        changes: the pages that differ from a new instance's, as `runs`.
    """

    plugin_name: str
    wasm: bytes
    memory_size: int
    globals: Sequence[tuple[str, str, bytes]]
    runs: Runs
    changes: Runs
    input: ClassVar[Input] = "msgpack"

    @cached_property
    def plan(self) -> Plan:
        """How to reset an instance. Not needed for a large memory, whose instance is replaced instead."""
        return Plan(self.runs)

    @classmethod
    def capture(cls, wasm: bytes, *, name: str, limits: Limits | None = None) -> WasmImage:
        """Check the module, initialise an instance of it, and capture memory and globals.

        Args:
            wasm: the module.
            name: the plugin's name, for messages.
            limits: bounds on each of the calls that initialise it.

        Raises:
            PluginError: it is not a module, lacks exports, wants unknown imports, keeps state that cannot be restored,
                or fails while it is initialised.
            JobTimeout: a call that initialises it takes longer than the limits allow.
            FuelExhausted: it takes more instructions than they allow.
            MemoryLimitExceeded: it takes more memory than they allow.
            PexecError: the process that should compile it cannot be started, or is killed.
        """
        limits = limits or Limits()
        engine = Engine(epoch=True, stack=MODULE_STACK, metered=limits.fuel is not None)
        prepared, compiled = compile_module(engine, wasm)
        wapc = Wapc(engine, compiled, limits, None)
        instance = open_instance(wapc, engine, limits)
        if not instance.size():
            raise PluginError("the module's memory has no pages, so a waPC host cannot write requests there")
        fresh = instance.read(0, instance.size())
        for export, called in _INITIALISERS.items():
            _initialise(wapc, instance, export, called, limits)
        wapc.tell(log_record)
        memory = instance.read(0, instance.size())
        return cls(
            plugin_name=name,
            wasm=prepared,
            memory_size=len(memory),
            globals=tuple((key, *raw.global_content(instance.store, item)) for key, item in instance.mutable()),
            runs=image_file.changed(memory) or ((0, memoryview(memory)[:RUN_PAGE]),),
            changes=image_file.changed(memory, fresh),
        )

    def to_bytes(self) -> bytes:
        header = {
            "plugin_name": self.plugin_name,
            "memory_size": self.memory_size,
            "globals": [(name, kind, content.hex()) for name, kind, content in self.globals],
            "wasm": len(self.wasm),
            "runs": [(address, len(content)) for address, content in self.runs],
            "changes": [(address, len(content)) for address, content in self.changes],
        }
        return image_file.dump(WASM_IMAGE_MAGIC, header, self._parts())

    def _parts(self) -> Iterator[bytes | memoryview]:
        yield self.wasm
        for _address, content in (*self.runs, *self.changes):
            yield content

    @classmethod
    def from_bytes(cls, buffer: Any) -> WasmImage:
        """Return the image that `to_bytes` wrote; its runs are views of `buffer`, not copies.

        Raises:
            PluginError: it is not an image, or it is damaged.
        """
        header, content = image_file.load(WASM_IMAGE_MAGIC, buffer)
        match header:
            case {
                "plugin_name": str(name),
                "memory_size": int(size),
                "globals": list(found),
                "wasm": int(length),
                "runs": list(runs),
                "changes": list(changes),
            }:
                pass
            case _:
                raise PluginError("the memory image's header is not one that this release writes")
        middle = length + sum(run[1] for run in runs)
        return cls(
            plugin_name=name,
            wasm=bytes(content[:length]),
            memory_size=size,
            globals=tuple((key, kind, bytes.fromhex(text)) for key, kind, text in found),
            runs=image_file.cut(runs, content[length:middle], size),
            changes=image_file.cut(changes, content[middle:], size),
        )


def _initialise(wapc: Wapc, instance: WasmInstance, export: str, called: str, limits: Limits) -> None:
    function = instance.function(export)
    if function is None:
        return
    kind = function.type(instance.store)
    if kind.params or kind.results:
        raise PluginError(
            f"the module's {called} takes parameters or returns something; waPC's takes and returns nothing"
        )
    deadline = wapc.deadline = Deadline(instance, limits)
    deadline.begin(1)
    wapc.raised = None
    try:
        with wapc.host.callbacks:
            raw.bind(instance.store, function)()
    except (raw.Trapped, wasmtime.WasmtimeError, Exited, WasmError) as stopped:
        error: BaseException = wapc.raised or stopped
        if isinstance(error, raw.Trapped):
            error = trap_error(instance, limits, error)
        if isinstance(error, Exited) and not error.status and export == "_start":
            return  # a program ends well in this way
        if isinstance(error, WasmError | Exited):
            text = error.message if isinstance(error, WasmError) else str(error)
            raise PluginError(f"the module fails in {called}: {text}") from None
        raise error from None
    finally:
        deadline.end()
        deadline.close()
