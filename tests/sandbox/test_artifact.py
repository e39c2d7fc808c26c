"""The cache of compiled engines: compiled once, shared by processes, and never loaded from where others could write."""

from __future__ import annotations

import logging
import os
import platform
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import wasmtime

from parallel_exec.sandbox._engine import artifact
from parallel_exec.sandbox._engine.engine import CONFIG_KEY, Engine
from parallel_exec.sandbox._engine.version import wasmtime_version

KEY = artifact.artifact_key("0" * 64, CONFIG_KEY)
WASM = bytes(wasmtime.wat2wasm('(module (func (export "answer") (result i32) i32.const 42))'))


@pytest.fixture(autouse=True, scope="module")
def engine() -> None:
    Engine.shared()  # not in the cache of the first test that needs it


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own; the directory that artifacts will be in, which does not exist yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return artifact.artifact_directory()


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is compiled from here on."""
    compiled: list[bytes] = []
    real = wasmtime.Module

    class Counted(real):  # type: ignore[misc, valid-type]
        def __init__(self, engine: wasmtime.Engine, wasm: bytes) -> None:
            compiled.append(wasm)
            super().__init__(engine, wasm)

    monkeypatch.setattr(wasmtime, "Module", Counted)
    return compiled


def load() -> None:
    """Load or compile the little module, and run it."""
    engine = Engine.shared().runtime
    module = artifact.load_or_compile(engine, WASM, KEY)
    store = wasmtime.Store(engine)
    answer = wasmtime.Instance(store, module, []).exports(store)["answer"]
    assert isinstance(answer, wasmtime.Func)
    assert answer(store) == 42


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "parallel_exec.cache"]


def test_it_is_compiled_once(cache: Path, compilations: list[bytes], caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        load()
    assert compilations == [WASM]
    assert warnings(caplog) == []
    (path,) = cache.glob("*.cwasm")
    assert path.name == KEY + ".cwasm"
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert artifact.describe() == [(path, path.stat().st_size)]
    assert [file for file in cache.iterdir() if file.suffix not in (".cwasm", ".lock")] == []


def test_it_can_be_cleared(cache: Path, compilations: list[bytes]) -> None:
    assert (artifact.describe(), artifact.clear()) == ([], 0)
    load()
    assert artifact.clear() == 1
    assert list(cache.iterdir()) == []
    assert artifact.describe() == []
    load()
    assert len(compilations) == 2


def test_the_key_holds_everything_that_machine_code_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {KEY, artifact.artifact_key("1" * 64, CONFIG_KEY), artifact.artifact_key("0" * 64, CONFIG_KEY + " fuel")}
    for name, value in (("wasmtime_version", "99.0.0"), ("_cpu_flags", "fpu")):
        with monkeypatch.context() as patch:
            patch.setattr(artifact, name, lambda value=value: value)
            keys.add(artifact.artifact_key("0" * 64, CONFIG_KEY))
    with monkeypatch.context() as patch:
        patch.setattr(platform, "machine", lambda: "riscv64")
        keys.add(artifact.artifact_key("0" * 64, CONFIG_KEY))
    assert len(keys) == 6
    assert artifact.artifact_key("0" * 64, CONFIG_KEY) == KEY


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in (None, "", "relative/path"):
        if value is None:
            monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert artifact.artifact_directory() == tmp_path / ".cache" / "parallel_exec" / "artifacts"
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert artifact.artifact_directory() == Path("/somewhere/parallel_exec/artifacts")


@pytest.mark.parametrize("damage", ["empty", "garbage", "truncated", "header", "another wasmtime"])
def test_a_damaged_artifact_is_compiled_anew(
    cache: Path, compilations: list[bytes], caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    load()
    (path,) = cache.glob("*.cwasm")
    good = path.read_bytes()
    damaged = {
        "empty": b"",
        "garbage": b"not machine code" * 1000,
        "truncated": good[: len(good) // 2],
        "header": b"\x7fELF" + bytes(60) + good[64:],
        "another wasmtime": good.replace(wasmtime_version().encode(), b"9.0.0", 1),
    }[damage]
    path.write_bytes(damaged)
    load()
    if damaged != good:
        assert len(compilations) == 2
        assert "compiling anew, the cached engine cannot be used" in warnings(caplog)[0]
    load()
    assert len(compilations) <= 2
    assert path.stat().st_size == len(good)


def assert_works_without_a_cache(compilations: list[bytes], caplog: pytest.LogCaptureFixture, message: str) -> None:
    for turn in (1, 2):
        caplog.clear()
        load()
        assert len(compilations) == turn
        assert any(message in warning for warning in warnings(caplog)), warnings(caplog)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777, 0o720])
def test_a_directory_that_others_can_write_to(
    cache: Path, compilations: list[bytes], caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    load()  # an artifact is there, and must not be loaded
    compilations.clear()
    cache.chmod(mode)
    assert_works_without_a_cache(compilations, caplog, f"{cache} can be written by others; run: chmod go-w {cache}")
    cache.chmod(0o755)
    load()
    assert len(compilations) == 2


def test_a_file_that_others_can_write_to(
    cache: Path, compilations: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    load()
    (path,) = cache.glob("*.cwasm")
    path.chmod(0o620)
    load()
    assert len(compilations) == 2
    assert "is not a file that only you, its owner, can write" in warnings(caplog)[0]
    assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0  # replaced
    load()
    assert len(compilations) == 2


def test_symbolic_links(
    cache: Path, compilations: list[bytes], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    load()
    (path,) = cache.glob("*.cwasm")
    target = tmp_path / "elsewhere.cwasm"
    path.rename(target)
    path.symlink_to(target)
    load()
    assert len(compilations) == 2
    assert "is not a file that only you, its owner," in warnings(caplog)[0]
    assert not path.is_symlink()
    moved = tmp_path / "moved"
    cache.rename(moved)
    cache.symlink_to(moved, target_is_directory=True)
    compilations.clear()
    assert_works_without_a_cache(compilations, caplog, f"{cache} is not a directory")


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs owners of files")
def test_what_belongs_to_somebody_else(
    cache: Path, compilations: list[bytes], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    compilations.clear()
    real, other = os.getuid(), os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    assert_works_without_a_cache(compilations, caplog, f"{cache} belongs to another user")
    # Only the file: the directory is checked first.
    answers = iter([real, other, other])
    monkeypatch.setattr(os, "getuid", lambda: next(answers, real))
    compilations.clear()
    caplog.clear()
    load()
    assert len(compilations) == 1
    assert "is not a file that only you, its owner," in warnings(caplog)[0]


def test_a_directory_that_cannot_be_made(
    compilations: list[bytes], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert_works_without_a_cache(compilations, caplog, "compiling without a cache: ")
    assert artifact.describe() == []
    assert artifact.clear() == 0


@pytest.mark.skipif(hasattr(os, "getuid") and os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory(cache: Path, compilations: list[bytes], caplog: pytest.LogCaptureFixture) -> None:
    load()
    cache.chmod(0o500)
    try:
        load()
        assert len(compilations) == 1  # what is there is used
        cache.chmod(0o700)
        artifact.clear()
        cache.chmod(0o500)
        compilations.clear()
        assert_works_without_a_cache(compilations, caplog, "the compiled engine is not cached: ")
    finally:
        cache.chmod(0o700)


def test_a_full_disk(
    cache: Path, compilations: list[bytes], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_source: str, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    assert_works_without_a_cache(compilations, caplog, "the compiled engine is not cached: ")
    assert [path for path in cache.iterdir() if path.suffix != ".lock"] == []


def test_without_locks(cache: Path, compilations: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    for _ in range(2):
        load()
    assert len(compilations) == 1


def test_processes_that_start_together(cache: Path) -> None:
    program = (
        "import logging, wasmtime; logging.basicConfig(); import parallel_exec as px; real = wasmtime.Module\n"
        "class Counted(real):\n"
        "    def __init__(self, *a): print('compiled'); super().__init__(*a)\n"
        "wasmtime.Module = Counted\n"
        "print(px.Plugin('const f = x => x + 1').function('f')(41))"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    ended = [(*process.communicate(), process.returncode) for process in started]
    assert [error for _output, error, _code in ended] == [""] * 4
    assert [code for _output, _error, code in ended] == [0] * 4
    assert sorted(output.split() for output, _error, _code in ended) == [["42"]] * 3 + [["compiled", "42"]]
    assert len(list(cache.glob("*.cwasm"))) == 1
    assert list(cache.glob("*.tmp")) == []


def test_an_engine_that_is_not_built_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from parallel_exec import PluginError
    from parallel_exec.sandbox._engine import engine

    monkeypatch.setattr(engine, "GUEST", tmp_path)
    with pytest.raises(PluginError, match=r"the engine is not built .*run: python scripts/build_guest\.py"):
        engine.Engine().module  # noqa: B018


def test_other_modules_are_cached_too(cache: Path, compilations: list[bytes]) -> None:
    engine = Engine.shared()
    for _ in range(2):
        assert engine.compile(WASM).exports[0].name == "answer"
    assert compilations == [WASM]
    engine.compile(WASM, cached=False)
    assert len(compilations) == 2


def test_warnings_are_logged_not_printed(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load()
    (path,) = cache.glob("*.cwasm")
    path.write_bytes(b"")
    logging.getLogger("parallel_exec.cache").addHandler(handler := logging.NullHandler())
    try:
        load()
    finally:
        logging.getLogger("parallel_exec.cache").removeHandler(handler)
    assert capfd.readouterr() == ("", "")


def test_the_artifacts_that_were_used_last_stay(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(number: int) -> Path:
        wasm = bytes(wasmtime.wat2wasm(f'(module (func (export "f") (result i32) i32.const {number}))'))
        artifact.load_or_compile(Engine.shared().runtime, wasm, str(number))
        return cache / f"{number}{artifact.SUFFIX}"

    size = compiled(1).stat().st_size
    monkeypatch.setattr(artifact, "MOST_BYTES", 3 * size + size // 2)
    files = [compiled(number) for number in (1, 2, 3)]
    for age, file in enumerate(files):
        os.utime(file, (1000 - age, 1000 - age))
    compiled(1)  # again, and so the others have not been used for longer
    compiled(4)
    assert sorted(path.name for path, _size in artifact.describe()) == [f"{n}{artifact.SUFFIX}" for n in (1, 2, 4)]
    assert not (cache / "3.lock").exists()
