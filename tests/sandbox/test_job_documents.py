"""Documents as they reach a plugin, from every kind of Python object, and where a refused one is wrong."""

from __future__ import annotations

import array
import gzip
import mmap
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import parallel_exec as px

SOURCE = "const same = x => x; function kind(x) { return x === null ? 'null' : Array.isArray(x) ? 'array' : typeof x }"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[px.Sandbox]:
    with px.Sandbox(px.Plugin(SOURCE, name="same.js")) as sandbox:
        yield sandbox


TEXT = '{"a":[1,2.5,-0,null,true],"ä":"日本 😀"}'.encode()
SPACED = bytes(byte for pair in zip(TEXT, b"#" * len(TEXT), strict=True) for byte in pair)


def mapped(text: bytes) -> memoryview:
    memory = mmap.mmap(-1, len(text))
    memory.write(text)
    return memoryview(memory)


BYTES_LIKE = {
    "bytes": TEXT,
    "bytearray": bytearray(TEXT),
    "memoryview": memoryview(TEXT),
    "writable view": memoryview(bytearray(TEXT)),
    "read-only view": memoryview(bytearray(TEXT)).toreadonly(),
    "slice": memoryview(b"[[" + TEXT + b"]]")[2:-2],
    "strided view": memoryview(SPACED)[::2],
    "reversed view": memoryview(TEXT[::-1])[::-1],
    "signed view": memoryview(TEXT).cast("b"),
    "character view": memoryview(TEXT).cast("c"),
    "wide view": memoryview(array.array("I", TEXT + b" " * (-len(TEXT) % 4))),
    "table": memoryview(TEXT + b" " * (-len(TEXT) % 4)).cast("B", ((len(TEXT) + 3) // 4, 4)),
    "mapped memory": mapped(TEXT),
}


@pytest.mark.parametrize("document", BYTES_LIKE.values(), ids=BYTES_LIKE)
def test_bytes_like_objects_are_json_text(sandbox: px.Sandbox, document: Any) -> None:
    for _ in range(2):
        assert sandbox.call("same", document) == orjson.loads(TEXT)
        assert sandbox.call_bytes("same", document) == TEXT.replace(b"-0", b"0")


def test_other_values_are_encoded(sandbox: px.Sandbox) -> None:
    values: list[tuple[Any, str]] = [
        ("[1]", "string"),
        ("", "string"),
        (1, "number"),
        (None, "null"),
        ([], "array"),
        ({}, "object"),
    ]
    for value, kind in values:
        assert sandbox.call("kind", value) == kind
        assert sandbox.call("same", value) == value
    assert sandbox.call("same", ("a", 2**53)) == ["a", 2**53]
    assert sandbox.call("same", float("nan")) is None
    unfit: list[Any] = [object(), {1: 2}, {"a": {2}}, 2**64]
    for value in unfit:
        with pytest.raises(px.InvalidDocument, match=r"same\.js: same\(\): the document has no JSON encoding"):
            sandbox.call("same", value)


def test_a_document_is_read_before_the_call_returns_and_never_written(sandbox: px.Sandbox) -> None:
    document = bytearray(b'["one"]')
    assert sandbox.call("same", document) == ["one"]
    document[2:5] = b"two"
    assert sandbox.call("same", document) == ["two"]
    assert document == b'["two"]'
    document.clear()  # nothing holds an export of the buffer


def test_large_and_small_documents_in_turn(sandbox: px.Sandbox) -> None:
    large = b"[" + b'"' + b"x" * 3_000_000 + b'",' + b"1," * 100_000 + b"null]"
    for document in (b"1", large, b"[2]", large, b'"' + b"y" * 70_000 + b'"', b"3"):
        assert sandbox.call_bytes("same", document) == document


# JavaScript writes 2**60 as 1152921504606847000: the same float, but another integer.
FLOATS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: abs(x) < 2**53 or abs(x) >= 1e21)


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | FLOATS
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    )
)
def test_values_come_back_equal(sandbox: px.Sandbox, value: Any) -> None:
    assert sandbox.call("same", value) == value


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (2**53 + 1, "9007199254740992"),
        (float("nan"), "null"),
        ([float("inf"), -float("inf")], "[null,null]"),
        (-0.0, "0"),
        (1.0, "1"),
        ({"b": 1, "10": 2, "9": 3}, '{"9":3,"10":2,"b":1}'),
    ],
)
def test_what_does_not_come_back_as_it_was(sandbox: px.Sandbox, value: Any, back: str) -> None:
    assert sandbox.call_bytes("same", value).decode() == back


