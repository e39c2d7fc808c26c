#!/usr/bin/env python3
"""Build the engine guest: QuickJS-ng and the C files of parallel_exec/guest become parallel_exec/guest/engine.wasm.

The package's build hook (hatch_build.py) runs this, so `pip install .` does; after an edit of the C files run it:

    python -m pip install ziglang==0.17.0 && python scripts/build_guest.py

The third-party C sources are pinned source distributions, fetched with pip and checked against their hashes; the
compiler is a pinned wheel. What the build keeps lies in the user's cache directory (`$XDG_CACHE_HOME` or `~/.cache`):

    parallel_exec/sources/  the downloaded archives and the C files out of them
    parallel_exec/patched/  those of the C files that parallel_exec/guest/patches changes, by the hash of all patches
    parallel_exec/zig/      the compiler's own cache
    parallel_exec/guest/    every engine built so far, named by the hash of its inputs: another clone compiles nothing

Only the standard library is used, so that the script runs wherever pip does.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import json
import os
import secrets
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import patching


class Source(NamedTuple):
    """A pinned source distribution of the package index, and the folder in it whose C files are needed; `nested` for
    those in its folders, too.
    """

    name: str
    version: str
    filename: str
    sha256: str
    folder: str
    nested: bool = False


SOURCES = (
    Source(
        name="quickjs-ng",
        version="0.17.0.2",
        filename="quickjs_ng-0.17.0.2.tar.gz",
        sha256="43d2e48272208721a7aaea8e3f02d4b9318f12ef20cc4f5421b59d9a470706ef",
        folder="upstream-quickjs",
    ),
    Source(
        name="yyjson",
        version="4.0.6",
        filename="yyjson-4.0.6.tar.gz",
        sha256="fcd4dc15c1e39a30bf9fa85d56903029111506860fc3080ab0d81c6c6dacaa8c",
        folder="yyjson",
    ),
)

ZIGLANG = "0.17.0"  # pyproject.toml pins the same version for the build hook

GUEST_UNITS = ("engine.c",)  # it includes quickjs.c and yyjson.c
SOURCE_UNITS = ("libregexp.c", "libunicode.c", "dtoa.c")

COMPILE_FLAGS = (
    "-target",
    "wasm32-wasi",
    "-mexec-model=reactor",
    "-O3",
    "-flto",
    "-msimd128",
    "-mbulk-memory",
    "-mwide-arithmetic",  # 64 x 64 to 128 bit products, which exact numbers need; wasmtime has it
    "-DNDEBUG",
    "-D_GNU_SOURCE",
)

# The shadow stack: what JavaScript may use (JS_STACK in stack.inc.c) and a reserve for the leaves that do not check.
STACK_RESERVE = 32 * 1024
STACK_SIZE = 1568 * 1024 + STACK_RESERVE

# Look at the deadline on every edge of every function except those that the file names: see deadline.h.
POLL_FLAG = "-fsanitize-coverage=edge,trace-pc"
UNPOLLED = "unpolled.txt"

PATCHES = "patches"

LINK_FLAGS = (
    f"-Wl,-z,stack-size={STACK_SIZE}",
    "-Wl,--export=__stack_pointer",  # part of a memory image
    "-Wl,--export-table",  # where host functions go (guest/host.inc.c)
    "-Wl,--strip-all",
    "-Wl,--gc-sections",
)

GUEST = Path(__file__).resolve().parent.parent / "parallel_exec" / "guest"
RETRY = "python scripts/build_guest.py"


class BuildError(Exception):
    """The guest cannot be built; the text says why and what to do."""


def cache_root() -> Path:
    """Return the package's directory in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "parallel_exec"


def inputs_digest(guest: Path) -> str:
    """Return the hash of everything that decides what is built: our C files and patches, the pinned sources, compiler
    and flags.
    """
    files = sorted([*guest.rglob("*.[ch]"), *guest.glob(f"{PATCHES}/*.patch"), *guest.glob(UNPOLLED)])
    ours = {path.relative_to(guest).as_posix(): sha256(path.read_bytes()) for path in files}
    pins = [(source.filename, source.sha256, source.folder) for source in SOURCES]
    inputs = [ours, pins, ZIGLANG, GUEST_UNITS, SOURCE_UNITS, COMPILE_FLAGS, POLL_FLAG, LINK_FLAGS]
    return sha256(json.dumps(inputs).encode())


def build_record(inputs: str, wasm: bytes) -> bytes:
    """Return the text of build-id.txt: the hash of the inputs, and that of the engine that was built from them."""
    return f"inputs {inputs}\nengine {sha256(wasm)}\n".encode()


def is_current(guest: Path) -> bool:
    """Say whether the engine in this folder is the one that its inputs make."""
    return read_built(guest / "engine.wasm", guest / "build-id.txt", inputs_digest(guest)) is not None


