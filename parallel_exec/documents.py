"""Documents on their way in and results on their way out: JSON text as bytes, or Python values through orjson."""

from __future__ import annotations

import json
from typing import Any

import orjson

from .errors import InvalidDocument, OutputTooLarge, PexecError

_WHOLE_NUMBERS = range(-(1 << 63), 1 << 64)


def encode(document: Any) -> bytes | bytearray | memoryview:
    """Return the document as JSON text: bytes-like objects as they are, any other value encoded.

    Args:
        document: JSON text as ``bytes``, ``bytearray`` or ``memoryview``; or a Python value, ``str`` included.

    Raises:
        InvalidDocument: the value has no JSON encoding.

    >>> encode({"type": "Point"}), encode("a string"), encode(b"[1, 2]")
    (b'{"type":"Point"}', b'"a string"', b'[1, 2]')
    """
    if isinstance(document, bytes | bytearray):
        return document
    if isinstance(document, memoryview):
        # Whoever takes it counts and copies bytes; len() and assignment of any other view go by its items.
        plain = document.format == "B" and document.ndim == 1 and document.c_contiguous
        return document if plain else document.tobytes()
    try:
        return orjson.dumps(document)
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise InvalidDocument(f"the document has no JSON encoding: {error}") from None


def decode(text: bytes) -> Any:
    """Return the Python value of a job's JSON result. Numbers are floats where they are no integers of 64 bits.

    Raises:
        OutputTooLarge: the result is nested more deeply than Python can build; it is there as JSON text all the same.

    >>> decode(b'{"length": 3.5}')
    {'length': 3.5}
    """
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, RecursionError):
        return _decode_rare(text)


def _decode_rare(text: bytes) -> Any:
    """Decode what orjson refuses and JavaScript does not: lone surrogates, numbers beyond a float, deep nesting."""
    try:
        return json.loads(text.decode(), parse_int=_number)
    except RecursionError:
        raise OutputTooLarge(
            "the result is nested too deeply for a Python value; take it as JSON text (output='bytes' or call_bytes)"
        ) from None
    except ValueError as error:
        raise PexecError(f"the engine's result is not JSON: {error}") from None


def _number(digits: str) -> int | float:
    """Convert as orjson does, so that a number's type does not depend on what stands beside it."""
    number = float(digits)
    if abs(number) < 1e20 and (whole := int(digits)) in _WHOLE_NUMBERS:
        return whole
    return number
