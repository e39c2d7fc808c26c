"""Documents given as bytes: what is JSON and what is not, and the offset of what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import parallel_exec as px
from tests.json import texts
from tests.json.judge import fault, python_accepts
from tests.json.oracle import examples


def offset_of(oracle: px.Sandbox, document: bytes) -> int | None:
    """The offset that the sandbox's refusal of a document names, or None if it takes it."""
    try:
        oracle.call_bytes("identity", document)
    except px.InvalidDocument as error:
        assert error.offset is not None
        return error.offset
    return None


def check(oracle: px.Sandbox, document: bytes) -> None:
    expected = fault(document)
    assert (expected is None) == python_accepts(document), "the judge is wrong"
    assert offset_of(oracle, document) == expected, document


@examples(150)
@given(st.one_of(texts.VALID, texts.DAMAGED, texts.kinds(), texts.LONE))
def test_a_document_is_taken_or_refused_at_the_right_byte(oracle: px.Sandbox, text: str) -> None:
    check(oracle, text.encode("utf-8", "surrogatepass"))


PIECES: dict[str, st.SearchStrategy[Any]] = {
    "text": st.one_of(texts.VALID, texts.kinds()),
    "where": st.floats(0, 1),
    "piece": st.binary(min_size=1, max_size=4),
    "replace": st.booleans(),
}


@examples(150)
@given(**PIECES)
def test_bytes_in_the_middle(oracle: px.Sandbox, text: str, where: float, piece: bytes, *, replace: bool) -> None:
    document = text.encode()
    at = int(where * len(document))
    check(oracle, document[:at] + piece + document[at + len(piece) if replace else at :])


@pytest.mark.nightly
@examples(20_000)
@given(**PIECES)
def test_bytes_in_the_middle_of_many(
    oracle: px.Sandbox, text: str, where: float, piece: bytes, *, replace: bool
) -> None:
    document = text.encode()
    at = int(where * len(document))
    check(oracle, document[:at] + piece + document[at + len(piece) if replace else at :])


@examples(150)
@given(st.one_of(texts.VALID, texts.kinds()))
def test_a_document_means_what_the_engine_reads(oracle: px.Sandbox, text: str) -> None:
    document = b'{"document":' + text.encode() + b',"text":' + json.dumps(text).encode() + b"}"
    assert oracle.call("compareDocument", document) == ""


@pytest.mark.parametrize(
    "text",
    [
        b"", b" ", b"\xef\xbb\xbf1", b"\xef\xbb\xbf", b"\xff\xfe1\x00", b"\x00", b"1\x00", b"[1,\x00]", b'"\x00"',
        b'"\xc0\x80"', b'"\xc1\xbf"', b'"\x80"', b'"\xbf"', b'"\xc3"',
        b'"\xc3', b'"\xe2\x82"', b'"\xe2\x82', b'"\xe2', b'"\xe0\x80\x80"', b'"\xe0\x9f\xbf"', b'"\xed\xa0\x80"',
        b'"\xed\xbf\xbf"', b'"\xed\xa0\xbd\xed\xb8\x80"', b'"\xf0\x80\x80\x80"',
        b'"\xf0\x8f\xbf\xbf"', b'"\xf4\x90\x80\x80"', b'"\xf5\x80\x80\x80"', b'"\xf8\x88\x80\x80\x80"', b'"\xff"',
        b'"\xfe"', b'"\xf0\x9f\x98"', b'"\xf0\x9f\x98', b'"a\xf0\x9f\x98\x80\xf0\x9f\x98\x41"',
        b'{"\xc3":1}', b'{"\xff":1}', b"\xc3\xa9", b"[\xc3\xa9]", b'{"a":"b"\xff}', b'"\\\xc3\xa9"', b'"\\\xff"',
        b'"\\u12\xff4"', b'"\\u\xc3\xa9', b'"\\ud800\xed\xb0\x80"', b'"' + b"a" * 40 + b"\xff" + b'"',
        b'"' + "\u20ac".encode() * 40 + b"\xe2\x82" + b'"', b'{"type":1}{"type":2}', b'"\xef\xbb\xbf"',
        b'"\xef\xbf\xbf"', b'"\xf4\x8f\xbf\xbf"', b'"\xee\x80\x80"', b"1.", b"-", b"1e", b"[1e+]", b"01", b"-01",
        b"1.5.5", b'["\\u12', b'["\\u123"]', b'["\\u12G4"]', b'["\\', b'{"a', b'{"a\\', b'{"a\\u00', b"tru", b"trux",
        b"nulll", b"falsE", b"[true", b"123456789012345678901234567890.", b"1e5e5", b"0.5x", b"-x", b"1.x",
    ],
)  # fmt: skip
def test_bytes_that_are_not_json_and_some_that_are(oracle: px.Sandbox, text: bytes) -> None:
    check(oracle, text)


def test_every_two_bytes_in_a_string(oracle: px.Sandbox) -> None:
    for first in [0xC1, 0xC2, 0xDF, 0xE0, 0xED, 0xEF, 0xF0, 0xF4, 0xF5, 0x80]:
        for second in range(0x70, 0xD0):
            for rest in (b"", b"\x80", b"\x80\x80", b"\xbf\xbf"):
                document = b'"' + bytes([first, second]) + rest + b'"'
                assert offset_of(oracle, document) == fault(document), document
