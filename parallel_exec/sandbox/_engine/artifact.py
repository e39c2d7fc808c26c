"""The cache of compiled engines: machine code for this CPU, this wasmtime and this engine, compiled once a machine.

An artifact is machine code that will run in this process, so it is only ever read from a directory that belongs to the
user and that nobody else can write to. It is written under another name and renamed, so a reader sees all of it or
nothing; a lock keeps processes that start together from compiling the same thing twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import wasmtime

from parallel_exec.sandbox._engine.version import wasmtime_version

log = logging.getLogger("parallel_exec.cache")

SUFFIX = ".cwasm"
MOST_BYTES = 1 << 30  # of all artifacts: users who hand in modules must not fill the disk; those used last stay


class CacheUnsafe(Exception):
    """The cache directory is not one that machine code may be loaded from; the text says why."""


def cache_root() -> Path:
    """Return the directory of this package's caches: ``parallel_exec`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "parallel_exec"


def artifact_directory() -> Path:
    """Return the directory that holds compiled engines."""
    return cache_root() / "artifacts"


def artifact_key(wasm_digest: str, config: str) -> str:
    """Return the cache key of a module: everything on which its machine code depends."""
    parts = (wasm_digest, wasmtime_version(), config, platform.system(), platform.machine(), _cpu_flags())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]


def load_or_compile(engine: wasmtime.Engine, wasm: bytes, key: str) -> wasmtime.Module:
    """Return the compiled module, from the cache if it is there; otherwise compile it and put it there.

    A cache that cannot be used (read-only, somebody else's, open to others) costs time, not correctness: the module is
    compiled in memory and a warning is logged.
    """
    try:
        directory = _safe_directory(artifact_directory())
    except (OSError, CacheUnsafe) as error:
        log.warning("compiling without a cache: %s", error)
        return wasmtime.Module(engine, wasm)
    path = directory / (key + SUFFIX)
    module = _load(engine, path)
    if module is not None:
        return module
    with _lock(directory / (key + ".lock")):
        module = _load(engine, path)
        if module is None:
            module = wasmtime.Module(engine, wasm)
            _store(path, bytes(module.serialize()))
    return module


def _load(engine: wasmtime.Engine, path: Path) -> wasmtime.Module | None:
    try:
        _check_file(path)
        module = wasmtime.Module.deserialize_file(engine, str(path))
    except FileNotFoundError:
        return None
    except (OSError, CacheUnsafe, wasmtime.WasmtimeError) as error:
        log.warning("compiling anew, the cached engine cannot be used: %s", str(error).splitlines()[0])
        return None
    with contextlib.suppress(OSError):  # of a file system that is read-only
        os.utime(path)  # when it was last used
    return module


def _check_file(path: Path) -> None:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise CacheUnsafe(f"{path} is not a file that only you, its owner, can write")


def _store(path: Path, content: bytes) -> None:
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            temporary.replace(path)
        except BaseException:
            temporary.unlink()
            raise
        with contextlib.suppress(FileNotFoundError):  # another process does the same
            _trim(path)
    except OSError as error:
        log.warning("the compiled engine is not cached: %s", error)


def _trim(newest: Path) -> None:
    """Delete the artifacts that have gone unused the longest, but never the newest."""
    found = sorted((path.stat().st_mtime_ns, path) for path in newest.parent.glob("*" + SUFFIX))
    total = sum(path.stat().st_size for _time, path in found)
    for _time, path in found:
        if total <= MOST_BYTES or path == newest:
            break
        total -= path.stat().st_size
        path.unlink()
        path.with_suffix(".lock").unlink(missing_ok=True)


def _safe_directory(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise CacheUnsafe(f"{directory} is not a directory")
    if status.st_uid != os.getuid():
        raise CacheUnsafe(f"{directory} belongs to another user")
    if status.st_mode & 0o022:
        raise CacheUnsafe(f"{directory} can be written by others; run: chmod go-w {directory}")
    return directory


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    try:
        import fcntl

        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except (ImportError, OSError):
        yield  # without a lock two processes may compile the same; the rename keeps the result right
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _cpu_flags() -> str:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(("flags", "Features")):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def describe() -> list[tuple[Path, int]]:
    """Return the cached artifacts and their sizes in bytes, in the order of their names."""
    try:
        return sorted((path, path.stat().st_size) for path in artifact_directory().glob("*" + SUFFIX))
    except OSError:
        return []


def clear() -> int:
    """Delete the cached artifacts and return how many there were."""
    count = 0
    for path, _size in describe():
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            count += 1
    for lock in artifact_directory().glob("*.lock"):
        with contextlib.suppress(FileNotFoundError):
            lock.unlink()
    return count