def build(guest: Path = GUEST, *, force: bool = False) -> Path:
    """Bring engine.wasm and build-id.txt in the guest folder up to date and return the path of engine.wasm.

    Processes may build at the same time: every file is written under another name and renamed.

    Args:
        guest: the folder of our C files.
        force: compile even if the result is there.

    Raises:
        BuildError: sources or compiler cannot be had, the C does not compile, or a file cannot be written.
    """
    inputs = inputs_digest(guest)

    def compiled() -> bytes:
        wasm = compile_guest(guest)
        if inputs_digest(guest) != inputs:
            raise BuildError(f"a C file in {guest} changed while it was compiled; run: {RETRY}")
        return wasm

    return bring_up_to_date(
        guest / "engine.wasm", guest / "build-id.txt", inputs, kept_in="guest", compiled=compiled, force=force
    )


def bring_up_to_date(
    wasm: Path, record: Path, inputs: str, *, kept_in: str, compiled: Callable[[], bytes], force: bool = False
) -> Path:
    """Write a module and its record, unless they are there, from the cache if that has it, and return its path.

    Args:
        wasm, record: where they go.
        inputs: the hash of what decides what the module is.
        kept_in: the folder of the cache that has all such modules built so far.
        compiled: makes the module.
        force: call that even if the module is there.

    Raises:
        BuildError: a file cannot be written; or what `compiled` raises.
    """
    try:
        if not force and read_built(wasm, record, inputs) is not None:
            return wasm
        kept = cache_root() / kept_in / f"{inputs}.wasm"
        content = None if force else read_built(kept, kept.with_suffix(".txt"), inputs)
        if content is None:
            content = compiled()
            write(kept, content)
            write(kept.with_suffix(".txt"), build_record(inputs, content))
        write(wasm, content)
        write(record, build_record(inputs, content))
    except OSError as error:
        raise BuildError(
            f"{error}; if that is the cache, set XDG_CACHE_HOME to a directory that you can write"
        ) from error
    except RuntimeError as error:  # Path.home() found none
        raise BuildError(f"there is no cache directory: {error}; set XDG_CACHE_HOME") from error
    return wasm


def compile_guest(guest: Path, units: Sequence[Path] = (), *, polls: bool = True) -> bytes:
    """Compile the guest, or in place of its C files others that include them, and return the WebAssembly module;
    without `polls`, one that looks at the deadline only where the engine does by itself.
    """
    require_compiler()
    pristine = {source.folder: unpack(source, fetch(source)) for source in SOURCES}
    folders = [*patch_sources(guest, pristine), *pristine.values()]
    units = [*(units or (guest / name for name in GUEST_UNITS))]
    for name in SOURCE_UNITS:
        units += [folder / name for folder in folders if (folder / name).exists()][:1]  # the patched one, if there is
    print("compiling the engine guest, about a minute the first time", file=sys.stderr, flush=True)
    arguments = [*COMPILE_FLAGS]
    if polls:
        unpolled = guest / UNPOLLED
        arguments += [POLL_FLAG, f"-fsanitize-coverage-ignorelist={unpolled}"]
        # The compiler's cache does not know what is in that file.
        arguments += [f"-DPEXEC_UNPOLLED=0x{sha256(unpolled.read_bytes())[:8]}"]
    arguments += [f"-I{folder}" for folder in (guest, *folders)]
    return run_compiler([*arguments, *map(str, units), *LINK_FLAGS], "the guest")


def run_compiler(arguments: Sequence[str], what: str) -> bytes:
    """Run the C compiler and return the module that it makes; `what` that is, for the message if it fails."""
    zig_cache = cache_root() / "zig"
    zig_cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    environment = {key: value for key, value in os.environ.items() if key not in ("CPATH", "C_INCLUDE_PATH")}
    environment |= {"ZIG_GLOBAL_CACHE_DIR": str(zig_cache), "ZIG_LOCAL_CACHE_DIR": str(zig_cache)}
    with tempfile.TemporaryDirectory(prefix="parallel_exec-") as scratch:
        output = Path(scratch) / "output.wasm"
        command = [sys.executable, "-m", "ziglang", "cc", *arguments, "-o", str(output)]
        result = subprocess.run(command, env=environment, stderr=subprocess.PIPE, check=False)
        messages = result.stderr.decode(errors="replace").rstrip()
        if result.returncode != 0 or not output.exists():
            raise BuildError(f"{what} does not compile, the compiler says (exit {result.returncode}):\n{messages}")
        if messages:
            print(messages, file=sys.stderr)
        return output.read_bytes()


def require_compiler() -> None:
    """Raise BuildError unless the pinned compiler is installed for this Python."""
    install = f"run: {sys.executable} -m pip install ziglang=={ZIGLANG} && {RETRY}"
    if importlib.util.find_spec("ziglang") is None:
        raise BuildError(f"the compiler is missing; {install}")
    from importlib import metadata

    if (found := metadata.version("ziglang")) != ZIGLANG:
        raise BuildError(f"the compiler must be ziglang {ZIGLANG}, not {found}; {install}")


