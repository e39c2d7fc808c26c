"""Documents on their way in and results on their way out: encoded as bytes already, or Python values."""

from __future__ import annotations

import json
from typing import Any, Literal

import orjson

from parallel_exec._codec import arrays, message_pack
from parallel_exec._codec.arrays import Encoded
from parallel_exec.errors import InvalidDocument, OutputTooLarge, PexecError

Input = Literal["json", "msgpack", "binary"]
Output = Literal["value", "bytes", "numpy"]

_WHOLE_NUMBERS = range(-(1 << 63), 1 << 64)
_ABOVE_WHOLE_NUMBERS = 1e20


def encode(document: Any) -> Encoded:
    """Return the document as JSON text: bytes-like objects as they are, any other value encoded.

    Args:
        document: JSON text as ``bytes``, ``bytearray`` or ``memoryview``; or a Python value, ``str`` included.

    Raises:
        InvalidDocument: the value has no JSON encoding.
        PexecError: the document is itself an error, from the job that should have made it (``errors="return"``); the
            job on it fails with the same error.

    >>> encode({"type": "Point"}), encode("a string"), encode(b"[1, 2]")
    (b'{"type":"Point"}', b'"a string"', b'[1, 2]')
    """
    if isinstance(document, bytes | bytearray):
        return document
    if isinstance(document, memoryview):
        # Its users count and copy bytes; for any other view, len() and assignment count items.
        plain = document.format == "B" and document.ndim == 1 and document.c_contiguous
        return document if plain else document.tobytes()
    try:
        return orjson.dumps(document)
    except (orjson.JSONEncodeError, RecursionError) as error:
        if isinstance(document, PexecError):
            raise document from None
        raise InvalidDocument(f"the document has no JSON encoding: {error}") from None


def prepare(document: Any, input: Input) -> tuple[Encoded, int]:
    """Return the bytes that a job gets for a document, and their kind (`arrays`): JSON text, MessagePack or a typed
    array's elements.

    Raises:
        InvalidDocument: the document cannot be given in this way.
    """
    if input == "json":
        return encode(document), arrays.JSON
    return arrays.pack(document) if input == "binary" else (message_pack.encode(document), arrays.MESSAGE_PACK)


def decode(text: bytes) -> Any:
    """Return the Python value of a job's JSON result. Numbers are floats unless they are integers of 64 bits.

    Raises:
        OutputTooLarge: the result is nested too deeply for a Python value; it can be had as JSON text.

    >>> decode(b'{"length": 3.5}')
    {'length': 3.5}
    """
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, RecursionError):
        return _decode_rare(text)


def result_value(kind: int, content: bytes, output: Output) -> Any:
    """Return a job's result in the form that was asked for.

    Args:
        kind: what the content is (`arrays`): JSON text, MessagePack or a typed array's elements.
        content: the result's bytes.
        output: ``"value"``, ``"bytes"`` or ``"numpy"`` (see `Plugin.function`).

    Raises:
        PluginError: a NumPy array is asked for, and the result cannot be one; or it should be MessagePack, and is not.
        OutputTooLarge: the result is nested too deeply for a Python value.
    """
    if output == "numpy":
        return arrays.to_numpy(kind, content)
    if kind == arrays.MESSAGE_PACK:
        return message_pack.decode(content) if output == "value" else content
    return decode(content) if kind == arrays.JSON and output == "value" else content


def _decode_rare(text: bytes) -> Any:
    """Decode what JavaScript writes and orjson refuses: lone surrogates, numbers beyond a float, deep nesting."""
    try:
        return json.loads(text.decode(), parse_int=_number)
    except RecursionError:
        raise OutputTooLarge(
            "the result is nested too deeply for a Python value; take it as JSON text (output='bytes' or call_bytes)"
        ) from None
    except ValueError as error:
        raise PexecError(f"the engine's result is not JSON: {error}") from None


def _number(digits: str) -> int | float:
    """Convert as orjson does, so that a number's type does not depend on the values around it."""
    number = float(digits)
    if abs(number) < _ABOVE_WHOLE_NUMBERS and (whole := int(digits)) in _WHOLE_NUMBERS:
        return whole
    return number
