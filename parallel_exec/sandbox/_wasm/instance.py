"""An instance of somebody else's module, and the errors for its traps."""

from __future__ import annotations

from collections.abc import Iterator

import wasmtime

from parallel_exec.errors import PexecError, PluginError, WasmError
from parallel_exec.limits import Limits
from parallel_exec.sandbox._binary.format import WASM_PAGE
from parallel_exec.sandbox._engine.engine import Engine
from parallel_exec.sandbox._engine.memory import LinearMemory, MemoryRefused
from parallel_exec.sandbox._engine.raw import Trapped
from parallel_exec.sandbox._limit_errors import limit_of_trap, out_of_memory
from parallel_exec.sandbox._wasm.prepare import GLOBAL, REFUSED
from parallel_exec.sandbox._wasm.wapc import Wapc


class WasmInstance(LinearMemory):
    """An instance of a prepared module (`prepare`)."""

    def function(self, name: str) -> wasmtime.Func | None:
        """Return the exported function of this name, or None."""
        item = self._exports.get(name)
        return item if isinstance(item, wasmtime.Func) else None

    def mutable(self) -> Iterator[tuple[str, wasmtime.Global]]:
        """Yield the module's mutable globals by the names under which they are exported."""
        for name, item in self._exports.items():
            if isinstance(item, wasmtime.Global) and (name.startswith(GLOBAL) or name == REFUSED):
                yield name, item

    def refused(self) -> int:
        """Return how many bytes of memory, in all, the guest asked for when it was last refused, or 0."""
        item = self._exports[REFUSED]
        assert isinstance(item, wasmtime.Global)
        return int(item.value(self.store)) % (1 << 32) * WASM_PAGE


def open_instance(wapc: Wapc, engine: Engine, limits: Limits) -> WasmInstance:
    """Make an instance.

    Raises:
        MemoryLimitExceeded: its memory is larger than the limits allow.
        PluginError: its tables are larger than allowed, or a segment lies outside its memory or table.
    """
    try:
        instance = WasmInstance(engine, limits.memory_bytes, wapc.exports)
    except MemoryRefused as refused:
        raise out_of_memory(limits, refused.wanted) from None
    except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
        raise PluginError(f"no instance of the module can be made: {str(error).splitlines()[-1].strip()}") from None
    wapc.memory = instance
    return instance


def trap_error(instance: WasmInstance, limits: Limits, trap: Trapped) -> PexecError:
    """Return the error of a call that ended in a trap; the instance must not be used again."""
    if (error := limit_of_trap(trap, limits)) is not None:
        return error
    if trap.stack_overflow:
        return WasmError("the call stack is exhausted", trapped=True)
    if wanted := instance.refused():
        return out_of_memory(limits, wanted)
    return WasmError(f"the module trapped: {trap}", trapped=True)
