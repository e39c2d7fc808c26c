"""The verification modules, and the same in JavaScript: right answers for the vectors, and a status for everything."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ormsgpack
import pytest

import parallel_exec as px
from parallel_exec.verify import modules
from parallel_exec.verify.modules import FOLDER, module_path
from tests.wasm.vectors import Vector, bip340, build_modules, wycheproof

pytest.importorskip("ziglang")

STATUS = ["valid", "invalid", "bad public key", "bad signature", "bad request", "unknown kind"]
KINDS = {"schnorr": 1, "ecdsa": 2}


def plugin(name: str) -> px.WasmPlugin:
    return px.WasmPlugin.from_file(module_path(name))


def batch(vectors: Sequence[Vector]) -> bytes:
    return b"".join(
        struct.pack("<BBHI", KINDS[each.kind], len(each.public_key), len(each.signature), len(each.message))
        + each.public_key
        + each.signature
        + each.message
        for each in vectors
    )


@pytest.fixture(scope="module")
def vectors() -> list[Vector]:
    found = bip340() + wycheproof()
    assert [each.name for each in found[:19]] == [f"BIP-340 {number}" for number in range(19)]
    assert [each.valid for each in found[:19]] == [True] * 5 + [False] * 10 + [True] * 4
    assert [len(each.message) for each in found[15:19]] == [0, 1, 17, 100]
    assert len(found) == 19 + 463
    assert sum(each.valid for each in found[19:]) > 100
    return found


@pytest.fixture(scope="module")
def both() -> Iterator[px.Sandbox]:
    with px.Sandbox(plugin("both-speed-wide")) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def javascript() -> Iterator[px.Sandbox]:
    with px.Sandbox(px.Plugin.from_file(FOLDER / "verify.js", kind="module")) as sandbox:
        yield sandbox


def in_hex(request: dict[str, Any]) -> dict[str, Any]:
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in request.items()}


def test_vectors_one_by_one(both: px.Sandbox, vectors: list[Vector]) -> None:
    for vector in vectors:
        answer = both.call("verify_message", vector.request)
        assert answer["valid"] == vector.valid, vector.name
        assert answer["valid"] == (answer["status"] == "valid")
        assert answer["status"] in STATUS[:4]


@pytest.mark.parametrize("name", ["both-speed-wide", "schnorr-speed-wide", "ecdsa-speed-wide", "both-speed-mvp"])
def test_vectors_in_a_batch(name: str, vectors: list[Vector]) -> None:
    verify = plugin(name).function("verify_batch", input="binary")
    answers = verify(batch(vectors))
    known = name.split("-", maxsplit=1)[0]
    for vector, answer in zip(vectors, answers, strict=True):
        if known in ("both", vector.kind):
            assert (answer == 0) == vector.valid, vector.name
            assert answer in range(4)
        else:
            assert STATUS[answer] == "unknown kind"


def test_vectors_in_javascript(javascript: px.Sandbox, both: px.Sandbox, vectors: list[Vector]) -> None:
    # All of Schnorr's, and so many of ECDSA's that all statuses are among them: each takes a millisecond.
    for vector in vectors[:19] + vectors[19::4]:
        answer = javascript.call("verify_message", in_hex(vector.request))
        assert answer == both.call("verify_message", vector.request), vector.name


def tampered(vector: Vector) -> Iterator[tuple[Vector, set[str]]]:
    """Requests that differ from a good one, and what may be said of them."""
    refused = set(STATUS[1:4])
    for field in ("public_key", "signature", "message"):
        content = getattr(vector, field)
        for at in range(0, len(content), 7):
            changed = bytes([*content[:at], content[at] ^ 1, *content[at + 1 :]])
            yield Vector(**(vector._asdict() | {field: changed})), refused
    for wrong in (b"", vector.public_key[:-1], vector.public_key + b"\0", bytes(len(vector.public_key)), bytes(255)):
        yield vector._replace(public_key=wrong), {"bad public key"}
    for wrong in (b"", vector.signature[:-1], vector.signature + b"\0", b"\xff" * 300):
        yield vector._replace(signature=wrong), {"bad signature"}
    yield vector._replace(message=vector.message + b"\0"), {"invalid"}
    yield vector._replace(message=bytes(100_000)), {"invalid"}


@pytest.mark.parametrize("kind", ["schnorr", "ecdsa"])
def test_what_is_tampered_with_is_refused(
    both: px.Sandbox, javascript: px.Sandbox, vectors: list[Vector], kind: str
) -> None:
    good = next(each for each in vectors if each.kind == kind and each.valid and each.message)
    cases = list(tampered(good))
    answers = both.call("verify_batch", batch([case for case, _ in cases]), input="binary")
    for number, ((case, allowed), answer) in enumerate(zip(cases, answers, strict=True)):
        assert STATUS[answer] in allowed, case
        assert both.call("verify_message", case.request) == {"valid": False, "status": STATUS[answer]}
        if number % 5 == 0 and len(case.message) < 1000:
            assert javascript.call("verify_message", in_hex(case.request))["status"] == STATUS[answer]


def test_the_other_key_is_refused(both: px.Sandbox, vectors: list[Vector]) -> None:
    first, second, *_ = (each for each in vectors if each.kind == "schnorr" and each.valid)
    swapped = first._replace(public_key=second.public_key)
    assert both.call("verify_message", swapped.request) == {"valid": False, "status": "invalid"}


def requests(good: dict[str, Any]) -> Iterator[bytes]:
    """What is no request, as bytes."""
    packed = ormsgpack.packb(good)
    yield from (b"", b"\xc1", b"\x80", b"\xdf\xff\xff\xff\xff", b"\xde\x00\x04", b"\x84", packed + b"\0")
    yield from (packed[:length] for length in range(0, len(packed), 5))
    yield from (ormsgpack.packb(value) for value in (None, 1, "text", [good], {**good, "more": b""}))
    yield from (ormsgpack.packb({**good, name: value}) for name in good for value in (None, 1, [b""], {"a": b""}))
    yield from (ormsgpack.packb({key: good[key] for key in good if key != name}) for name in good)
    yield ormsgpack.packb({**{key: good[key] for key in good if key != "message"}, "massage": b""})
    text_of_4_gib = ormsgpack.packb("message") + b"\xc6\xff\xff\xff\xff"
    yield b"\x84" + text_of_4_gib * 4


def test_malformed_requests_are_said_to_be_bad(both: px.Sandbox, vectors: list[Vector]) -> None:
    for request in requests(vectors[0].request):
        assert both.call("verify_message", request) == {"valid": False, "status": "bad request"}, request


def test_javascript_refuses_malformed_requests(javascript: px.Sandbox, vectors: list[Vector]) -> None:
    good = in_hex(vectors[0].request)
    bad: list[Any] = [
        None,
        1,
        "text",
        [],
        {},
        {**good, "more": ""},
        {**good, "message": "f"},
        {**good, "message": "gg"},
    ]
    for request in bad + [{**good, name: 1} for name in good]:
        assert javascript.call("verify_message", request) == {"valid": False, "status": "bad request"}, request
    assert javascript.call("verify_message", {**good, "kind": "rsa"})["status"] == "unknown kind"


def test_unknown_kinds_are_said_to_be_unknown(both: px.Sandbox, vectors: list[Vector]) -> None:
    assert both.call("verify_message", {**vectors[0].request, "kind": "rsa"})["status"] == "unknown kind"
    with px.Sandbox(plugin("ecdsa-speed-wide")) as sandbox:
        assert sandbox.call("verify_message", vectors[0].request)["status"] == "unknown kind"
    content = bytearray(batch(vectors[:2]))
    content[0] = 9
    assert both.call("verify_batch", content, input="binary") == bytes([5, 0])


def test_a_batch_that_ends_early_is_an_error(both: px.Sandbox, vectors: list[Vector]) -> None:
    content = batch(vectors[:2])
    for length in (1, 7, 8, 40, len(content) - 1):
        with pytest.raises(px.WasmError, match="ends in the middle of a message"):
            both.call("verify_batch", content[:length], input="binary")
    assert both.call("verify_batch", b"", input="binary") == b""


def test_other_operations_are_refused(both: px.Sandbox) -> None:
    for name in ("verify", "verify_messages", "VERIFY_MESSAGE", "x" * 10_000):
        with pytest.raises(px.WasmError, match="the operations are verify_message and verify_batch"):
            both.call(name, None)


def test_a_request_that_does_not_fit_is_refused() -> None:
    verify = plugin("both-speed-wide").function("verify_batch", input="binary", limits=px.Limits(memory_bytes=4 << 20))
    with pytest.raises(px.MemoryLimitExceeded):
        verify(bytes(8 << 20))


def test_a_wheel_without_a_module_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(modules, "FOLDER", tmp_path)
    monkeypatch.setattr(modules, "_SCRIPT", tmp_path / "no-checkout.py")
    with pytest.raises(px.PluginError, match=r"verify-both-speed-wide\.wasm is missing: install parallel_exec again"):
        module_path("both-speed-wide")


def test_modules_that_cannot_be_built_are_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "build_modules.py"
    script.write_text("raise SystemExit('build_modules: the compiler is missing')")
    monkeypatch.setattr(modules, "_SCRIPT", script)
    with pytest.raises(px.PluginError, match=r"modules cannot be built; build_modules: the compiler is missing"):
        module_path("both-speed-wide")


def test_modules_are_built_when_an_input_changes() -> None:
    script = build_modules()
    digests = {script.inputs_digest(name) for name in script.module_names()}
    assert len(digests) == len(script.module_names()) == 8
