"""MessagePack, in which WebAssembly modules are given Python values and give them back. The extra ``wasm`` brings the
package that it needs.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

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
        return codec.unpackb(content, option=codec.OPT_NON_STR_KEYS)
    except (ValueError, TypeError, RecursionError) as error:
        raise PluginError(
            f"the result is not MessagePack ({error}); take it as it is with output='bytes' or input='binary'"
        ) from None


def _codec() -> ModuleType:
    try:
        import ormsgpack
    except ImportError:
        raise PexecError(
            "MessagePack needs the package ormsgpack: pip install 'parallel_exec[wasm]' (or use input='binary')"
        ) from None
    return ormsgpack
