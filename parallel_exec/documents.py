"""Documents on their way in and results on their way out: JSON text as bytes, or Python values through orjson."""

from __future__ import annotations

from typing import Any

import orjson

from .errors import InvalidDocument


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
        return document if document.c_contiguous and document.ndim == 1 else document.tobytes()
    try:
        return orjson.dumps(document)
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise InvalidDocument(f"the document has no JSON encoding: {error}") from None


def decode(text: bytes) -> Any:
    """Return the Python value of a job's JSON result.

    >>> decode(b'{"length": 3.5}')
    {'length': 3.5}
    """
    return orjson.loads(text)
