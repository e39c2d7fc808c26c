"""MessagePack, in which WebAssembly modules are given Python values and give them back. The extra ``wasm`` brings the
package that it needs.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from parallel_exec.errors import InvalidDocument, OutputTooLarge, PexecError, PluginError

# What a result may be as Python values, of which arrays and maps are the large ones: 1 byte of MessagePack, 64 to 120
# of Python. So many values at least, and one for every four bytes: then they take no more than JSON's can, 30 times the
# text.
_MOST_VALUES: Final = 1 << 22
# Keys times the size of their map, for those that are numbers (`check`): some 2 s, and a map of 65,536.
_MOST_PROBES: Final = 1 << 32
_MOST_DEPTH: Final = 1024  # what ormsgpack decodes


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
        PluginError: it is none, or has keys that a dict cannot have, or not at little cost. OutputTooLarge: it has so
        many arrays or maps that as Python values they would take more than 30 times its bytes.

    >>> decode(b"\x81\xa5valid\xc3")
    {'valid': True}
    """
    if not content:
        return None
    codec = _codec()
    try:
        if len(content) > _MOST_VALUES and _headers(content) > _most_values(content):
            check(content)
        try:
            return codec.unpackb(content)
        except ValueError:  # perhaps a key that is no text
            check(content)
            return codec.unpackb(content, option=codec.OPT_NON_STR_KEYS)
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, OutputTooLarge):
            raise
        raise PluginError(
            f"the result is not MessagePack ({error}); take it as it is with output='bytes' or input='binary'"
        ) from None


_HEADERS: Final = bytes((*range(0x80, 0xA0), *range(0xDC, 0xE0)))  # first bytes of arrays and maps

# How many bytes a value of each first byte takes; for what says its length itself, minus the bytes that it does so in;
# nothing for arrays and maps.
_SIZES: Final = (
    *[1] * 128,  # integers
    *[0] * 32,
    *range(1, 33),  # text
    *(1, 1, 1, 1, -1, -2, -4, -1, -2, -4, 5, 9, 2, 3, 5, 9, 2, 3, 5, 9, 3, 4, 6, 10, 18, -1, -2, -4, 0, 0, 0, 0),
    *[1] * 32,  # negative integers
)
_TEXTS: Final = frozenset((*range(0xA0, 0xC0), *range(0xC4, 0xC7), *range(0xD9, 0xDC)))  # or bytes
_COUNTED: Final = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}  # the bytes in which these arrays and maps say their length


def _most_values(content: bytes | bytearray | memoryview) -> int:
    return max(_MOST_VALUES, len(content) // 4)


def _headers(content: bytes | bytearray | memoryview) -> int:
    """How many arrays and maps there can be at most: texts and numbers may have such bytes, too."""
    return len(content) - len(bytes(content).translate(None, _HEADERS))


def check(content: bytes | bytearray | memoryview) -> None:
    r"""Raise a ValueError if a map has an array or a map for a key, or too many keys that are numbers; an
    OutputTooLarge if there are too many values.

    An array would be a tuple, and who chooses tuples of integers can give all of them one hash: a dict of 20,000 takes
    4 s, one of a million hours, in which nothing else runs and nothing ends it. Numbers have hashes of their own, but
    who chooses them can have each of them meet all the others in the dict's table.

    >>> check(b"\x81\x92\1\2\3")
    Traceback (most recent call last):
    ...
    ValueError: an array or a map is the key of a map
    """
    position, end, most = 0, len(content), _most_values(content)
    left, map_size = 1, 0  # values that the innermost array or map still has, keys included; what a map has in all
    outer: list[tuple[int, int]] = []
    values = probes = 0
    while position < end:
        while not left:
            if not outer:
                return
            left, map_size = outer.pop()
        if values > most:
            raise OutputTooLarge(
                f"a result of more than {most} values in {end} bytes is too many for Python values; "
                "take it as it is with output='bytes'"
            )
        values += 1
        left -= 1
        first = content[position]
        size = _SIZES[first]
        if map_size and left & 1 and first not in _TEXTS:  # a key, for its value is left
            if not size:
                raise ValueError("an array or a map is the key of a map")
            probes += map_size
            if probes > _MOST_PROBES:
                raise ValueError("a map of so many keys must have texts for keys")
        if size > 0:
            position += size
        elif size:
            start = position + 1 - size
            position = start + int.from_bytes(content[position + 1 : start], "big") + (0xC7 <= first <= 0xC9)
        else:
            start = position + 1 + _COUNTED.get(first, 0)
            count = int.from_bytes(content[position + 1 : start], "big") if first > 0x9F else first & 15
            position = start
            if count:
                if len(outer) == _MOST_DEPTH:
                    raise ValueError("arrays and maps are nested too deeply")
                outer.append((left, map_size))
                is_map = first < 0x90 or first > 0xDD
                left, map_size = (2 * count, count) if is_map else (count, 0)


def _codec() -> ModuleType:
    try:
        import ormsgpack
    except ImportError:
        raise PexecError(
            "MessagePack needs the package ormsgpack: pip install 'parallel_exec[wasm]' (or use input='binary')"
        ) from None
    return ormsgpack
