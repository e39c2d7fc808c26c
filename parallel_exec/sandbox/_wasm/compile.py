"""Checks, prepares and compiles a module that somebody else made, within bounds on what that may take.

Cranelift's time and memory depend on more than the size of what it compiles: 64 KiB of nested loops take 11 s and
300 MB, 4 KiB of blocks with a thousand results more than 20 s. Nothing in the module predicts that, and only the end of
its process ends a compilation. So all but the smallest modules are compiled in a process of their own, with limits on
CPU time and address space; it leaves the machine code in the cache (`artifact`), where the caller finds it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from typing import Final

import wasmtime

from parallel_exec.errors import PexecError, PluginError
from parallel_exec.sandbox._binary.format import FUNCTION_TYPE, BakeError, Reader, SectionId, read_sections
from parallel_exec.sandbox._engine.engine import MODULE_STACK, Engine
from parallel_exec.sandbox._text import printable
from parallel_exec.sandbox._wasm.prepare import prepare

MOST_MODULE_BYTES: Final = 64 << 20
# Of the process that compiles one; the engine's own module, 1 MB, takes 4 s of CPU time and 0.6 GiB of address space.
CPU_S: Final = 30
ADDRESS_SPACE: Final = 2 << 30

# A module of at most `_SMALL` bytes whose types each have at most `_FEW_VALUES` parameters and results is compiled in
# this process: the worst found take 1 s (50,000 locals in each function) or 200 MB (nested loops of four values).
# Another process takes 0.15 s to start.
_SMALL: Final = 4 << 10
_FEW_VALUES: Final = 9

_REFUSED: Final = 3  # exit status: standard output says why

# Takes over the caller's import path.
_BOOTSTRAP: Final = (
    "import sys; sys.path[:] = sys.argv[4:]; from parallel_exec.sandbox._wasm.compile import main; main()"
)

log = logging.getLogger("parallel_exec.cache")

_one_at_a_time = threading.Lock()


def compile_module(engine: Engine, wasm: bytes) -> tuple[bytes, wasmtime.Module]:
    """Return the prepared module (`prepare`) and what it compiles to.

    Raises:
        PluginError: it is not a module that can be run, it is too large, or compiling it takes too long or too much
            memory.
        PexecError: the process that should compile it cannot be started, or is killed.
    """
    if len(wasm) > MOST_MODULE_BYTES:
        raise PluginError(f"the module has {len(wasm)} bytes; at most {MOST_MODULE_BYTES} are taken")
    try:
        if _is_small(wasm) or os.name != "posix" or not sys.executable:
            prepared = _checked(engine, wasm)
        else:
            prepared = _apart(engine, wasm)
        return prepared, engine.compile(prepared)
    except wasmtime.WasmtimeError as error:
        raise PluginError(f"not a WebAssembly module that can be run: {_reason(error)}") from None
    except BakeError as error:
        raise PluginError(f"the module cannot be run: {error}") from None


def _checked(engine: Engine, wasm: bytes) -> bytes:
    wasmtime.Module.validate(engine.runtime, wasm)
    return prepare(wasm)


def _is_small(wasm: bytes) -> bool:
    """Say whether compiling these bytes takes little, whatever is in them."""
    if len(wasm) > _SMALL:
        return False
    try:
        for section in read_sections(wasm):
            if section.id is SectionId.TYPE:
                return _has_few_values(section.reader())
    except BakeError:
        pass  # validation says it better
    return True


def _has_few_values(types: Reader) -> bool:
    for _ in range(types.unsigned()):
        if types.byte() != FUNCTION_TYPE:
            return True  # which is refused
        count = 0
        for _list in ("parameters", "results"):
            values = types.unsigned()
            count += values
            for _ in range(values):
                types.value_type()
        if count > _FEW_VALUES:
            return False
    return True


def _apart(engine: Engine, wasm: bytes) -> bytes:
    """Check, prepare and compile in another process; return the prepared module."""
    arguments = (engine.metered, CPU_S, ADDRESS_SPACE, *sys.path)
    command = [sys.executable, "-P", "-c", _BOOTSTRAP, *map(str, arguments)]
    # The compiler's threads and malloc's arenas reserve address space for each CPU of the machine.
    environment = os.environ | {"RAYON_NUM_THREADS": str(min(4, os.cpu_count() or 1)), "MALLOC_ARENA_MAX": "2"}
    environment["RUST_BACKTRACE"] = "0"
    try:
        with _one_at_a_time:  # so that the bounds hold for this process as a whole
            done = subprocess.run(
                command, input=wasm, capture_output=True, env=environment, process_group=0, check=False
            )
    except OSError as error:
        raise PexecError(f"cannot start the process that compiles the module: {error.strerror}") from None
    if not done.returncode:
        return done.stdout
    if done.returncode == _REFUSED:
        raise PluginError(done.stdout.decode())
    if done.returncode == -signal.SIGXCPU:
        raise PluginError(f"compiling the module takes more than {CPU_S} s of CPU time")
    said = done.stderr.decode(errors="replace").strip()
    if "memory" in said.lower():  # Rust's abort, or Python's MemoryError
        raise PluginError(f"compiling the module takes more than {ADDRESS_SPACE >> 20} MiB of memory")
    if done.returncode == -signal.SIGKILL:
        raise PexecError("the process that compiles the module was killed; perhaps there is too little memory")
    log.error("the process that compiles a module ended with status %d: %s", done.returncode, said)
    raise PluginError(f"the compiler fails on the module (status {done.returncode})")


def main() -> None:
    """Compile a module that comes on standard input; write the prepared one, or what is wrong with it."""
    import resource

    metered, seconds, space = sys.argv[1:4]
    limits = (resource.RLIMIT_CPU, int(seconds)), (resource.RLIMIT_AS, int(space)), (resource.RLIMIT_CORE, 0)
    for limit, value in limits:
        most = resource.getrlimit(limit)[1]  # a container may allow less
        with contextlib.suppress(ValueError):  # macOS has no limit on address space
            resource.setrlimit(limit, (value if most == resource.RLIM_INFINITY else min(value, most), most))
    engine = Engine(epoch=True, stack=MODULE_STACK, metered=metered == "True")
    try:
        output, status = _checked(engine, sys.stdin.buffer.read()), 0
        engine.compile(output)
    except wasmtime.WasmtimeError as error:
        output, status = f"not a WebAssembly module that can be run: {_reason(error)}".encode(), _REFUSED
    except BakeError as error:
        output, status = f"the module cannot be run: {error}".encode(), _REFUSED
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()
    os._exit(status)


def _reason(error: wasmtime.WasmtimeError) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return printable(": ".join(line for line in lines if line and "Caused by" not in line), 400)
