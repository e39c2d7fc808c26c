"""`pexec plugin` and `pexec cache`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parallel_exec import Limits, Plugin
from parallel_exec.sandbox import Engine, MemoryImage
from parallel_exec.sandbox._js.driver import Driver
from tests.cli.command import Pexec

SOURCE = "export const twice = d => 2 * d; export default function () {}"


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "p.mjs").write_text(SOURCE)
    return "p.mjs"


def inspect(pexec: Pexec, file: str) -> dict[str, Any]:
    ran = pexec("plugin", "inspect", file, "--json")
    assert ran.status == 0
    told: dict[str, Any] = json.loads(ran.out)
    return told


def test_a_baked_plugin_runs(pexec: Pexec, source: str, tmp_path: Path) -> None:
    ran = pexec("plugin", "bake", source, "-o", "p.wasm")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    module = Engine.shared().compile((tmp_path / "p.wasm").read_bytes(), cached=False)
    with Driver.open(Limits(), module) as driver:
        driver.put(b"21", name="twice")
        driver.call("engine_job")
        assert driver.output() == b"42"


def test_a_plugin_baked_after_samples_remembers_them(pexec: Pexec, tmp_path: Path) -> None:
    (tmp_path / "p.js").write_text("let n = 0; const count = d => ++n")
    (tmp_path / "d.json").write_text("1")
    assert pexec("plugin", "bake", "p.js", "-o", "p.wasm", "--sample", "d.json", "--sample", "d.json").status == 0
    module = Engine.shared().compile((tmp_path / "p.wasm").read_bytes(), cached=False)
    with Driver.open(Limits(), module) as driver:
        driver.put(b"0", name="count")
        driver.call("engine_job")
        assert driver.output() == b"3"


def test_inspect_a_source(pexec: Pexec, source: str) -> None:
    told = inspect(pexec, source)
    assert told["kind"] == "plugin source"
    assert told["functions"] == ["default", "twice"]
    assert told["memory bytes"] % 65536 == 0
    assert 0 < told["image bytes"] <= told["memory bytes"]
    assert "__stack_pointer" in told["globals"]
    text = pexec("plugin", "inspect", source).out
    assert "functions:    default, twice\n" in text


def test_inspect_an_image(pexec: Pexec, source: str, tmp_path: Path) -> None:
    Plugin.from_file(tmp_path / source).image().save(tmp_path / "p.img")
    told = inspect(pexec, "p.img")
    assert told["kind"] == "memory image"
    assert (told["plugin"], told["functions"]) == ("p.mjs", ["default", "twice"])
    (tmp_path / "p.img").write_bytes((tmp_path / "p.img").read_bytes()[:-100])
    ran = pexec("plugin", "inspect", "p.img")
    assert ran.status == 1
    assert "damaged" in ran.lines[0]


def test_inspect_a_baked_module(pexec: Pexec, source: str, tmp_path: Path) -> None:
    pexec("plugin", "bake", source, "-o", "p.wasm")
    told = inspect(pexec, "p.wasm")
    image = MemoryImage.capture(SOURCE, name="p.mjs", kind="module")
    assert told["kind"] == "baked WebAssembly module"
    assert (told["plugin"], told["functions"]) == ("p.mjs", ["default", "twice"])
    assert told["memory bytes"] == image.memory_size
    assert told["globals"] == image.globals
    assert told["engine build"] == Engine.shared().build_id
    assert "engine_job" in told["exports"]
    content = (tmp_path / "p.wasm").read_bytes()
    (tmp_path / "p.wasm").write_bytes(content[: len(content) // 2])
    ran = pexec("plugin", "inspect", "p.wasm")
    assert ran.status == 1
    assert ran.lines[0].startswith("pexec: error: p.wasm: the WebAssembly module is damaged")


def test_inspect_another_module(pexec: Pexec, tmp_path: Path) -> None:
    (tmp_path / "m.wasm").write_bytes(b"\0asm\1\0\0\0" + bytes.fromhex("0503010002"))
    told = inspect(pexec, "m.wasm")
    assert told["kind"] == "WebAssembly module, not baked by pexec"
    assert told["memory bytes"] == 2 * 65536


def test_cache(pexec: Pexec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "parallel_exec" / "artifacts"
    assert "0 compiled engines, 0 bytes" in pexec("cache", "info").out
    folder.mkdir(parents=True, mode=0o700)
    (folder / "abc.cwasm").write_bytes(b"x" * 1234)
    told = pexec("cache", "info").out
    assert told.startswith(f"{folder}\n")
    assert "abc.cwasm  1,234 bytes" in told
    assert "1 compiled engine, 1,234 bytes" in told
    assert pexec("cache", "clear").out == f"1 compiled engine deleted from {folder}\n"
    assert list(folder.iterdir()) == []
