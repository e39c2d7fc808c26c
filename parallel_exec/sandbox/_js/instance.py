"""An instance of the engine's guest: its mailbox, the jobs that are written there, and its exports."""

from __future__ import annotations

import time
from collections.abc import Callable

import wasmtime

from parallel_exec._codec.arrays import Encoded
from parallel_exec.limits import Limits
from parallel_exec.sandbox._engine import raw
from parallel_exec.sandbox._engine.engine import Engine
from parallel_exec.sandbox._engine.memory import Exports, LinearMemory, MemoryRefused
from parallel_exec.sandbox._js.mailbox import (
    DEADLINE_OFFSET,
    INPUT_PADDING,
    PER_JOB,
    PER_JOB_SEED,
    SEED_OFFSET,
    Reply,
    pack_deadline,
    pack_request,
    unpack_reply,
)
from parallel_exec.sandbox._limit_errors import out_of_memory

_KEPT_REQUESTS = 64
_SEED_MASK = 0xFFFFFFFFFFFFFFFF


class JavaScriptInstance(LinearMemory):
    """An instance of the engine module or of a module baked from it; both have the same exports and import nothing.

    Args:
        module: the compiled module.
        memory_bytes: the most bytes of linear memory.
        engine: the engine that it was compiled for; by default the process's own.

    Attributes:
        mailbox: address of the mailbox in linear memory.

    Raises:
        MemoryRefused: the module's memory is larger than `memory_bytes`.
    """

    def __init__(self, module: wasmtime.Module, *, memory_bytes: int, engine: Engine | None = None) -> None:
        def instantiate(store: wasmtime.Store) -> Exports:
            return wasmtime.Instance(store, module, []).exports(store)

        super().__init__(engine or Engine.shared(), memory_bytes, instantiate)
        self.mailbox = self.ask("mailbox")

    def tell_overdue(self, job: int) -> None:
        address = self.mailbox + DEADLINE_OFFSET
        self.view[address : address + 4] = pack_deadline(job)

    def bind(self, name: str) -> Callable[[], None]:
        """Return a callable for an export that takes and returns nothing; calling it raises `raw.Trapped` on a trap."""
        return raw.bind(self.store, self._function(name))

    def ask(self, name: str) -> int:
        """Return the result of an export that takes nothing and returns an i32."""
        answer: int = self._function(name)(self.store)
        return answer

    def set_function(self, slot: int, function: Callable[[], None]) -> None:
        """Put a function of ours, which takes and returns nothing, into a slot of the guest's function table."""
        table = self._exports["__indirect_function_table"]
        assert isinstance(table, wasmtime.Table)
        table.set(self.store, slot, wasmtime.Func(self.store, wasmtime.FuncType([], []), function))

    def reply(self) -> Reply:
        """Read what the guest reports about the last call."""
        return unpack_reply(self.view, self.mailbox)

    def globals(self) -> dict[str, int]:
        """Return the values of the exported mutable globals, all of them i32 (the shadow stack's pointer)."""
        return {
            name: item.value(self.store)
            for name, item in self._exports.items()
            if isinstance(item, wasmtime.Global) and item.type(self.store).mutable
        }

    def set_global(self, name: str, value: int) -> None:
        """Set an exported mutable i32 global."""
        item = self._exports[name]
        assert isinstance(item, wasmtime.Global)
        item.set_value(self.store, wasmtime.Val.i32(value))

    def _function(self, name: str) -> wasmtime.Func:
        function = self._exports[name]
        assert isinstance(function, wasmtime.Func)
        return function


class JobWriter:
    """Writes jobs into the mailbox and the input of one instance after another, under the same limits.

    Args:
        limits: on each job.
        seed: of the first job's random numbers.
        step: what is added to the seed for each job.

    Attributes:
        job: number of the job that was written last.
    """

    def __init__(self, limits: Limits, seed: int, step: int = 0) -> None:
        self.job = 0
        self._limits = limits
        self._seed = (seed - step) & _SEED_MASK
        self._step = step
        self._requests: dict[str, bytearray] = {}

    def write(self, instance: JavaScriptInstance, name: str, content: Encoded, kind: int, address: int) -> int:
        """Write the request and the input of the next job; return the address at which the input's room ends.

        Args:
            instance: where the job will run.
            name: the function to call, or the file name of a plugin that is loaded.
            content: the input: a document or a source text.
            kind: what a document is (`arrays`), or what a plugin's source is (`LoadKind`).
            address: where the input goes.

        Raises:
            MemoryLimitExceeded: the input does not fit the limits.
            PluginError: the name is too long.
        """
        limits = self._limits
        request = self._requests.get(name) or self._request(name)
        self.job = job = self.job % 0xFFFFFFFF + 1
        self._seed = seed = (self._seed + self._step) & _SEED_MASK
        clock = time.time() if limits.time is None else limits.time
        length = len(content)
        PER_JOB.pack_into(request, 0, job, length)
        PER_JOB_SEED.pack_into(request, SEED_OFFSET, kind, seed, clock * 1000.0)
        end = address + length + INPUT_PADDING
        try:
            instance.grow_to(end)
        except MemoryRefused as refused:
            raise out_of_memory(limits, refused.wanted) from None
        view, mailbox = instance.view, instance.mailbox
        view[mailbox : mailbox + len(request)] = request
        view[address : address + length] = content
        return end

    def _request(self, name: str) -> bytearray:
        limits = self._limits
        request = pack_request(
            name, memory=limits.memory_bytes, output=limits.output_bytes, console=limits.console_bytes
        )
        if len(self._requests) >= _KEPT_REQUESTS:
            self._requests.clear()
        self._requests[name] = request
        return request
