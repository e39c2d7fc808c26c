"""Finding, in a function's bytecode, the few instructions that matter for restoring an instance.

A regular expression skips the instructions that do not, so that a module of megabytes takes milliseconds. Where it
stops, one instruction is read step by step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from parallel_exec.sandbox._binary.format import BakeError, Reader

_MEMORY_GROW: Final = 0x40
# How many indexes follow: of memory.grow, memory.size, call, return_call, br, br_if, table.get and ref.func one; of
# call_indirect and return_call_indirect two.
_WITH_INDEXES: Final = dict.fromkeys((0x40, 0x3F, 0x10, 0x12, 0x0C, 0x0D, 0x25, 0xD2), 1) | {0x11: 2, 0x13: 2}
_MISC_PREFIX: Final = 0xFC
_VECTOR_PREFIX: Final = 0xFD
_LONG_REFERENCES: Final = (0x63 - 0x80, 0x64 - 0x80)  # (ref null heap-type), (ref heap-type): a heap type follows

_LOADS_AND_STORES: Final = range(0x28, 0x3F)
_HAS_MEMORY_INDEX: Final = 0x40  # in the flags of a load or store

# Of the prefix 0xFC.
_TRUNCATIONS: Final = range(8)
_WIDE_ARITHMETIC: Final = range(19, 23)

# Of the prefix 0xFD, vectors.
_VECTOR_LOADS_AND_STORES: Final = (*range(12), *range(84, 94))
_VECTOR_LANE_MEMORY: Final = range(84, 92)
_VECTOR_CONST_AND_SHUFFLE: Final = (12, 13)
_VECTOR_LANES: Final = range(21, 34)
_VECTOR_OPCODES: Final = range(276)

# Instructions of the prefix 0xFC that change what is neither memory nor a global: tables, and which segments are left.
_STATEFUL: Final = {
    8: "memory.init",
    9: "data.drop",
    12: "table.init",
    13: "elem.drop",
    14: "table.copy",
    15: "table.grow",
    17: "table.fill",
}

_LEB = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
# Instructions without immediates; blocks, unless of a reference type in its long form; with one LEB128 number; a load
# or store; constants; memory.copy and memory.fill, the conversions and products of the prefix 0xFC; and those of 0xFD
# (vectors) that have none.
_PLAIN = re.compile(
    rb"(?:[\x00\x01\x05\x0b\x0f\x1a\x1b\x45-\xc4\xd1]"
    rb"|[\x02-\x04][\x00-\x62\x65-\x7f]"
    rb"|[\x0c\x0d\x10\x12\x20-\x24\x3f\x41\x42\xd2]" + _LEB + rb"|[\x28-\x3e][\x00-\x3f]" + _LEB + rb"|\x11"
    rb"[\x00-\x7f]" + _LEB + rb"|\x43.{4}|\x44.{8}"
    rb"|\xfc(?:[\x00-\x07\x13-\x16]|\x0a\x00\x00|\x0b\x00)"
    rb"|\xfd(?:[\x00-\x0b\x5c\x5d][\x00-\x3f]" + _LEB + rb"|[\x0c\x0d].{16}|[\x0e-\x14\x22-\x53\x5e-\x7f]"
    rb"|[\x15-\x21].|[\x80-\xff]\x01)"
    rb"){1,4096}+",
    re.DOTALL,
)


def growths(body: memoryview, offset: int) -> Iterator[tuple[int, int]]:
    """Yield where in a function's body each ``memory.grow`` begins and ends.

    Args:
        body: the function's locals and code.
        offset: of the body in its module, for messages.

    Raises:
        BakeError: the code has an instruction that changes state that an image does not hold, or that is not known.

    >>> list(growths(memoryview(bytes.fromhex("00" "4101" "4000" "1a" "0b")), 0))
    [(3, 5)]
    """
    reader = Reader(body, offset)
    for _ in range(reader.unsigned()):
        reader.unsigned()
        reader.value_type()
    position, end = reader.position, len(body)
    while position < end:
        plain = _PLAIN.match(body, position)
        if plain is not None:
            position = plain.end()
            continue
        reader = Reader(body[position:], offset + position)
        opcode, start = _skip(reader), position
        position += reader.position
        if opcode == _MEMORY_GROW:
            yield start, position


def _skip(reader: Reader) -> int:
    """Read one instruction and return its opcode."""
    start, opcode = reader.offset, reader.byte()
    if opcode in _LOADS_AND_STORES:
        _skip_address(reader)
    elif opcode in _WITH_INDEXES:
        for _ in range(_WITH_INDEXES[opcode]):
            reader.unsigned()
    elif opcode == _MISC_PREFIX:
        _skip_prefixed(reader, start)
    elif opcode == _VECTOR_PREFIX:
        _skip_vector(reader, start)
    else:
        _skip_rare(reader, opcode, start)
    return opcode


def _skip_rare(reader: Reader, opcode: int, start: int) -> None:
    match opcode:
        case 0x02 | 0x03 | 0x04:  # block, loop, if
            if reader.signed(33) in _LONG_REFERENCES:
                reader.skip_heap_type()
        case 0xD0:  # ref.null
            reader.skip_heap_type()
        case 0x0E:  # br_table
            for _ in range(reader.unsigned() + 1):
                reader.unsigned()
        case 0x1C:  # select with types
            for _ in range(reader.unsigned()):
                reader.value_type()
        case 0x26:
            raise _stateful("table.set", start)
        case _:
            raise BakeError(f"the instruction 0x{opcode:02x} at offset {start} is not supported")


def _skip_address(reader: Reader) -> None:
    if reader.unsigned() & _HAS_MEMORY_INDEX:
        reader.unsigned()
    reader.unsigned(64)


def _skip_prefixed(reader: Reader, start: int) -> None:
    number = reader.unsigned()
    if number in _STATEFUL:
        raise _stateful(_STATEFUL[number], start)
    match number:
        case 10:  # memory.copy
            reader.unsigned()
            reader.unsigned()
        case 11 | 16:  # memory.fill, table.size
            reader.unsigned()
        case _ if number not in _TRUNCATIONS and number not in _WIDE_ARITHMETIC:
            raise BakeError(f"the instruction 0xfc {number} at offset {start} is not supported")


def _skip_vector(reader: Reader, start: int) -> None:
    number = reader.unsigned()
    if number in _VECTOR_LOADS_AND_STORES:
        _skip_address(reader)
        if number in _VECTOR_LANE_MEMORY:
            reader.byte()
    elif number in _VECTOR_CONST_AND_SHUFFLE:
        reader.raw(16)
    elif number in _VECTOR_LANES:
        reader.byte()
    elif number not in _VECTOR_OPCODES:
        raise BakeError(f"the instruction 0xfd {number} at offset {start} is not supported")


def _stateful(name: str, offset: int) -> BakeError:
    return BakeError(
        f"its code has {name} (at offset {offset}), which changes state other than linear memory and globals; that "
        "could not be restored after a job"
    )
