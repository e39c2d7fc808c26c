"""A memory image as the data segments of a module.

    runs of the image -> pieces without long zeros -> segments -> body of the data section

Python neither visits single bytes nor copies any: a regular expression finds the zeros, and segments are slices of the
runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from parallel_exec.sandbox._binary.format import BakeError, Buffer, Parts, Section, i32_expression, unsigned

MAX_SEGMENTS: Final = 100_000  # what wasmtime, V8 and the others accept
# Flags, i32.const, an address of four bytes, end, and a length of two: fewer zeros than this cost less than a segment.
SEGMENT_OVERHEAD: Final = 9

_ZEROS: Final = re.compile(bytes(SEGMENT_OVERHEAD) + b"\0*")
# Flags of a segment; the last one names its memory.
_ACTIVE: Final = 0
_PASSIVE: Final = 1
_ACTIVE_IN: Final = 2
_EMPTY_SEGMENT: Final = b"\x00\x41\x00\x0b\x00"


def data_section(
    section: Section | None, runs: Iterable[tuple[int, Buffer]], memory_size: int, *, keep_passive: bool
) -> tuple[int, Parts]:
    """Return the number of segments, and the body of a data section that writes the runs into a memory of zeros.

    Args:
        section: the module's data section as it is, if there is one.
        runs: address and bytes of what is not zero, in any order.
        memory_size: bytes of memory, which bounds the runs.
        keep_passive: the module has a data count section, without which code cannot name segments (memory.init,
            data.drop). Then passive segments stay where they are. An active one, which is gone once the module is
            instantiated, gives its place to one of ours or to an empty one.

    Raises:
        BakeError: a run lies outside the memory, runs overlap, or the section is malformed.
    """
    originals = _originals(section)
    if not keep_passive:
        originals = []
    ours = _segments(list(_pieces(runs, memory_size)), MAX_SEGMENTS - len(originals))
    parts: Parts = []
    count = 0
    for segment in originals:
        parts += [segment] if segment is not None else next(ours, [_EMPTY_SEGMENT])
        count += 1
    for active in ours:
        parts += active
        count += 1
    return count, [unsigned(count), *parts]


def _originals(section: Section | None) -> list[memoryview | None]:
    """The module's segments, None for each active one."""
    segments: list[memoryview | None] = []
    if section is None:
        return segments
    reader = section.reader()
    for _ in range(reader.unsigned()):
        start, offset = reader.position, reader.offset
        flags = reader.unsigned()
        if flags not in (_ACTIVE, _PASSIVE, _ACTIVE_IN):
            raise BakeError(f"unknown flags 0x{flags:02x} of the data segment at offset {offset}")
        if flags == _ACTIVE_IN:
            reader.unsigned()
        if flags != _PASSIVE:
            reader.skip_expression()
        reader.raw(reader.unsigned())
        segments.append(reader.since(start) if flags == _PASSIVE else None)
    reader.finish("the data section")
    return segments


def _segments(pieces: list[tuple[int, memoryview]], budget: int) -> Iterator[Parts]:
    """The pieces as at most `budget` active segments, each as header and pieces, with the zeros between them."""
    if not pieces:
        return
    gaps = [second - first - len(piece) for (first, piece), (second, _) in pairwise(pieces)]
    joined = SEGMENT_OVERHEAD - 1  # gaps up to this are written as zeros
    excess = len(pieces) - budget
    if excess > 0:
        if budget < 1:
            raise BakeError(f"the module's own data segments leave no room for the image: {MAX_SEGMENTS} is the limit")
        joined = max(joined, sorted(gaps)[excess - 1])
    gaps.append(joined + 1)
    address, size = 0, 0
    content: Parts = []
    for (start, piece), gap in zip(pieces, gaps, strict=True):
        if not content:
            address, size = start, 0
        content.append(piece)
        size += len(piece)
        if gap <= joined:
            content.append(bytes(gap))
            size += gap
        else:
            yield [b"\x00" + i32_expression(address) + unsigned(size), *content]
            content = []


def _pieces(runs: Iterable[tuple[int, Buffer]], memory_size: int) -> Iterator[tuple[int, memoryview]]:
    """Ascending addresses and bytes, cut where there are as many zeros as a new segment costs."""
    end = 0
    for address, run in sorted(((address, memoryview(run).cast("B")) for address, run in runs), key=lambda run: run[0]):
        if address < 0 or address + len(run) > memory_size:
            raise BakeError(f"the run of {len(run)} bytes at {address} is outside the memory of {memory_size} bytes")
        if address < end:
            raise BakeError(f"the run at {address} overlaps the one that ends at {end}")
        end = address + len(run)
        start = 0
        for zeros in _ZEROS.finditer(run):
            if zeros.start() > start:
                yield address + start, run[start : zeros.start()]
            start = zeros.end()
        if start < len(run):
            yield address + start, run[start:]
