"""The compiled engine of this process: QuickJS-ng and our guest code as a wasmtime module that all sandboxes share."""

from __future__ import annotations

import hashlib
import threading
from functools import cached_property
from pathlib import Path

import wasmtime

from ..errors import PluginError
from . import artifact
from .raw import set_max_wasm_stack

GUEST = Path(__file__).resolve().parent.parent / "guest"

# Native stack for WebAssembly. The engine's own limit of 192 KiB of shadow stack must strike first in every kind of
# recursion (tests/sandbox/test_depth.py): up to 2.8 MiB, for JSON.stringify. A thread's stack, 8 MiB by default, must
# hold it.
MAX_WASM_STACK = 4 << 20


def make_config() -> wasmtime.Config:
    """Return the configuration under which every module of this package is compiled and run."""
    config = wasmtime.Config()
    set_max_wasm_stack(config, MAX_WASM_STACK)
    config.wasm_simd = True
    config.wasm_wide_arithmetic = True
    # A reservation of 4 GiB for each memory: its base never moves, and bounds checks cost nothing.
    config.memory_reservation = 4 << 30
    config.memory_may_move = False
    return config


CONFIG_KEY = f"cranelift speed stack={MAX_WASM_STACK} simd wide-arithmetic reservation=4GiB"


class Engine:
    """A wasmtime engine and the compiled guest.

    Attributes:
        wasm: the guest module's bytes.
        build_id: hash of the guest's sources and compiler; memory images belong to one build.
    """

    _shared: Engine | None = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        try:
            self.wasm = (GUEST / "engine.wasm").read_bytes()
        except OSError as error:
            raise PluginError(
                f"the engine is not built ({error}); in a checkout, run: python scripts/build_guest.py"
            ) from None
        # Of the bytes themselves, so that it holds however the file was made.
        self.build_id = hashlib.sha256(self.wasm).hexdigest()
        self.runtime = wasmtime.Engine(make_config())
        key = artifact.artifact_key(self.build_id, CONFIG_KEY)
        self.module = artifact.load_or_compile(self.runtime, self.wasm, key)

    @cached_property
    def mutable_globals(self) -> frozenset[str]:
        """The names of the exported mutable globals, which a memory image has values for."""
        types = ((export.name, export.type) for export in self.module.exports)
        return frozenset(name for name, kind in types if isinstance(kind, wasmtime.GlobalType) and kind.mutable)

    @classmethod
    def shared(cls) -> Engine:
        """Return this process's engine, loading it (or, the first time on a machine, compiling it) on first use."""
        with cls._lock:
            if cls._shared is None:
                cls._shared = cls()
            return cls._shared

    def compile(self, wasm: bytes, *, cached: bool = True) -> wasmtime.Module:
        """Compile another module, such as a baked one, for this engine; through the artifact cache if `cached`."""
        if not cached:
            return wasmtime.Module(self.runtime, wasm)
        key = artifact.artifact_key(hashlib.sha256(wasm).hexdigest(), CONFIG_KEY)
        return artifact.load_or_compile(self.runtime, wasm, key)
