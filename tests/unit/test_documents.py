"""The codec: what counts as JSON text, what is encoded, and results that orjson alone would refuse."""

from __future__ import annotations

import array
import ctypes
import dataclasses
import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_exec import InvalidDocument, OutputTooLarge, PexecError
from parallel_exec._codec.documents import decode, encode

TEXT = b'{"a": [1, 2.5, null, "\xc3\xa9"]}'


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda text: memoryview(bytearray(text))])
def test_text_is_passed_as_it_is(make: Any) -> None:
    document = make(TEXT)
    assert encode(document) is document


def test_views_are_counted_in_bytes() -> None:
    padded = memoryview(b"##" + TEXT + b"##")[2:-2]
    wide = memoryview(array.array("I", TEXT[: len(TEXT) // 4 * 4]))
    table = memoryview(TEXT[:24]).cast("B", (4, 6))
    foreign = memoryview((ctypes.c_char * len(TEXT)).from_buffer_copy(TEXT))
    signed = memoryview(TEXT).cast("b")
    assert bytes(encode(padded)) == TEXT
    for view in (wide, table, foreign, signed):
        encoded = encode(view)
        assert bytes(encoded) == view.tobytes()
        assert len(encoded) == view.nbytes
        target = memoryview(bytearray(view.nbytes))
        target[:] = encoded  # as a sandbox copies it
        assert target.tobytes() == view.tobytes()


def test_strided_views_are_gathered() -> None:
    spaced = bytes(byte for pair in zip(TEXT, b"#" * len(TEXT), strict=True) for byte in pair)
    assert encode(memoryview(spaced)[::2]) == TEXT
    assert encode(memoryview(TEXT[::-1])[::-1]) == TEXT
    assert encode(memoryview(b"")) == b""


def test_values_are_encoded() -> None:
    assert encode("[1]") == b'"[1]"'
    assert encode(None) == b"null"
    assert encode(float("nan")) == b"null"
    assert encode({"a": (1, True)}) == b'{"a":[1,true]}'

    @dataclasses.dataclass
    class Point:
        x: float

    assert encode(Point(1.5)) == b'{"x":1.5}'


@pytest.mark.parametrize(
    "document",
    [object(), {1: 2}, 2**64, {"deep": {1, 2}}, "\ud800", range(3)],
    ids=["object", "number as key", "large number", "set inside", "surrogate", "range"],
)
def test_values_without_an_encoding_are_refused(document: Any) -> None:
    with pytest.raises(InvalidDocument, match="has no JSON encoding") as caught:
        encode(document)
    assert caught.value.offset is None


def test_circular_and_deep_values_are_refused() -> None:
    circular: list[Any] = []
    circular.append(circular)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for document in (circular, deep):
        with pytest.raises(InvalidDocument, match="has no JSON encoding"):
            encode(document)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@given(JSON_VALUES)
def test_values_survive_both_ways(value: Any) -> None:
    assert decode(bytes(encode(value))) == value


ANY_TEXT = st.text(st.characters() | st.integers(0xD800, 0xDFFF).map(chr))


@given(st.lists(ANY_TEXT | st.integers(-(2**63), 2**64 - 1)))
def test_lone_surrogates_are_decoded_like_the_rest(value: list[Any]) -> None:
    decoded = decode(json.dumps(value).encode())
    # json.dumps writes two lone surrogates that happen to pair like the pair; so does the engine.
    assert decoded == json.loads(json.dumps(value))
    assert [type(item) for item in decoded] == [type(item) for item in value]


def test_lone_surrogates_in_keys() -> None:
    assert decode(b'{"\\ud800":"\\udc00x"}') == {"\ud800": "\udc00x"}


WHOLE_NUMBERS = """
    0 -0 9007199254740993 18446744073709551615 18446744073709551616 -9223372036854775808 -9223372036854775809
    99999999999999999999 100000000000000000000 111111111111111111111111111111111111111111111111111111111111111111
"""


@pytest.mark.parametrize("digits", WHOLE_NUMBERS.split())
def test_integers_have_the_same_type_in_whatever_company(digits: str) -> None:
    alone = decode(digits.encode())
    assert orjson.loads(digits) == alone
    beside, _surrogate = decode(f'[{digits}, "\\ud800"]'.encode())
    assert (type(beside), beside) == (type(alone), alone)
    assert isinstance(alone, int) == (-(2**63) <= int(digits) < 2**64)


def test_numbers_beyond_a_float() -> None:
    # JSON.rawJSON lets a plugin return them.
    assert decode(b"1e400") == math.inf
    assert decode(b"-" + b"9" * 400) == -math.inf
    assert decode(b"9" * 5000) == math.inf  # more digits than int() takes


def test_a_result_too_deep_for_python_is_a_clear_error() -> None:
    assert decode(b"[" * 500 + b"]" * 500) == json.loads("[" * 500 + "]" * 500)
    for text in (b"[" * 50_000 + b"]" * 50_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000):
        with pytest.raises(OutputTooLarge, match=r"nested too deeply.*call_bytes"):
            decode(text)


def test_what_is_no_json_is_a_clear_error() -> None:
    for text in (b"", b"[1", b"\xff", b'"\xed\xa0\x80"'):
        with pytest.raises(PexecError, match="the engine's result is not JSON"):
            decode(text)
