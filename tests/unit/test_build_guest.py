"""The guest's build: what is fetched is checked, what is built is cached, and what goes wrong is said clearly."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "build_guest.py"
WASM = b"\0asm\1\0\0\0"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_guest", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(SCRIPT.parent))  # for patching.py beside it
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return module


build_guest = load_script()

# The backend leaves a mark when pip runs it, which it must not do before the archive's hash is checked.
BACKEND = """
import os
open(os.environ["BACKEND_RAN"], "w").close()
def prepare_metadata_for_build_wheel(directory, settings=None):
    folder = os.path.join(directory, "pinned_source-1.0.dist-info")
    os.mkdir(folder)
    with open(os.path.join(folder, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: pinned-source\\nVersion: 1.0\\n")
    with open(os.path.join(folder, "WHEEL"), "w") as file:
        file.write("Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    return os.path.basename(folder)
"""
FILES = {
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
    "PKG-INFO": "Metadata-Version: 2.1\nName: pinned-source\nVersion: 1.0\n",
    "backend.py": BACKEND,
    "csrc/part.c": "int part;\n",
    "csrc/part.h": "extern int part;\n",
    "csrc/notes.txt": "not C\n",
    "csrc/deeper/part2.c": "int part2;\n",
    "other.c": "int other;\n",
}


def make_sdist(files: dict[str, str], links: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"pinned_source-1.0/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(f"pinned_source-1.0/{name}")
            member.type = tarfile.SYMTYPE
            member.linkname = target
            tar.addfile(member)
    return stream.getvalue()


def pin(archive: bytes) -> Any:
    digest = hashlib.sha256(archive).hexdigest()
    return build_guest.Source("pinned-source", "1.0", "pinned_source-1.0.tar.gz", digest, "csrc")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "parallel_exec"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip finds packages in."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri())
    monkeypatch.setenv("BACKEND_RAN", str(tmp_path / "backend-ran"))
    return folder


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    folder = tmp_path / "guest"
    folder.mkdir()
    (folder / "engine.c").write_text(
        '#include "engine.h"\n__attribute__((export_name("f"))) int f(void) { return SIX; }\n'
    )
    (folder / "engine.h").write_text("#define SIX 6\n")
    (folder / "unpolled.txt").write_text("fun:*\n")
    return folder


def keep_engine(cache: Path, guest: Path, wasm: bytes = WASM) -> None:
    """Put an engine into the cache as one that was built from these inputs before."""
    inputs = build_guest.inputs_digest(guest)
    (cache / "guest").mkdir(parents=True, exist_ok=True)
    (cache / "guest" / f"{inputs}.wasm").write_bytes(wasm)
    (cache / "guest" / f"{inputs}.txt").write_bytes(build_guest.build_record(inputs, wasm))


def test_an_archive_is_downloaded_once_and_again_if_the_cached_one_is_damaged(cache: Path, index: Path) -> None:
    archive = make_sdist(FILES)
    source, published, kept = (
        pin(archive),
        index / "pinned_source-1.0.tar.gz",
        cache / "sources" / "pinned_source-1.0.tar.gz",
    )
    published.write_bytes(archive)
    assert build_guest.fetch(source) == archive == kept.read_bytes()
    kept.write_bytes(archive[:-1])
    assert build_guest.fetch(source) == archive == kept.read_bytes()
    published.unlink()
    assert build_guest.fetch(source) == archive


def test_an_archive_with_another_hash_is_neither_run_nor_kept(cache: Path, index: Path, tmp_path: Path) -> None:
    source = pin(make_sdist(FILES))
    (index / source.filename).write_bytes(make_sdist(FILES | {"csrc/part.c": "int evil;\n"}))
    with pytest.raises(build_guest.BuildError, match=r"(?s)HASHES.*pinned-source==1\.0"):
        build_guest.fetch(source)
    assert not (tmp_path / "backend-ran").exists()
    assert not (cache / "sources" / source.filename).exists()


def test_a_failed_download_says_what_to_do(cache: Path, index: Path) -> None:
    source = pin(make_sdist(FILES))
    with pytest.raises(build_guest.BuildError) as caught:
        build_guest.fetch(source)
    assert "No matching distribution" in str(caught.value)
    assert f"put {source.filename} into {cache / 'sources'}" in str(caught.value)


def test_an_archive_put_into_the_cache_by_hand_is_used_if_it_is_the_right_one(cache: Path, index: Path) -> None:
    archive = make_sdist(FILES)
    (cache / "sources").mkdir(parents=True)
    (cache / "sources" / "pinned_source-1.0.tar.gz").write_bytes(archive)
    assert build_guest.fetch(pin(archive)) == archive


def test_only_regular_c_files_of_the_folder_are_unpacked(cache: Path, tmp_path: Path) -> None:
    files = FILES | {"csrc/../../../escaped.c": "int escaped;\n"}
    archive = make_sdist(files, links={"csrc/link.c": "/etc/passwd"})
    folder = build_guest.unpack(pin(archive), archive)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "part.c": FILES["csrc/part.c"],
        "part.h": FILES["csrc/part.h"],
    }
    assert not list(tmp_path.rglob("escaped.c"))


def test_a_changed_unpacked_file_is_mended_and_an_unchanged_one_is_left(cache: Path) -> None:
    archive = make_sdist(FILES)
    folder = build_guest.unpack(pin(archive), archive)
    (folder / "part.c").write_text("int changed;\n")
    untouched = (folder / "part.h").stat().st_ino
    build_guest.unpack(pin(archive), archive)
    assert (folder / "part.c").read_text() == FILES["csrc/part.c"]
    assert (folder / "part.h").stat().st_ino == untouched


PATCH = "Seven it is.\n\n--- a/csrc/part.c\n+++ b/csrc/part.c\n@@ -1 +1 @@\n-int part;\n+int part = 7;\n"


def test_patched_files_lie_beside_the_pristine_ones(cache: Path, guest: Path) -> None:
    archive = make_sdist(FILES)
    pristine = build_guest.unpack(pin(archive), archive)
    (guest / "patches").mkdir()
    (guest / "patches" / "part.patch").write_text(PATCH)
    (folder,) = build_guest.patch_sources(guest, {"csrc": pristine})
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"part.c": "int part = 7;\n"}
    assert {path.name: path.read_text() for path in pristine.iterdir()} == {
        "part.c": FILES["csrc/part.c"],
        "part.h": FILES["csrc/part.h"],
    }
    untouched = (folder / "part.c").stat().st_ino
    assert build_guest.patch_sources(guest, {"csrc": pristine}) == [folder]
    assert (folder / "part.c").stat().st_ino == untouched
    (guest / "patches" / "part.patch").write_text(PATCH.replace("7", "8"))
    (other,) = build_guest.patch_sources(guest, {"csrc": pristine})
    assert other != folder
    assert (folder / "part.c").read_text() == "int part = 7;\n"


def test_a_patch_that_does_not_fit_is_named_with_file_and_line(cache: Path, guest: Path) -> None:
    archive = make_sdist(FILES | {"csrc/part.c": "long part;\n"})
    pristine = build_guest.unpack(pin(archive), archive)
    (guest / "patches").mkdir()
    (guest / "patches" / "part.patch").write_text(PATCH)
    with pytest.raises(build_guest.BuildError, match=r"patches/part\.patch:5: csrc/part\.c, line 1 is 'long part;'"):
        build_guest.patch_sources(guest, {"csrc": pristine})
    assert not (cache / "patched").exists()


def test_every_input_changes_the_hash(guest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [build_guest.inputs_digest(guest)]
    (guest / "engine.h").write_text("#define SIX 7\n")
    digests.append(build_guest.inputs_digest(guest))
    (guest / "more.h").touch()
    digests.append(build_guest.inputs_digest(guest))
    (guest / "json").mkdir()
    (guest / "json" / "reader.inc.c").touch()
    digests.append(build_guest.inputs_digest(guest))
    (guest / "patches").mkdir()
    (guest / "patches" / "part.patch").touch()
    digests.append(build_guest.inputs_digest(guest))
    (guest / "unpolled.txt").write_text("")
    digests.append(build_guest.inputs_digest(guest))
    monkeypatch.setattr(build_guest, "ZIGLANG", "0")
    digests.append(build_guest.inputs_digest(guest))
    monkeypatch.setattr(build_guest, "LINK_FLAGS", ())
    digests.append(build_guest.inputs_digest(guest))
    monkeypatch.setattr(build_guest, "SOURCES", ())
    digests.append(build_guest.inputs_digest(guest))
    assert len(set(digests)) == 9
    (guest / "notes.md").touch()
    (guest / "json" / "notes.md").touch()
    assert build_guest.inputs_digest(guest) == digests[-1]


def test_an_engine_built_before_is_taken_from_the_cache(cache: Path, guest: Path) -> None:
    keep_engine(cache, guest)
    assert not build_guest.is_current(guest)
    assert build_guest.build(guest).read_bytes() == WASM
    assert build_guest.is_current(guest)
    assert sorted(path.name for path in guest.iterdir()) == [
        *("build-id.txt", "engine.c", "engine.h", "engine.wasm", "unpolled.txt")
    ]


def test_an_engine_that_is_not_what_its_record_says_is_replaced(cache: Path, guest: Path) -> None:
    keep_engine(cache, guest)
    wasm = build_guest.build(guest)
    wasm.write_bytes(WASM[:-1])
    assert not build_guest.is_current(guest)
    assert build_guest.build(guest).read_bytes() == WASM


def test_a_damaged_engine_in_the_cache_is_not_used(cache: Path, guest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_engine(cache, guest)
    (kept,) = (cache / "guest").glob("*.wasm")
    kept.write_bytes(WASM[:-1])
    monkeypatch.setattr(build_guest, "compile_guest", lambda guest: WASM + b"anew")
    assert build_guest.build(guest).read_bytes() == kept.read_bytes() == WASM + b"anew"


def test_an_engine_whose_sources_changed_meanwhile_is_not_kept(
    cache: Path, guest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_slowly(guest: Path) -> bytes:
        (guest / "engine.h").write_text("#define SIX 7\n")
        return WASM

    monkeypatch.setattr(build_guest, "compile_guest", compile_slowly)
    with pytest.raises(build_guest.BuildError, match="changed while it was compiled"):
        build_guest.build(guest)
    assert not cache.exists()
    assert not (guest / "engine.wasm").exists()


def test_builds_at_the_same_time_leave_a_whole_engine(cache: Path, guest: Path) -> None:
    keep_engine(cache, guest, WASM * 50_000)
    with ThreadPoolExecutor(8) as threads:
        for path in threads.map(lambda _: build_guest.build(guest), range(32)):
            assert path.read_bytes() == WASM * 50_000
            (guest / "build-id.txt").unlink(missing_ok=True)
    assert not list(guest.glob(".*"))


def test_a_cache_that_cannot_be_written_is_named(guest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(build_guest, "compile_guest", lambda guest: WASM)
    with pytest.raises(build_guest.BuildError, match=r"file.*XDG_CACHE_HOME"):
        build_guest.build(guest)


def test_a_missing_compiler_is_one_line_with_the_command_to_run(cache: Path) -> None:
    # Without site-packages there is no compiler, whatever is installed.
    command = [sys.executable, "-S", str(SCRIPT), "--force"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("build_guest: the compiler is missing; run: ")
    assert f"-m pip install ziglang=={build_guest.ZIGLANG}" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_compiler_is_the_one_that_the_build_hook_has() -> None:
    assert f'"ziglang=={build_guest.ZIGLANG}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def compiler_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all tests that compile, with the user's of the compiler, which takes long to build its C library."""
    folder = tmp_path_factory.mktemp("compiler")
    kept = build_guest.cache_root() / "zig"
    kept.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "parallel_exec").mkdir()
    (folder / "parallel_exec" / "zig").symlink_to(kept)
    return folder


@pytest.fixture
def alone(guest: Path, compiler_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A guest without third-party sources, to compile."""
    pytest.importorskip("ziglang")
    monkeypatch.setenv("XDG_CACHE_HOME", str(compiler_cache))
    monkeypatch.setattr(build_guest, "SOURCES", ())
    return guest


def test_what_is_compiled_runs(alone: Path) -> None:
    wasmtime = pytest.importorskip("wasmtime")
    store = wasmtime.Store()
    store.set_wasi(wasmtime.WasiConfig())
    linker = wasmtime.Linker(store.engine)
    linker.define_wasi()  # the C library of this small guest, unlike the engine's, imports something
    module = wasmtime.Module(store.engine, build_guest.build(alone).read_bytes())
    assert linker.instantiate(store, module).exports(store)["f"](store) == 6
    assert build_guest.is_current(alone)


def test_a_compiler_error_is_shown_and_nothing_is_written(alone: Path) -> None:
    (alone / "engine.c").write_text("int f(void) { return SEVEN; }\n")
    with pytest.raises(build_guest.BuildError, match=r"(?s)does not compile.*engine\.c:1.*SEVEN"):
        build_guest.build(alone)
    assert not (alone / "engine.wasm").exists()
