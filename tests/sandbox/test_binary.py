"""Documents and results that are typed arrays: what the plugin sees and what comes back, also through a pool."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import parallel_exec as px

PLUGIN = px.Plugin(
    """
    const describe = v => [v.constructor.name, v.length, v.byteOffset, v.buffer.byteLength];
    const same = v => v;
    const buffer = v => v.buffer;
    const view = v => v.subarray(1, 3);
    const dataView = v => new DataView(v.buffer);
    const text = v => ({text: String.fromCharCode(...v)});
    const fill = v => { v.fill(7); return v; };
    const detached = v => { v.buffer.transfer(); return v; };
    const grown = v => { const b = v.buffer.transfer(64); return new Uint8Array(b); };
    const inside = v => ({array: v});
    const make = n => new Float64Array(n).fill(1.5);
    """,
    name="binary.js",
)

TYPES = [
    ("int8", "Int8Array"),
    ("uint8", "Uint8Array"),
    ("int16", "Int16Array"),
    ("uint16", "Uint16Array"),
    ("int32", "Int32Array"),
    ("uint32", "Uint32Array"),
    ("int64", "BigInt64Array"),
    ("uint64", "BigUint64Array"),
    ("float16", "Float16Array"),
    ("float32", "Float32Array"),
    ("float64", "Float64Array"),
]


def function(name: str, output: str = "value") -> px.PluginFunction:
    return PLUGIN.function(name, input="binary", output=output)  # type: ignore[arg-type]


@pytest.mark.parametrize(("dtype", "name"), TYPES)
def test_numpy_arrays_are_typed_arrays_both_ways(dtype: str, name: str) -> None:
    numbers = np.arange(5, dtype=dtype)
    assert function("describe")(numbers) == [name, 5, 0, numbers.nbytes]
    result = function("same", "numpy")(numbers)
    assert result.dtype == numbers.dtype
    assert result.tolist() == numbers.tolist()


@pytest.mark.parametrize(
    "document", [b"abc", bytearray(b"abc"), memoryview(b"abc"), memoryview(b"xabcx")[1:4], array("B", b"abc")]
)
def test_bytes_are_a_uint8array(document: object) -> None:
    assert function("describe")(document) == ["Uint8Array", 3, 0, 3]
    assert function("text")(document) == {"text": "abc"}
    assert function("same")(document) == b"abc"


def test_elements_come_in_c_order_whatever_the_array_is() -> None:
    grid = np.arange(12.0).reshape(3, 4)
    for document in (grid, grid.T, grid[::2], grid[:, 1:3], np.asfortranarray(grid)):
        assert function("same", "numpy")(document).tolist() == document.ravel().tolist()


def test_empty_arrays() -> None:
    assert function("describe")(b"") == ["Uint8Array", 0, 0, 0]
    assert function("same")(np.zeros(0)) == b""


@given(st.binary(max_size=300))
def test_any_bytes_come_back_as_they_are(content: bytes) -> None:
    assert function("same")(content) == content
    assert function("buffer", "bytes")(content) == content


def test_views_and_buffers() -> None:
    assert function("view")(b"abcd") == b"bc"
    assert function("buffer")(array("H", [1, 2])) == array("H", [1, 2]).tobytes()
    assert function("grown")(b"abc") == b"abc" + bytes(61)


def test_a_detached_array_has_no_bytes() -> None:
    assert function("detached")(b"abc") == b""


def test_the_document_itself_is_not_changed_and_no_job_sees_another() -> None:
    document = bytearray(b"abcd")
    fill, same = function("fill"), function("same")
    assert fill(document) == b"\x07\x07\x07\x07"
    assert same(document) == b"abcd"


def test_inside_an_object_a_typed_array_is_json() -> None:
    assert function("inside")(b"ab") == {"array": {"0": 97, "1": 98}}
    assert function("dataView")(b"ab") == {}


def test_json_in_and_numbers_out() -> None:
    made = PLUGIN.function("make", output="numpy")(3)
    assert made.tolist() == [1.5, 1.5, 1.5]
    assert PLUGIN.function("make")(1) == np.array([1.5]).tobytes()


def test_what_is_no_buffer_is_refused_with_its_type() -> None:
    with pytest.raises(px.InvalidDocument, match=r"binary\.js: same\(\): .*not dict"):
        function("same")({"a": 1})
    with pytest.raises(px.InvalidDocument, match="Zd"):
        function("same")(np.ones(2, dtype=complex))


def test_numpy_output_needs_an_array() -> None:
    with pytest.raises(px.PluginError, match="returned JSON"):
        function("text", "numpy")(b"a")


def test_limits_count_bytes() -> None:
    with px.Sandbox(PLUGIN, limits=px.Limits(document_bytes=16, output_bytes=15)) as sandbox:
        with pytest.raises(px.InvalidDocument, match="24 bytes"):
            sandbox.call("same", np.ones(3), input="binary")
        with pytest.raises(px.OutputTooLarge, match="16 bytes"):
            sandbox.call("same", np.ones(2), input="binary")
        assert sandbox.call("view", b"abcd", input="binary") == b"bc"


def test_through_a_pool() -> None:
    with px.Pool(1) as pool:
        result = pool.submit(function("same", "numpy"), np.arange(3.0)).result()
        assert result.tolist() == [0.0, 1.0, 2.0]
        assert list(pool.map(function("same"), [b"a", b"", b"bc"])) == [b"a", b"", b"bc"]
        large = np.arange(1_000_000.0)
        assert (pool.submit(function("same", "numpy"), large).result() == large).all()
