"""Documents and results that are bytes or arrays of numbers, not JSON: JavaScript's typed arrays on the sandbox's side,
any object with the buffer protocol on Python's. NumPy is used only where a NumPy array is asked for.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from parallel_exec.errors import InvalidDocument, PexecError, PluginError

if TYPE_CHECKING:
    import numpy as np

Encoded = bytes | bytearray | memoryview
"""A document's bytes."""

JSON = 0
"""The kind of a document or result that is JSON text; those from 1 on are a typed array's (guest/binary.inc.c)."""

MESSAGE_PACK = 255
"""The kind of one in MessagePack, which only WebAssembly modules take and give."""


class ArrayType(NamedTuple):
    """A typed array's JavaScript name, NumPy dtype, and bytes per element."""

    name: str
    dtype: str
    size: int


# In the order of the engine's JSTypedArrayEnum; kind 1 is the first. Linear memory is little-endian.
_TYPES = (
    ArrayType("Uint8ClampedArray", "u1", 1),
    ArrayType("Int8Array", "i1", 1),
    ArrayType("Uint8Array", "u1", 1),
    ArrayType("Int16Array", "<i2", 2),
    ArrayType("Uint16Array", "<u2", 2),
    ArrayType("Int32Array", "<i4", 4),
    ArrayType("Uint32Array", "<u4", 4),
    ArrayType("BigInt64Array", "<i8", 8),
    ArrayType("BigUint64Array", "<u8", 8),
    ArrayType("Float16Array", "<f2", 2),
    ArrayType("Float32Array", "<f4", 4),
    ArrayType("Float64Array", "<f8", 8),
)
BYTES = 3
"""The kind of bytes, a Uint8Array's."""

_KINDS = {kind.name: number for number, kind in enumerate(_TYPES, 1)}
_SIGNED = {1: "Int8Array", 2: "Int16Array", 4: "Int32Array", 8: "BigInt64Array"}
_UNSIGNED = {1: "Uint8Array", 2: "Uint16Array", 4: "Uint32Array", 8: "BigUint64Array"}
_FLOAT = {2: "Float16Array", 4: "Float32Array", 8: "Float64Array"}
# Format characters of the struct module, which the buffer protocol uses.
_NAMES = {"b": _SIGNED, "h": _SIGNED, "i": _SIGNED, "l": _SIGNED, "q": _SIGNED, "n": _SIGNED}
_NAMES |= {"B": _UNSIGNED, "H": _UNSIGNED, "I": _UNSIGNED, "L": _UNSIGNED, "Q": _UNSIGNED, "N": _UNSIGNED}
_NAMES |= {"c": _UNSIGNED, "?": _UNSIGNED, "e": _FLOAT, "f": _FLOAT, "d": _FLOAT}


def pack(document: Any) -> tuple[memoryview, int]:
    """Return the bytes of the document's elements and the kind of typed array that holds them. The bytes are copied
    only if the elements are not contiguous.

    Args:
        document: any object with the buffer protocol: ``bytes``, ``array.array``, a NumPy array of any shape (its
            elements in C order) ...; elements of 8, 16, 32 or 64 bits.

    Raises:
        InvalidDocument: it has no buffer, or elements that no typed array holds.

    >>> from array import array
    >>> content, kind = pack(array("d", [1.5, 2.5]))
    >>> type_of(kind).name, content.nbytes
    ('Float64Array', 16)
    """
    try:
        view = memoryview(document)
    except TypeError:
        what = type(document).__name__
        raise InvalidDocument(
            f"binary input takes an object with the buffer protocol (bytes, array ...), not {what}"
        ) from None
    code = view.format.lstrip("@=<" if sys.byteorder == "little" else "@=>!")
    name = _NAMES.get(code, {}).get(view.itemsize)
    if name is None:
        raise InvalidDocument(
            f"no typed array holds elements of the format {view.format!r} ({view.itemsize} bytes each)"
        )
    content = view.cast("B") if view.c_contiguous and view.nbytes else memoryview(view.tobytes())
    return content.toreadonly(), _KINDS[name]


def type_of(kind: int) -> ArrayType:
    """Return the typed array that a kind stands for.

    Raises:
        ValueError: the kind is not a typed array's.
    """
    if not 1 <= kind <= len(_TYPES):
        raise ValueError(f"{kind} is not a kind of typed array")
    return _TYPES[kind - 1]


def to_numpy(kind: int, content: bytes) -> np.ndarray[Any, Any]:
    """Return a result as a one-dimensional, read-only NumPy array over its bytes.

    Raises:
        PluginError: the result is JSON, not a typed array or an ArrayBuffer.
        PexecError: NumPy is not installed.
    """
    try:
        import numpy as np
    except ImportError:
        raise PexecError("output='numpy' needs the package numpy: pip install numpy (or use output='value')") from None

    if kind in (JSON, MESSAGE_PACK):
        returned = "JSON" if kind == JSON else "MessagePack (bytes are for input='binary')"
        raise PluginError(
            f"output='numpy' needs a function that returns a typed array or an ArrayBuffer; it returned {returned}"
        )
    return np.frombuffer(content, dtype=type_of(kind).dtype)
