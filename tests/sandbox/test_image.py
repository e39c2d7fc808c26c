"""Memory images: to bytes and files and back, never damaged, never of another engine, never copied."""

from __future__ import annotations

import dataclasses
import hashlib
import mmap
import random
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

import parallel_exec as px
from parallel_exec.sandbox._engine.engine import Engine

SOURCE = """
const table = new Map([["a", 1]]);
let calls = 0;
function f(x) { calls += 1; return [calls, x, table.get("a"), [..."héllo"].length] }
"""
ANSWER = [1, {"k": [1, 2]}, 1, 5]
HEAD = struct.Struct("<8s2I32s")


@pytest.fixture(scope="module")
def image() -> px.MemoryImage:
    return px.MemoryImage.capture(SOURCE, name="image.js")


@pytest.fixture(scope="module")
def content(image: px.MemoryImage) -> bytes:
    return image.to_bytes()


def answer(image: px.MemoryImage) -> Any:
    with px.Sandbox(image) as sandbox:
        assert sandbox.call("f", {"k": [1, 2]}) == ANSWER
        return sandbox.call("f", {"k": [1, 2]})


def header_of(content: bytes) -> dict[str, Any]:
    size = HEAD.unpack_from(content)[2]
    header: dict[str, Any] = orjson.loads(content[HEAD.size : HEAD.size + size])
    return header


def sealed(header: dict[str, Any], body: bytes) -> bytes:
    """An image file with this header, whose checksum is right."""
    packed = orjson.dumps(header)
    packed += b" " * (-(HEAD.size + len(packed)) % 64)
    return HEAD.pack(b"PEXECIMG", 1, len(packed), hashlib.sha256(packed + body).digest()) + packed + body


def test_what_it_holds(image: px.MemoryImage) -> None:
    assert image.plugin_name == "image.js"
    assert image.build_id == Engine.shared().build_id
    assert image.memory_size % 65536 == 0
    assert list(image.globals) == ["__stack_pointer"]
    end = 0
    for address, run in image.runs:
        assert address >= end
        assert address % 4096 == len(run) % 4096 == 0
        assert all(any(run[page : page + 4096]) for page in range(0, len(run), 4096))
        end = address + len(run)
    assert 0 < image.input_ptr < end <= image.memory_size
    with pytest.raises(dataclasses.FrozenInstanceError):
        image.memory_size = 0  # type: ignore[misc]


def test_through_bytes(image: px.MemoryImage, content: bytes) -> None:
    again = px.MemoryImage.from_bytes(content)
    for name in ("plugin_name", "build_id", "memory_size", "globals", "input_ptr"):
        assert getattr(again, name) == getattr(image, name)
    assert [(at, bytes(run)) for at, run in again.runs] == [(at, bytes(run)) for at, run in image.runs]
    assert again.to_bytes() == content
    assert answer(again) == answer(image) == ANSWER
    assert len(content) < 0.6 * image.memory_size  # pages of zeros are not stored
    assert HEAD.unpack_from(content)[:2] == (b"PEXECIMG", 1)
    assert (HEAD.size + HEAD.unpack_from(content)[2]) % 64 == 0


