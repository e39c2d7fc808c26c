"""Limits hold while a document is read and while a result is written."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable

import pytest

import parallel_exec as px
from parallel_exec.sandbox._js.instance import JavaScriptInstance
from parallel_exec.sandbox._js.runner import JavaScriptRunner
from tests.json.oracle import ORACLE
from tests.sandbox.inside import instance_of, javascript_runner_of

MIB = 1 << 20


def sandbox(**limits: float | None) -> px.Sandbox:
    return px.Sandbox(ORACLE, limits=px.Limits(**limits))  # type: ignore[arg-type]


def memory_after(box: px.Sandbox, call: Callable[[], object]) -> int:
    """Bytes of linear memory that the instance has after a call, which may fail."""
    box.call("identity", 0)
    instance = instance_of(box)
    assert instance is not None
    with contextlib.suppress(px.PexecError):
        call()
    return instance.size()


def big_document(size: int) -> bytes:
    piece = b'{"type":"Feature","id":123,"p":[1.5,-2.25,null,true],"name":"caf\xc3\xa9"}'
    return b"[" + b",".join([piece] * (size // len(piece))) + b"]"


@pytest.mark.parametrize(
    "document",
    [
        big_document(50 * MIB),
        b"[" + b",".join(b'{"k%d":1}' % i for i in range(3_000_000)) + b"]",
        b"{" + b",".join(b'"k%d":1' % i for i in range(3_000_000)) + b"}",
        b"[" + b"[],{}," * 6_000_000 + b"0]",
    ],
    ids=["features", "objects of distinct keys", "an object of distinct keys", "empty ones"],
)
def test_the_deadline_strikes_while_a_document_is_read(document: bytes) -> None:
    with sandbox(time_s=0.02, memory_bytes=2 << 30) as box:
        with pytest.raises(px.JobTimeout):
            box.call("size", document)
        assert box.call("size", b"[1,2]") == 2


@pytest.mark.parametrize(
    "document", [b'"' + b"x" * (60 * MIB) + b'"', b'"' + b"\\u20ac" * (10 * MIB) + b'"', b"1" * (100 * MIB)]
)
def test_the_deadline_holds_after_one_very_long_token(document: bytes) -> None:
    with sandbox(time_s=0.001, memory_bytes=2 << 30) as box, pytest.raises(px.JobTimeout):
        box.call("identity", document)


@pytest.mark.parametrize("function", ["loop", "swallowing"])
def test_the_deadline_strikes_while_a_result_is_written(function: str) -> None:
    with sandbox(time_s=0.05) as box:
        with pytest.raises(px.JobTimeout):
            box.call(function, None)
        assert box.call("text", 3) == "xxx"


def test_the_deadline_strikes_while_much_is_written() -> None:
    with sandbox(time_s=None, memory_bytes=2 << 30) as box:
        started = time.perf_counter()
        box.call_bytes("many", 1)
        assert time.perf_counter() - started < 60
    document = big_document(50 * MIB)
    with sandbox(time_s=0.02, memory_bytes=2 << 30, output_bytes=1 << 30) as box, pytest.raises(px.JobTimeout):
        box.call_bytes("identity", document)


@pytest.mark.parametrize("function", ["text", "wide", "many", "escaped"])
def test_output_is_bounded_while_it_is_written(function: str) -> None:
    count = {"text": 40_000_000, "wide": 10_000_000, "many": 300_000, "escaped": 10_000_000}[function]
    limit = 256 * 1024
    with sandbox(time_s=None, output_bytes=limit, memory_bytes=512 * MIB) as small:
        with pytest.raises(px.OutputTooLarge):
            small.call_bytes(function, count)
        bounded = memory_after(small, lambda: small.call_bytes(function, count))
    with sandbox(time_s=None, output_bytes=1 << 30, memory_bytes=2 << 30) as large:
        value_alone = memory_after(large, lambda: large.call("size", large.call_bytes("identity", b"1") and count))
        free = memory_after(large, lambda: large.call_bytes(function, count))
        length = len(large.call_bytes(function, count))
    assert length > 8 * limit
    assert bounded <= free - (length - 4 * limit) + 4 * MIB, (bounded, free, value_alone, length)


@pytest.mark.parametrize("length", [1, 2, 39, 40, 41, 4095, 4096, 4097, 100_000])
def test_the_output_limit_is_exact(length: int) -> None:
    with sandbox(output_bytes=length + 2) as box:
        assert len(box.call_bytes("text", length)) == length + 2
        with pytest.raises(px.OutputTooLarge):
            box.call_bytes("text", length + 1)
    with sandbox(output_bytes=length) as box:
        numbers = [1] * ((length - 1) // 2)
        result = box.call_bytes("identity", numbers) if numbers else b"[]"
        assert len(result) <= max(length, 2)
        with pytest.raises(px.OutputTooLarge):
            box.call_bytes("identity", [*numbers, 10])


def test_a_plugins_own_stringify_is_not_bound_by_the_output_limit() -> None:
    with sandbox(output_bytes=64) as box:
        assert box.call("outputLimit", None) > 64


@pytest.mark.parametrize(
    "document", [big_document(30 * MIB), b'"' + b"x" * (30 * MIB) + b'"', b'"' + b"\\u20ac" * (5 * MIB) + b'"']
)
def test_memory_is_bounded_while_a_document_is_read(document: bytes) -> None:
    with sandbox(time_s=None, memory_bytes=40 * MIB) as box:
        with pytest.raises(px.MemoryLimitExceeded):
            box.call("size", document)
        assert box.call("size", b"[1,2,3]") == 3


def test_memory_is_bounded_while_a_result_is_written() -> None:
    with sandbox(time_s=None, memory_bytes=24 * MIB) as box:
        with pytest.raises(px.MemoryLimitExceeded):
            box.call_bytes("escaped", 4_000_000)
        assert box.call("text", 1) == "x"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_nesting_beyond_the_limit_is_an_error_and_no_trap(opening: str, closing: str) -> None:
    with sandbox(time_s=None) as box:
        for depth in (10, 1000, 4096, 8191, 8192, 8193, 10_000, 1_000_000):
            document = (opening * depth + "1" + closing * depth).encode()
            levels = depth * opening.count("[") + depth * opening.count("{")
            if levels <= 8192:
                assert box.call("size", document) == 1
                assert box.call("parseNested", [depth, opening, closing]) == "read"
            else:
                with pytest.raises(px.InvalidDocument, match="nested too deeply"):
                    box.call("size", document)
                assert box.call("parseNested", [depth, opening, closing]) == "RangeError"
            with pytest.raises(px.InvalidDocument):
                box.call("size", document[: len(document) // 2])


@pytest.mark.parametrize("function", ["nestArrays", "nestObjects"])
def test_a_result_that_is_nested_too_deeply_is_a_range_error(function: str) -> None:
    with sandbox(time_s=None) as box:
        assert box.call_bytes(function, 300).count(b"1") == 1
        with pytest.raises(px.JSError, match="RangeError"):
            box.call_bytes(function, 100_000)
        assert box.call("stringifyNested", [300, function == "nestObjects"]) > 300
        assert box.call("stringifyNested", [100_000, function == "nestObjects"]) == "RangeError"
        assert box.call("text", 1) == "x"


def note_heap_used(runner: JavaScriptRunner, instance: JavaScriptInstance, kept: list[int]) -> None:
    """Have each job note how much of the heap it used, before its reset."""
    run = runner._run  # noqa: SLF001 - nothing else happens between a job and its reset

    def note() -> None:
        run()
        kept.append(instance.reply().heap_used)

    runner._run = note  # noqa: SLF001


def test_what_is_learnt_does_not_grow_without_bound() -> None:
    """Distinct keys leave hardly more in the heap than with the engine's own parser."""
    source = """
    const text = (n) => '[' + Array.from({ length: n }, (_, i) => `{"k${i}":{"l${i}":[{"m${i}":1}]}}`).join(',') + ']';
    function own(n) { return JSON.parse(text(n), (_k, v) => v).length }
    function ours(n) { return JSON.parse(text(n)).length }
    """
    limits = px.Limits(time_s=None, memory_bytes=3 << 30)
    count, used = 10_000, {}  # the engine's takes time that grows with its square
    for function in ("own", "ours"):
        with px.Sandbox(px.Plugin(source), limits=limits) as box:
            box.call(function, 1)
            instance, runner = instance_of(box), javascript_runner_of(box)
            assert instance is not None
            kept: list[int] = []
            note_heap_used(runner, instance, kept)
            assert box.call(function, 10) == 10
            assert box.call(function, count) == count
            used[function] = kept[1] - kept[0]
    assert used["ours"] < used["own"] + MIB, used


def test_a_document_of_a_million_distinct_keys() -> None:
    keys = {f"k{i}": i for i in range(1_000_000)}
    with sandbox(time_s=None, memory_bytes=1 << 30) as box:
        assert box.call("identity", json.dumps(keys).encode()) == keys
        objects = [{f"k{i}": {f"l{i}": i}} for i in range(200_000)]
        assert box.call("identity", json.dumps(objects).encode()) == objects