def test_results(sandbox: px.Sandbox) -> None:
    source = """
    const results = {
        nothing: undefined, nil: null, fn: () => 1, symbol: Symbol(), nan: NaN, infinite: [Infinity, -Infinity, -0],
        big: [2 ** 53, 2 ** 60, 2 ** 64, 1e21, -1e300, 5e-324], date: new Date(0), map: new Map([[1, 2]]),
        boxed: [new Number(1), new String("s"), new Boolean(false)], holes: [, 1, undefined, () => 1],
        nested: {a: undefined},
        surrogates: ["\\ud800", {"\\udc00": "\\ud83d\\ude00"}], text: "\\0\\b\\u2028\\u007f\\"\\\\/",
    };
    const get = name => results[name];
    """
    with px.Sandbox(px.Plugin(source)) as other:
        expected: dict[str, Any] = {
            "nothing": None,
            "nil": None,
            "fn": None,
            "symbol": None,
            "nan": None,
            "infinite": [None, None, 0],
            "big": [2**53, 1152921504606847000, float(2**64), 1e21, -1e300, 5e-324],
            "date": "1970-01-01T00:00:00.000Z",
            "map": {},
            "boxed": [1, "s", False],
            "holes": [None, 1, None, None],
            "nested": {},
            "surrogates": ["\ud800", {"\udc00": "\U0001f600"}],
            "text": '\0\b\u2028\u007f"\\/',
        }
        for name, value in expected.items():
            assert other.call("get", name) == value, name
        assert other.call_bytes("get", "nothing") == b"null"
        assert other.call_bytes("get", "surrogates") == '["\\ud800",{"\\udc00":"\U0001f600"}]'.encode()


WRONG = [
    (b"", 0),
    (b" \n\t ", 4),
    (b"x", 0),
    (b"]", 0),
    (b"'a'", 0),
    (b"NaN", 0),
    (b"undefined", 0),
    (b"/* */ 1", 0),
    (b"\xef\xbb\xbf[1]", 0),
    (b"\xc2\xa0[1]", 0),
    (b"[1,]", 3),
    (b"[1 2]", 3),
    (b"[1,2", 4),
    (b"[1] x", 4),
    (b"[1][2]", 3),
    (b"[1]\0", 3),
    (b'{"a":1}}', 7),
    (b'{"a":1,}', 7),
    (b'{"a" 1}', 5),
    (b'{"a":1 "b":2}', 7),
    (b"{a:1}", 1),
    (b"nulx", 3),
    (b"1 2", 2),
    (b'"a\nb"', 2),
    (b'"abc', 4),
    ('["日本", x]'.encode(), 11),
    ('["\U0001f600\U0001f600"; 1]'.encode(), 11),
    ('{"größe": }'.encode(), 12),
    (b"[" + b'{"a": [1, 2, 3]}, ' * 1000 + b"x]", 18001),
    (b'"' + b"a" * 100_000 + b"\x01" + b'"', 100_001),
    (b'["\xff"]', 2),
    (b'["ok", "\xc3("]', 8),
    (b'["\xed\xa0\x80"]', 2),
]


@pytest.mark.parametrize(("text", "offset"), WRONG, ids=lambda value: repr(value)[:24])
def test_where_a_document_is_wrong(sandbox: px.Sandbox, text: bytes, offset: int) -> None:
    for document in (text, bytearray(text), memoryview(b"  " + text)[2:]):
        with pytest.raises(px.InvalidDocument, match="the document is not JSON: ") as caught:
            sandbox.call("same", document)
        error = caught.value
        assert error.offset == offset
        assert str(error).startswith("same.js: same(): the document is not JSON: ")
        assert str(error).endswith(f"(at byte {offset})")
    assert sandbox.call("same", [1]) == [1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\ufeff[1]".encode(), "begins with a byte order mark"),
        ("\ufeff[1]".encode("utf-16-le"), "is UTF-16"),
        ("\ufeff[1]".encode("utf-16-be"), "is UTF-16"),
        (b'\x1e{"type":"Feature"}\n', "begins with a record separator"),
        (gzip.compress(b"[1]", mtime=0), "is compressed by gzip"),
    ],
)
def test_what_a_document_is_instead(sandbox: px.Sandbox, text: bytes, reason: str) -> None:
    for document in (text, memoryview(text)):
        with pytest.raises(px.InvalidDocument, match=rf"the document is not JSON: it {reason}.* \(at byte 0\)$"):
            sandbox.call("same", document)


def test_a_refused_document_does_not_reach_the_function() -> None:
    seen: list[str] = []
    plugin = px.Plugin("function f(x) { console.log('called'); return x }")
    with px.Sandbox(plugin, on_console=lambda _level, text: seen.append(text)) as sandbox:
        with pytest.raises(px.InvalidDocument):
            sandbox.call("f", b"[1,")
        assert seen == []
        with pytest.raises(px.InvalidDocument):
            sandbox.call("missing", b"[1,")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40) | st.text('[]{},:"\\ 0123eE.-+truefalsnu\n', max_size=20).map(str.encode))
def test_any_bytes_are_json_or_refused(sandbox: px.Sandbox, text: bytes) -> None:
    try:
        sandbox.call_bytes("same", text)
    except px.InvalidDocument as error:
        assert error.offset is not None
        assert 0 <= error.offset <= len(text)
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(text)
