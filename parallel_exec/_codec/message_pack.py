"""MessagePack, in which Python values go to WebAssembly modules and come back. The extra ``wasm`` installs the package
that it needs.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from parallel_exec._codec.arrays import Encoded
from parallel_exec.errors import InvalidDocument, OutputTooLarge, PexecError, PluginError

# The most values of a result that becomes Python values: this many, or one for every four bytes if that is more. Arrays
# and maps are the large ones: 1 byte of MessagePack, 64 to 120 of Python. With this bound a result takes no more than
# JSON's can: 30 times the text.
_MOST_VALUES: Final = 1 << 22
# For keys that are numbers, the number of keys times the size of their map (`check`): some 2 s, and a map of 65,536.
_MOST_PROBES: Final = 1 << 32
_MOST_DEPTH: Final = 1024  # what ormsgpack decodes


def encode(document: Any) -> Encoded:
    r"""Return the document in MessagePack: bytes-like objects as they are, since they already are MessagePack; any
    other value encoded.

    Raises:
        InvalidDocument: the value has no encoding.
        PexecError: the document is itself an error (see `documents.encode`).

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
        InvalidDocument: the value has no encoding.
        PexecError: the value is itself an error (see `documents.encode`).
    """
    codec = _codec()
    try:
        packed: bytes = codec.packb(value, option=codec.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(value, PexecError):
            raise value from None
        raise InvalidDocument(f"the document has no MessagePack encoding: {error}") from None
    return packed


def decode(content: Encoded) -> Any:
    r"""Return the value of a result in MessagePack; an empty result is None.

    Raises:
        PluginError: it is not MessagePack, or has keys that a dict cannot have, or only at great cost.
        OutputTooLarge: it has so many arrays or maps that as Python values they would take over 30 times its bytes.

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

# How many bytes a value takes, by its first byte. Negative: how many bytes give its length. 0: an array or a map.
_SIZES: Final = (
    *[1] * 128,  # integers
    *[0] * 32,
    *range(1, 33),  # text
    *(1, 1, 1, 1, -1, -2, -4, -1, -2, -4, 5, 9, 2, 3, 5, 9, 2, 3, 5, 9, 3, 4, 6, 10, 18, -1, -2, -4, 0, 0, 0, 0),
    *[1] * 32,  # negative integers
)
_TEXTS: Final = frozenset((*range(0xA0, 0xC0), *range(0xC4, 0xC7), *range(0xD9, 0xDC)))  # or bytes
_COUNTED: Final = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}  # how many bytes give the length of these arrays and maps
_MAPS: Final = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))
_EXTENSIONS: Final = frozenset((0xC7, 0xC8, 0xC9))  # whose type takes another byte


def _most_values(content: Encoded) -> int:
    return max(_MOST_VALUES, len(content) // 4)


def _headers(content: Encoded) -> int:
    """Return an upper bound on the number of arrays and maps: texts and numbers may have such bytes, too."""
    return len(content) - len(bytes(content).translate(None, _HEADERS))


def check(content: Encoded) -> None:
    r"""Raise a ValueError if an array or a map is a map's key, or if too many keys are numbers; an OutputTooLarge if
    there are too many values.

    An array would become a tuple, and an attacker can choose tuples of integers that all have the same hash: a dict of
    20,000 takes 4 s, one of a million takes hours, during which nothing else runs and nothing can stop it. Numbers have
    different hashes, but an attacker can choose them so that each collides with all others in the dict's table.

    >>> check(b"\x81\x92\1\2\3")
    Traceback (most recent call last):
    ...
    ValueError: an array or a map is the key of a map
    """
    position, end, most = 0, len(content), _most_values(content)
    left, map_size = 1, 0  # values left in the innermost array or map, keys included; a map's number of keys
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
        if map_size and left & 1 and first not in _TEXTS:  # a key: its value is left
            if not size:
                raise ValueError("an array or a map is the key of a map")
            probes += map_size
            if probes > _MOST_PROBES:
                raise ValueError("a map of so many keys must have texts for keys")
        if size > 0:
            position += size
        elif size:
            start = position + 1 - size
            position = start + int.from_bytes(content[position + 1 : start], "big") + (first in _EXTENSIONS)
        else:
            start = position + 1 + _COUNTED.get(first, 0)
            count = int.from_bytes(content[position + 1 : start], "big") if first in _COUNTED else first & 15
            position = start
            if count:
                if len(outer) == _MOST_DEPTH:
                    raise ValueError("arrays and maps are nested too deeply")
                outer.append((left, map_size))
                is_map = first in _MAPS
                left, map_size = (2 * count, count) if is_map else (count, 0)


def _codec() -> ModuleType:
    try:
        import ormsgpack
    except ImportError:
        raise PexecError(
            "MessagePack needs the package ormsgpack: pip install 'parallel_exec[wasm]' (or use input='binary')"
        ) from None
    return ormsgpack