def test_through_a_file(image: px.MemoryImage, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "image.pexec"
    path.write_bytes(b"what was there before")
    image.save(path)
    assert path.read_bytes() == content
    assert answer(px.MemoryImage.load(path)) == ANSWER
    assert answer(px.MemoryImage.load(str(path))) == ANSWER
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_written_whole_or_not_at_all(
    image: px.MemoryImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.pexec"
    path.write_bytes(b"before")

    def refuse(_source: str, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(OSError, match="No space left"):
            image.save(path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="No such file or directory"):
        image.save(tmp_path / "missing" / "image.pexec")


def test_a_saved_file_has_ordinary_permissions(image: px.MemoryImage, tmp_path: Path) -> None:
    path, plain = tmp_path / "image.pexec", tmp_path / "plain"
    plain.write_bytes(b"")
    image.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


BUFFERS: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "inside another": lambda content: memoryview(b"x" * 13 + content)[13:],
}


@pytest.mark.parametrize("make", BUFFERS.values(), ids=BUFFERS)
def test_runs_are_views_of_the_buffer(content: bytes, make: Callable[[bytes], Any]) -> None:
    buffer = make(content)
    image = px.MemoryImage.from_bytes(buffer)
    owner = buffer.obj if isinstance(buffer, memoryview) else buffer
    for _address, run in image.runs:
        assert run.obj is owner
        assert run.readonly
    assert answer(image) == ANSWER


def test_over_mapped_memory(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "image.pexec"
    path.write_bytes(content)
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    image = px.MemoryImage.from_bytes(memory)
    assert {id(run.obj) for _address, run in image.runs} == {id(memory)}
    with pytest.raises(BufferError):
        memory.close()  # the image keeps the mapping
    path.unlink()
    assert answer(image) == ANSWER


def assert_refused(content: bytes | bytearray, message: str = "memory image") -> None:
    with pytest.raises(px.PluginError, match=message):
        px.MemoryImage.from_bytes(content)


def test_every_damaged_byte_is_noticed(content: bytes) -> None:
    header_end = HEAD.size + HEAD.unpack_from(content)[2]
    places = [*range(header_end), *random.Random(1).sample(range(header_end, len(content)), 100), len(content) - 1]
    damaged = bytearray(content)
    for place in places:
        damaged[place] ^= 1 << (place % 8)
        assert_refused(damaged)
        damaged[place] = content[place]
    assert answer(px.MemoryImage.from_bytes(damaged)) == ANSWER


def test_every_truncation_is_noticed(content: bytes) -> None:
    header_end = HEAD.size + HEAD.unpack_from(content)[2]
    for end in [*range(0, header_end, 7), HEAD.size, header_end, *range(header_end, len(content), 20_011)]:
        assert_refused(content[:end])
    assert_refused(content[:-1], "damaged or cut short")
    assert_refused(content + b"\0", "damaged or cut short")


def test_what_is_no_image_says_so(content: bytes, tmp_path: Path) -> None:
    for text in (b"", b"PEXECIMG", b"\0asm\1\0\0\0" * 20, b"PEXECIMH" + content[8:], bytes(1000)):
        assert_refused(text, "not a memory image: it does not begin with PEXECIMG")
    version = bytearray(content)
    version[8] = 2
    assert_refused(version, "format version 2; this release reads version 1")
    size = bytearray(content)
    size[12:16] = b"\xff" * 4
    assert_refused(size, "damaged or cut short")
    path = tmp_path / "other.pexec"
    path.write_bytes(b"something else")
    with pytest.raises(px.PluginError, match="not a memory image") as caught:
        px.MemoryImage.load(path)
    assert caught.value.plugin == str(path)
    with pytest.raises(px.PluginError, match=r"cannot read the memory image .*missing: No such file"):
        px.MemoryImage.load(tmp_path / "missing")


def test_an_image_of_another_engine_is_refused(content: bytes) -> None:
    header = header_of(content)
    body = content[HEAD.size + HEAD.unpack_from(content)[2] :]
    assert answer(px.MemoryImage.from_bytes(sealed(header, body))) == ANSWER
    header["build_id"] = "0" * 64
    assert_refused(sealed(header, body), "belongs to another build of the engine; capture it again")


FORGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "runs beyond the body": lambda h: h["runs"].append([h["memory_size"] - 4096, 4096]),
    "overlapping runs": lambda h: h["runs"].insert(0, h["runs"][0]),
    "a negative address": lambda h: h["runs"].__setitem__(0, [-4096, h["runs"][0][1]]),
    "a negative length": lambda h: h["runs"].__setitem__(0, [h["runs"][0][0], -1]),
    "an address beyond memory": lambda h: h["runs"].__setitem__(-1, [1 << 40, h["runs"][-1][1]]),
    "a fraction": lambda h: h["runs"].__setitem__(0, [0.5, h["runs"][0][1]]),
    "runs that are not a list": lambda h: h.update(runs=5),
    "no runs": lambda h: h.update(runs=[]),
    "runs of three": lambda h: h.update(runs=[[1, 2, 3]]),
    "a memory too small": lambda h: h.update(memory_size=65536),
    "a memory of odd size": lambda h: h.update(memory_size=h["memory_size"] + 1),
    "a memory too large": lambda h: h.update(memory_size=1 << 33),
    "a memory that is not a number": lambda h: h.update(memory_size="1"),
    "an input beyond memory": lambda h: h.update(input_ptr=h["memory_size"] + 1),
    "a negative input": lambda h: h.update(input_ptr=-8),
    "an input that is not a number": lambda h: h.update(input_ptr=None),
    "a missing field": lambda h: h.pop("input_ptr"),
    "a missing build": lambda h: h.pop("build_id"),
    "another field": lambda h: h.update(extra=1),
    "other globals": lambda h: h.update(globals={"memory": 1}),
    "globals that are not a dict": lambda h: h.update(globals=[1]),
    "a global too large": lambda h: h.update(globals={"__stack_pointer": 1 << 40}),
    "a name that is not a text": lambda h: h.update(plugin_name=7),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_header_is_refused(content: bytes, forge: Callable[[dict[str, Any]], object]) -> None:
    # The checksum is not a signature: anybody who can write the file can make it right.
    header = header_of(content)
    forge(header)
    assert_refused(sealed(header, content[HEAD.size + HEAD.unpack_from(content)[2] :]))


@pytest.mark.parametrize("header", [b"", b"{}", b"[]", b"null", b"{", b"\xff", b"[" * 5000])
def test_a_header_that_is_not_one_is_refused(header: bytes) -> None:
    head = HEAD.pack(b"PEXECIMG", 1, len(header), hashlib.sha256(header).digest())
    assert_refused(head + header)


def test_samples_warm_the_image_up() -> None:
    source = "let seen = []; function f(x) { seen.push(x); return seen }"
    samples = [b'{"a":1}', b"[2]", b'"three"']
    image = px.MemoryImage.capture(source, name="warm.js", samples=samples, function="f")
    with px.Sandbox(image) as sandbox:
        for _ in range(2):
            assert sandbox.call("f", 4) == [{"a": 1}, [2], "three", 4]
    with pytest.raises(ValueError, match="samples need the name of the function"):
        px.MemoryImage.capture(source, name="warm.js", samples=samples)
    for sample, function, message in (
        (b"[1,", "f", "sample 1 fails: .*not JSON"),
        (b"1", "g", "sample 0 fails: .*no function 'g'"),
    ):
        with pytest.raises(px.PluginError, match=message) as caught:
            px.MemoryImage.capture(source, name="warm.js", samples=[b"1", sample], function=function)
        assert (caught.value.plugin, caught.value.function) == ("warm.js", function)


def test_console_output_of_the_load_is_dropped() -> None:
    records: list[str] = []
    image = px.MemoryImage.capture("console.log('loading'); function f() { console.log('running') }", name="c.js")
    with px.Sandbox(image, on_console=lambda _level, text: records.append(text)) as sandbox:
        sandbox.call("f", 1)
    assert records == ["running"]


def test_one_image_serves_many_sandboxes(image: px.MemoryImage) -> None:
    sandboxes = [px.Sandbox(image) for _ in range(20)]
    for _ in range(2):
        assert [sandbox.call("f", {"k": [1, 2]}) for sandbox in sandboxes] == [ANSWER] * 20
    for sandbox in sandboxes:
        sandbox.close()


def test_captures_are_alike() -> None:
    pinned = px.Limits(seed=1, time=1e9)
    first, second = (px.MemoryImage.capture(SOURCE, name="image.js", limits=pinned) for _ in range(2))
    assert first.to_bytes() == second.to_bytes()


def test_a_large_plugin() -> None:
    source = f"const data = {list(range(200_000))}; const f = i => data[i] + data.length"
    image = px.MemoryImage.capture(source, name="large.js")
    again = px.MemoryImage.from_bytes(image.to_bytes())
    with px.Sandbox(again) as sandbox:
        assert [sandbox.call("f", i) for i in (0, 199_999, 5)] == [200_000, 399_999, 200_005]
