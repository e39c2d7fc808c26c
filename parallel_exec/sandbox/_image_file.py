"""The file format of images of both kinds of plugin: a header, and the bytes that are not zero.

All integers are little-endian: magic (8 bytes), format version (u32), length of the header (u32), SHA-256 of everything
after it (32 bytes), the header (JSON, spaces up to a multiple of 64), and the content's parts one after another.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from parallel_exec.errors import PluginError

FORMAT_VERSION = 1
_HEAD = struct.Struct("<8s2I32s")
_ALIGN = 64

Runs = Sequence[tuple[int, memoryview]]
"""Ascending, disjoint parts of linear memory: address and bytes."""


def dump(magic: bytes, header: dict[str, Any], parts: Iterable[bytes | memoryview]) -> bytes:
    """Return the bytes of an image's file."""
    text = orjson.dumps(header)
    text += b" " * (-(_HEAD.size + len(text)) % _ALIGN)
    body = b"".join((text, *parts))
    return _HEAD.pack(magic, FORMAT_VERSION, len(text), hashlib.sha256(body).digest()) + body


def load(magic: bytes, buffer: Any) -> tuple[object, memoryview]:
    """Return header and content of an image's file.

    Raises:
        PluginError: it is not an image, has another format version, is damaged or cut short.
    """
    view = memoryview(buffer).cast("B").toreadonly()
    if len(view) < _HEAD.size or view[:8] != magic:
        raise PluginError(f"not a memory image: it does not begin with {magic.decode()}")
    _magic, version, header_size, digest = _HEAD.unpack_from(view)
    if version != FORMAT_VERSION:
        raise PluginError(f"a memory image of format version {version}; this release reads version {FORMAT_VERSION}")
    body = view[_HEAD.size :]
    if header_size > len(body) or hashlib.sha256(body).digest() != digest:
        raise PluginError("the memory image is damaged or cut short: its checksum does not match; capture it again")
    try:
        header = orjson.loads(bytes(body[:header_size]))
    except orjson.JSONDecodeError:
        header = None
    return header, body[header_size:]


def cut(lengths: Sequence[Any], content: memoryview, memory_size: int) -> Runs:
    """Return the runs that make up the content, one after another.

    Args:
        lengths: address and length of each.
        content: their bytes.
        memory_size: bytes of linear memory, in which all must lie.

    Raises:
        PluginError: they do not fit.
    """
    # The checksum is not a signature: an image that somebody else made must not reach beyond linear memory either.
    runs = []
    position, end = 0, 0
    for run in lengths:
        match run:
            case [int(address), int(length)] if end <= address and 0 < length <= len(content) - position:
                runs.append((address, content[position : position + length]))
                position, end = position + length, address + length
            case _:
                raise PluginError(f"the memory image has an impossible run: {run}")
    # The checksum does not cover the header's size, but with a wrong one the runs would not end where the content does.
    if position != len(content) or end > memory_size:
        raise PluginError(f"the memory image's runs do not fit its memory of {memory_size} bytes")
    return tuple(runs)


RUN_PAGE = 4096
_ZERO_PAGE = bytes(RUN_PAGE)


def changed(memory: bytes, before: bytes = b"") -> Runs:
    """Return the pages of a memory that have changed, neighbours together; without `before`, those that are not all
    zero.
    """
    runs: list[tuple[int, int]] = []
    for start in range(0, len(memory), RUN_PAGE):
        if memory[start : start + RUN_PAGE] == (before[start : start + RUN_PAGE] or _ZERO_PAGE):
            continue
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], start + RUN_PAGE)
        else:
            runs.append((start, start + RUN_PAGE))
    return tuple((start, memoryview(memory[start:end])) for start, end in runs)  # no views: they would keep all of it
