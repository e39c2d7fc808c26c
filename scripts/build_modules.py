#!/usr/bin/env python3
"""Build the verification modules: libsecp256k1 and the C files of parallel_exec/verify/modules become
parallel_exec/verify/modules/verify-*.wasm.

    python -m pip install ziglang==0.17.0 && python scripts/build_modules.py

For wasmtime ("wide": 64 x 64 to 128 bit products, without which a multiplication takes seven times as long) there is a
module for Schnorr signatures, one for ECDSA and one for both, each optimised for speed and for size. For interpreters,
which know only WebAssembly's first version ("mvp"), there is the one for both. Sources and compiler are fetched and
checked like those of the engine (build_guest.py); the cache directory's parallel_exec/modules/ has every module built
so far. The build hook puts all of them into a wheel; a checkout builds them when one is first used.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product, repeat
from pathlib import Path

from build_guest import (
    ZIGLANG,
    Source,
    bring_up_to_date,
    exit_status,
    fetch,
    require_compiler,
    run_compiler,
    sha256,
    unpack,
)

SOURCE = Source(
    name="electrum-ecc",
    version="0.0.8",
    filename="electrum_ecc-0.0.8.tar.gz",
    sha256="94869a77de28ee79b7f7e974af5c20b392b949905880a8b26504e28202644106",
    folder="libsecp256k1",  # 0.8.0
    nested=True,
)

SCHEMES = {
    "schnorr": ("-DVERIFY_SCHNORR",),
    "ecdsa": ("-DVERIFY_ECDSA",),
    "both": ("-DVERIFY_SCHNORR", "-DVERIFY_ECDSA"),
}
OPTIMISED = {"speed": "-O3", "size": "-Oz"}
# wasmtime makes slower code, by a quarter, of a function into which too many field multiplications have been inlined:
# so less is inlined than usual (225), and nothing when the parts are linked. An interpreter wants all of it.
#
# Windows of 10 bits are tables of 32 KiB, which stay in the processor's cache and which a reset copies in 3 us. The
# library's default of 15 makes them 1 MiB, and a verification no faster in wasmtime. In an interpreter, where additions
# are expensive, 12 bits save 3 % and 15 another 3 %, but each such module would add 1 MB to a wheel of 1 MB.
#
# USE_EXTERNAL_ASM has the library call the multiplication of field_10x26.c instead of its own.
TARGETS = {
    "wide": ("-mwide-arithmetic", "-mbulk-memory", "-mllvm", "-inline-threshold=25", "-DECMULT_WINDOW_SIZE=10"),
    "mvp": ("-mcpu=mvp", "-flto", "-DUSE_FORCE_WIDEMUL_INT64=1", "-DUSE_EXTERNAL_ASM", "-DECMULT_WINDOW_SIZE=12"),
}
FIELD_UNIT = "field_10x26.c"
TARGET_UNITS = {"wide": (), "mvp": (FIELD_UNIT,)}

# Verifying takes less than 8 KiB of it. The linker's default of 16 MiB would have to be zeroed after every message.
STACK_SIZE = 32 * 1024

# Without the C library, which the compiler would build for each target and optimisation: 25 s of CPU time, where a
# module takes 2. memory.c has what is needed of it, and its headers come with the compiler.
COMPILE_FLAGS = (
    "-target",
    "wasm32-wasi",
    "-nostdlib",
    "-DENABLE_MODULE_EXTRAKEYS",
    "-DENABLE_MODULE_SCHNORRSIG",
    "-DCOMB_BLOCKS=2",  # with the next one, the smallest table for signing, which the linker leaves out
    "-DCOMB_TEETH=5",
    "-DUSE_EXTERNAL_DEFAULT_CALLBACKS",  # ours trap; the library's print
    "-Wno-unused-function",
)
HEADERS = ("wasm-wasi-musl", "generic-musl")
UNITS = ("verify.c", "memory.c")  # the former includes the library's secp256k1.c
SOURCE_UNITS = ("precomputed_ecmult.c", "precomputed_ecmult_gen.c")
LINK_FLAGS = ("-Wl,--no-entry", f"-Wl,-z,stack-size={STACK_SIZE}", "-Wl,--strip-all", "-Wl,--gc-sections")

MODULES = Path(__file__).resolve().parent.parent / "parallel_exec" / "verify" / "modules"


def module_names() -> list[str]:
    """Return the names of all modules."""
    wide = ["-".join(parts) for parts in product(SCHEMES, OPTIMISED, ["wide"])]
    return [*wide, *(f"both-{optimised}-mvp" for optimised in OPTIMISED)]


def flags_of(name: str) -> list[str]:
    """Return the compiler's flags for a module."""
    scheme, optimised, target = name.split("-")
    return [*COMPILE_FLAGS, OPTIMISED[optimised], *SCHEMES[scheme], *TARGETS[target]]


def units_of(name: str) -> list[str]:
    """Return the names of our C files that are part of a module."""
    return [*UNITS, *TARGET_UNITS[name.split("-")[2]]]


def inputs_digest(name: str, modules: Path = MODULES) -> str:
    """Return the hash of everything that a module depends on."""
    ours = {path.name: sha256(path.read_bytes()) for path in sorted(modules.glob("*.[ch]"))}
    units = [*units_of(name), *SOURCE_UNITS]
    return sha256(json.dumps([ours, SOURCE[:5], ZIGLANG, HEADERS, units, flags_of(name), LINK_FLAGS]).encode())


def build(name: str, modules: Path = MODULES) -> Path:
    """Bring a module up to date and return its path.

    Raises:
        BuildError: sources or compiler are not available, the C does not compile, or a file cannot be written.
    """
    path = modules / f"verify-{name}.wasm"
    return bring_up_to_date(
        path,
        path.with_suffix(".txt"),
        inputs_digest(name, modules),
        kept_in="modules",
        compiled=lambda: compile_module(name, modules),
    )


def compile_module(name: str, modules: Path) -> bytes:
    """Compile a module."""
    require_compiler()
    source = unpack(SOURCE, fetch(SOURCE)) / "src"
    print(f"compiling verify-{name}", file=sys.stderr, flush=True)
    compiler = importlib.util.find_spec("ziglang")
    assert compiler is not None  # require_compiler has looked
    assert compiler.origin is not None
    headers = Path(compiler.origin).parent / "lib" / "libc" / "include"
    folders = [part for folder in HEADERS for part in ("-isystem", str(headers / folder))]
    units = [*(modules / unit for unit in units_of(name)), *(source / unit for unit in SOURCE_UNITS)]
    arguments = [*flags_of(name), *folders, f"-I{source}", *map(str, units), *LINK_FLAGS]
    return run_compiler(arguments, f"verify-{name}")


def build_all(names: Sequence[str] = (), modules: Path = MODULES) -> Iterator[Path]:
    """Bring modules, by default all, up to date, as many at a time as there are CPUs, and yield their paths in order.

    Raises:
        BuildError: as `build` does.
    """
    first, *others = names or module_names()
    yield build(first, modules)  # alone: it fetches what the others need, too
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        yield from executor.map(build, others, repeat(modules))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(
        description="Build those of parallel_exec/verify/modules/verify-*.wasm that are out of date."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"by default all: {', '.join(module_names())}")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(module_names()):
        parser.error(f"there is no module {', '.join(sorted(unknown))}")
    return exit_status("build_modules", lambda: build_all(options.names))


if __name__ == "__main__":
    sys.exit(main())
