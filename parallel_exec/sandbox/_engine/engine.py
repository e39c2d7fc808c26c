"""The wasmtime engines of this process, and the module that all JavaScript sandboxes share: QuickJS-ng and our guest
code.
"""

from __future__ import annotations

import hashlib
import threading
from functools import cache, cached_property
from pathlib import Path
from typing import ClassVar, Literal

import wasmtime

from parallel_exec.errors import PluginError
from parallel_exec.limits import Limits
from parallel_exec.sandbox._engine import artifact
from parallel_exec.sandbox._engine.raw import set_max_wasm_stack, use_winch

GUEST = Path(__file__).resolve().parents[2] / "guest"

# Native stack for WebAssembly. The engine's own limits of the shadow stack (guest/stack.inc.c) must strike first in
# every kind of recursion (tests/sandbox/test_depth.py). A thread's stack, 8 MiB by default, must hold it.
MAX_WASM_STACK = 13 << 19

# The same for a module that is not ours, which may use all of it. Through a host function it may be above or below the
# engine in a thread's stack, or above another module. (wasmtime's default is half of it.)
MODULE_STACK = 1 << 20


Backend = Literal["cranelift", "winch", "pulley"]


def make_config(
    *, epoch: bool = False, metered: bool = False, backend: Backend = "cranelift", stack: int = MAX_WASM_STACK
) -> wasmtime.Config:
    """Return the configuration under which modules of this package are compiled and run (see `Engine`)."""
    config = wasmtime.Config()
    if backend == "winch":
        use_winch(config)
    elif backend == "pulley":
        config.target = "pulley64"
    config.epoch_interruption = epoch
    config.consume_fuel = metered
    set_max_wasm_stack(config, stack)
    config.wasm_simd = True
    config.wasm_wide_arithmetic = True
    # A module must not have what `_wasm.prepare` does not know: state that no image holds could hide behind it.
    config.wasm_function_references = False
    config.wasm_gc = False
    config.wasm_exceptions = False
    config.wasm_threads = False
    config.wasm_memory64 = False
    config.wasm_multi_memory = False
    # A reservation of 4 GiB for each memory: its base never moves, and bounds checks cost nothing.
    config.memory_reservation = 4 << 30
    config.memory_may_move = False
    return config


CONFIG_KEY = "speed simd wide-arithmetic no-gc reservation=4GiB"


class Engine:
    """A wasmtime engine, and the compiled guest, which is loaded when it is first asked for.

    Args:
        epoch: compile in a check of the engine's epoch at every backward jump and call (``Limits.interrupt``).
        metered: compile in the counting of instructions (``Limits.fuel``).
        stack: bytes of native stack that WebAssembly may use: `MAX_WASM_STACK` or, for modules that are not ours,
            `MODULE_STACK`.
        backend: what compiles: Cranelift; Winch, which compiles faster to slower code; or Cranelift for Pulley, an
            interpreter. The other two are for comparison (`pexec bench verify`).

    Attributes:
        wasm: the guest module's bytes.
        build_id: hash of the guest's sources and compiler; memory images belong to one build.
    """

    _shared: ClassVar[dict[bool, Engine]] = {}
    _lock = threading.Lock()

    def __init__(
        self,
        *,
        epoch: bool = False,
        metered: bool = False,
        stack: int = MAX_WASM_STACK,
        backend: Backend = "cranelift",
    ) -> None:
        self.epoch = epoch
        self.metered = metered
        self.runtime = wasmtime.Engine(make_config(epoch=epoch, metered=metered, backend=backend, stack=stack))
        self._config_key = f"{backend} {CONFIG_KEY} stack={stack}" + " epoch" * epoch + " fuel" * metered

    @property
    def wasm(self) -> bytes:
        return _read_guest(GUEST / "engine.wasm")[0]

    @property
    def build_id(self) -> str:
        return _read_guest(GUEST / "engine.wasm")[1]

    @cached_property
    def module(self) -> wasmtime.Module:
        """The compiled guest."""
        return self._load(self.wasm, self.build_id)

    @cached_property
    def mutable_globals(self) -> frozenset[str]:
        """The names of the exported mutable globals, whose values are part of a memory image."""
        types = ((export.name, export.type) for export in self.module.exports)
        return frozenset(name for name, kind in types if isinstance(kind, wasmtime.GlobalType) and kind.mutable)

    @classmethod
    def shared(cls, *, metered: bool = False) -> Engine:
        """Return this process's engine, loading it (or, the first time on a machine, compiling it) on first use.

        Raises:
            PluginError: the engine is not built.
        """
        with cls._lock:
            if metered not in cls._shared:
                engine = cls(metered=metered)
                engine.module  # noqa: B018 - loaded here, under the lock
                cls._shared[metered] = engine
            return cls._shared[metered]

    @classmethod
    def for_limits(cls, limits: Limits) -> Engine:
        """Return an engine that can enforce the limits; one with an epoch is the caller's alone (see `deadline`)."""
        metered = limits.fuel is not None
        return cls(epoch=True, metered=metered) if limits.interrupt == "epoch" else cls.shared(metered=metered)

    def compile(self, wasm: bytes, *, cached: bool = True) -> wasmtime.Module:
        """Compile another module, such as a baked one, for this engine; through the artifact cache if `cached`.

        Raises:
            wasmtime.WasmtimeError: it is not a module that this engine can run.
        """
        if not cached:
            return wasmtime.Module(self.runtime, wasm)
        return self._load(wasm, hashlib.sha256(wasm).hexdigest())

    def _load(self, wasm: bytes, digest: str) -> wasmtime.Module:
        return artifact.load_or_compile(self.runtime, wasm, artifact.artifact_key(digest, self._config_key))


@cache
def _read_guest(path: Path) -> tuple[bytes, str]:
    """Return the module's bytes and their hash, which holds however the file was made."""
    try:
        wasm = path.read_bytes()
    except OSError as error:
        raise PluginError(
            f"the engine is not built ({error}); in a checkout, run: python scripts/build_guest.py"
        ) from None
    return wasm, hashlib.sha256(wasm).hexdigest()
