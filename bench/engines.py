"""Other builds of the engine than the package's: with exports that only a comparison calls, or with other flags."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import parallel_exec as px
from parallel_exec.sandbox._engine import engine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import build_guest


def build(unit: Path) -> Path:
    """Compile a C file that includes engine.c and adds exports, unless that is done, and return the folder of the
    engine.wasm.

    Raises:
        BuildError: sources or compiler cannot be had, or the C does not compile.
    """
    inputs = build_guest.inputs_digest(build_guest.GUEST) + hashlib.sha256(unit.read_bytes()).hexdigest()
    folder = build_guest.cache_root() / "bench-engines" / hashlib.sha256(inputs.encode()).hexdigest()
    if not (folder / "engine.wasm").exists():
        build_guest.write(folder / "engine.wasm", build_guest.compile_guest(build_guest.GUEST, [unit]))
    return folder


@contextmanager
def instead(folder: Path) -> Iterator[None]:
    """Let images and sandboxes be made with the engine.wasm in this folder."""
    ours, shared = engine.GUEST, engine.Engine._shared  # noqa: SLF001 -- users have one build only
    engine.GUEST, engine.Engine._shared = folder, {}  # noqa: SLF001
    try:
        yield
    finally:
        engine.GUEST, engine.Engine._shared = ours, shared  # noqa: SLF001


def sandbox_of(folder: Path, plugin: px.Plugin, limits: px.Limits) -> px.Sandbox:
    """Make a sandbox of the engine.wasm in this folder."""
    with instead(folder):
        return px.Sandbox(px.MemoryImage.capture(plugin.source, name=plugin.name), limits=limits)
