"""MessagePack, in which WebAssembly modules are given Python values and give them back. The extra ``wasm`` brings the
package that it needs.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from .errors import InvalidDocument, PexecError, PluginError


def encode(document: Any) -> bytes | bytearray | memoryview:
    r"""Return the document in MessagePack: bytes-like objects as they are, as such text; any other value encoded.

    Raises:
        InvalidDocument: the value has no encoding. PexecError: it is one (see `documents.encode`).

    >>> encode({"key": [1, None, b"bytes within"]})
    b'\x81\xa3key\x93\x01\xc0\xc4\x0cbytes within'
    """
    if isinstance(document, bytes | bytearray):
        return document
    if isinstance(document, memoryview):
        return document.cast("B") if document.c_contiguous and document.nbytes else document.tobytes()
    return pack(document)


def pack(value: Any) -> bytes:
    """Return any value, bytes included, in MessagePack.

    Raises:
        As `encode`.
    """
    codec = _codec()
    try:
        packed: bytes = codec.packb(value, option=codec.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(value, PexecError):
            raise value from None
        raise InvalidDocument(f"the document has no MessagePack encoding: {error}") from None
    return packed


def decode(content: bytes | bytearray | memoryview) -> Any:
    r"""Return the value of a result in MessagePack; of no bytes at all it is None.

    Raises:
        PluginError: it is none.

    >>> decode(b"\x81\xa5valid\xc3")
    {'valid': True}
    """
    if not content:
        return None
    codec = _codec()
    try:
        try:
            return codec.unpackb(content)
        except ValueError:  # perhaps a key that is no text
            check_keys(content)
            return codec.unpackb(content, option=codec.OPT_NON_STR_KEYS)
    except (ValueError, TypeError, RecursionError) as error:
        raise PluginError(
            f"the result is not MessagePack ({error}); take it as it is with output='bytes' or input='binary'"
        ) from None


# How many bytes a value of each first byte takes; for what says its length itself, minus the bytes that it does so in.
_SIZES: Final = (
    *[1] * 160,  # integers; the headers of small maps and arrays
    *range(1, 33),  # text
    *(1, 1, 1, 1, -1, -2, -4, -1, -2, -4, 5, 9, 2, 3, 5, 9, 2, 3, 5, 9, 3, 4, 6, 10, 18, -1, -2, -4, 3, 5, 3, 5),
    *[1] * 32,  # negative integers
)


def check_keys(content: bytes | bytearray | memoryview) -> None:
    r"""Raise a ValueError if a map has an array or a map for a key.

    An array would be a tuple, and who chooses tuples of integers can give all of them one hash: a dict of 20,000 takes
    4 s, one of a million hours, in which nothing else runs and nothing ends it.

    >>> check_keys(b"\x81\x92\1\2\3")
    Traceback (most recent call last):
    ...
    ValueError: an array or a map is the key of a map
    """
    position, end = 0, len(content)
    left, is_map = 1, False  # values that the innermost array or map still has, keys included
    outer: list[tuple[int, bool]] = []
    while position < end:
        while not left:
            if not outer:
                return
            left, is_map = outer.pop()
        first, key = content[position], is_map and not left & 1
        left -= 1
        size = _SIZES[first]
        if size < 0:
            length = 1 - size
            size = length + int.from_bytes(content[position + 1 : position + length], "big") + (0xC7 <= first <= 0xC9)
        elif 0x80 <= first <= 0x9F or 0xDC <= first <= 0xDF:
            if key:
                raise ValueError("an array or a map is the key of a map")
            outer.append((left, is_map))
            is_map = first < 0x90 or first >= 0xDE
            left = first & 15 if size == 1 else int.from_bytes(content[position + 1 : position + size], "big")
            left *= 1 + is_map
        position += size


def _codec() -> ModuleType:
    try:
        import ormsgpack
    except ImportError:
        raise PexecError(
            "MessagePack needs the package ormsgpack: pip install 'parallel_exec[wasm]' (or use input='binary')"
        ) from None
    return ormsgpack