def fetch(source: Source) -> bytes:
    """Return the source's archive, from the cache if it is there and whole, otherwise from the package index."""
    kept = cache_root() / "sources" / source.filename
    if kept.is_file() and sha256(archive := kept.read_bytes()) == source.sha256:
        return archive
    archive = download(source, kept)
    if (found := sha256(archive)) != source.sha256:
        raise BuildError(f"{source.filename} has sha256 {found}, not {source.sha256}; it is not used")
    write(kept, archive)
    return archive


def download(source: Source, kept: Path) -> bytes:
    """Fetch the source's archive with pip, which knows this machine's index, proxy and certificates."""
    if importlib.util.find_spec("pip") is None:
        raise BuildError(f"pip is missing; run: {sys.executable} -m ensurepip && {RETRY}")
    print(f"fetching {source.filename}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="parallel_exec-") as scratch:
        # In a requirements file pip takes a hash, and refuses an archive with another one before it runs any code of it
        # to learn its metadata.
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{source.name}=={source.version} --hash=sha256:{source.sha256}\n", encoding="ascii")
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
        command += ["--no-binary", source.name, "--requirement", str(requirements), "--dest", scratch]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        archive = Path(scratch) / source.filename
        if result.returncode != 0 or not archive.exists():
            messages = result.stdout.decode(errors="replace").strip()
            raise BuildError(
                f"{messages}\npip could not download {source.name}=={source.version}; mend what pip says above, or put "
                f"{source.filename} into {kept.parent}, then run: {RETRY}".lstrip()
            )
        return archive.read_bytes()


def unpack(source: Source, archive: bytes) -> Path:
    """Write the C files of the source's folder into the cache and return the folder there.

    The files keep one place, so that the compiler's cache holds, and are compared at every build.
    """
    folder = cache_root() / "sources" / source.filename.removesuffix(".tar.gz")
    for name, content in c_files(source, archive):
        keep(folder / name, content)
    return folder


def patch_sources(guest: Path, pristine: Mapping[str, Path]) -> list[Path]:
    """Write the C files that the guest's patches change into the cache, and return the folders that they lie in.

    Other clones may have other patches, so their hash names the folder, and files in it never change.

    Args:
        guest: the folder with the patches.
        pristine: the folder of the unpatched files, by the name that it has in the patches.

    Raises:
        BuildError: a patch does not fit; the text names patch, file and line.
    """
    patches = {f"{PATCHES}/{path.name}": path.read_text("utf-8") for path in sorted(guest.glob(f"{PATCHES}/*.patch"))}
    sources = {
        f"{name}/{path.name}": path.read_text("utf-8")
        for name, folder in pristine.items()
        for path in folder.glob("*.[ch]")
    }
    try:
        patched = patching.apply(patches, sources)
    except patching.PatchError as error:
        raise BuildError(f"the sources cannot be patched: {error}") from None
    place = cache_root() / "patched" / sha256(json.dumps(patched).encode())[:16]
    for name, text in patched.items():
        keep(place / name, text.encode())
    return sorted({(place / name).parent for name in patched})


def c_files(source: Source, archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the C files that lie in the source's folder, regular files only."""
    wanted = PurePosixPath(source.filename.removesuffix(".tar.gz"), source.folder)
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            there = path.is_relative_to(wanted) and ".." not in path.parts if source.nested else path.parent == wanted
            if member.isreg() and there and path.suffix in (".c", ".h"):
                content = tar.extractfile(member)
                assert content is not None  # a regular file has content
                yield str(path.relative_to(wanted)), content.read()


def read_built(wasm: Path, record: Path, inputs: str) -> bytes | None:
    """Return the module if its record says that it is what these inputs make, and it still is that."""
    try:
        content = wasm.read_bytes()
        return content if record.read_bytes() == build_record(inputs, content) else None
    except FileNotFoundError:
        return None


def keep(path: Path, content: bytes) -> None:
    """Write a file unless it is there with this content, so that its time stays what the compiler's cache knows."""
    if not path.is_file() or path.read_bytes() != content:
        write(path, content)


def write(path: Path, content: bytes) -> None:
    """Write a file so that others see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(description="Build parallel_exec/guest/engine.wasm if it is out of date.")
    parser.add_argument("--force", action="store_true", help="compile even if the result is there")
    parser.add_argument("--check", action="store_true", help="build nothing; exit with 1 if it is out of date")
    parser.add_argument(
        "--no-polls", type=Path, metavar="FOLDER", help="build for bench/limits.py, into this folder, without the looks"
    )
    options = parser.parse_args(arguments)
    if options.check:
        return 0 if is_current(GUEST) else 1
    return exit_status("build_guest", lambda: _built(options.no_polls, force=options.force))


def _built(no_polls: Path | None, *, force: bool) -> Iterator[Path]:
    if no_polls is None:
        yield build(force=force)
    else:
        write(no_polls / "engine.wasm", compile_guest(GUEST, polls=False))


def exit_status(program: str, build: Callable[[], Iterable[Path]]) -> int:
    """Print the paths of what a program builds, one by one, or what is wrong; return its exit status."""
    try:
        for path in build():
            print(path)
    except (BuildError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
