"""One instance of a module: its store, and its linear memory as the host sees it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping

import wasmtime

from parallel_exec.sandbox._binary.format import WASM_PAGE
from parallel_exec.sandbox._engine.engine import Engine

MOST_MEMORY = 4 << 30
UNLIMITED = 1 << 62
_MOST_TABLE = 1 << 20  # elements of a table, 8 bytes each; compilers make tables of one to ten thousand

Exports = Mapping[str, object]


class MemoryRefused(Exception):
    """Linear memory cannot grow to the size asked for; `wanted` is that size in bytes."""

    def __init__(self, wanted: int) -> None:
        super().__init__(f"linear memory of {wanted} bytes refused")
        self.wanted = wanted


class LinearMemory:
    """An instance's store and its one linear memory. What lies in it is the guest's and never trusted.

    Attributes:
        engine: the engine that the instance belongs to.
        view: linear memory as bytes. It spans the whole reservation of 4 GiB; nothing above `size()` may be touched.
        base: address of linear memory in this process; it never changes.
    """

    def __init__(self, engine: Engine, memory_bytes: int, instantiate: Callable[[wasmtime.Store], Exports]) -> None:
        """Make the instance.

        Args:
            engine: the engine.
            memory_bytes: the most that linear memory may have.
            instantiate: makes the instance in the store that it is given and returns its exports, a memory among them.

        Raises:
            MemoryRefused: the module's memory is larger than that.
        """
        self.engine = engine
        self.store = wasmtime.Store(engine.runtime)
        # Only our own code runs before a job.
        if engine.metered:
            self.store.set_fuel(UNLIMITED)
        if engine.epoch:
            self.store.set_epoch_deadline(UNLIMITED)
        self.store.set_limits(memory_size=memory_bytes, instances=1, memories=1, tables=4, table_elements=_MOST_TABLE)
        try:
            self._exports = instantiate(self.store)
        except wasmtime.WasmtimeError as error:
            if "memory" in str(error) and "limit" in str(error):
                raise MemoryRefused(memory_bytes) from None
            raise
        memory = self._exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        self._memory = memory
        self.base = ctypes.addressof(memory.data_ptr(self.store).contents)
        self.view = memoryview((ctypes.c_uint8 * MOST_MEMORY).from_address(self.base)).cast("B")
        self._known_size = memory.data_len(self.store)

    def size(self) -> int:
        """Return the size of linear memory in bytes, as of now."""
        self._known_size = self._memory.data_len(self.store)
        return self._known_size

    def within(self, address: int, length: int) -> bool:
        """Say whether the range lies in linear memory. Every address that the guest gives is checked."""
        end = address + length
        return end <= self._known_size or end <= self.size()

    def grow_to(self, size: int) -> None:
        """Make linear memory at least `size` bytes large.

        Raises:
            MemoryRefused: the store's limit or the machine does not allow it.
        """
        if size <= self._known_size or size <= self.size():
            return
        if size > MOST_MEMORY:
            raise MemoryRefused(size)
        try:
            self._memory.grow(self.store, (size - self._known_size + WASM_PAGE - 1) // WASM_PAGE)
        except wasmtime.WasmtimeError:
            raise MemoryRefused(size) from None
        self.size()

    def tell_overdue(self, job: int) -> None:
        """Tell the guest, if it looks anywhere, that job number `job` is overdue. Any thread may call it."""

    def read(self, address: int, length: int) -> bytes:
        """Copy bytes out of linear memory.

        Raises:
            ValueError: the range does not lie in linear memory.
        """
        if not self.within(address, length):
            raise ValueError(f"the range {address}+{length} is outside linear memory")
        return bytes(self.view[address : address + length])
