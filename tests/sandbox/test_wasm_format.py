"""LEB128 numbers, and what a reader refuses."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_exec.sandbox._binary.format import (
    BakeError,
    Reader,
    SectionId,
    i32_expression,
    read_sections,
    section_header,
    signed,
    unsigned,
)

HEAD = b"\0asm\x01\0\0\0"


def reader(data: bytes, base: int = 0) -> Reader:
    return Reader(memoryview(data), base)


@given(st.integers(0, 2**64 - 1))
def test_unsigned_round_trip(value: int) -> None:
    encoded = unsigned(value)
    stretch = reader(encoded + b"\xff")
    assert stretch.unsigned(64) == value
    assert stretch.position == len(encoded) == max(1, -(-value.bit_length() // 7))


@given(st.integers(-(2**63), 2**63 - 1))
def test_signed_round_trip(value: int) -> None:
    encoded = signed(value)
    stretch = reader(encoded + b"\xff")
    assert stretch.signed(64) == value
    magnitude = value if value >= 0 else ~value
    assert stretch.position == len(encoded) == magnitude.bit_length() // 7 + 1


@given(st.integers(0, 2**32 - 1), st.integers(0, 4))
def test_padded_numbers_are_read(value: int, padding: int) -> None:
    """Linkers pad numbers to five bytes so that they can be patched."""
    minimal = unsigned(value)
    padding = min(padding, 5 - len(minimal))
    padded = minimal
    if padding:
        padded = minimal[:-1] + bytes((minimal[-1] | 0x80,)) + b"\x80" * (padding - 1) + b"\x00"
    assert reader(padded).unsigned() == value


@given(st.binary(max_size=12), st.sampled_from((32, 33, 64)))
def test_any_bytes_are_a_number_in_range_or_refused(data: bytes, bits: int) -> None:
    with suppress(BakeError):
        assert 0 <= reader(data).unsigned(bits) < 1 << bits
    with suppress(BakeError):
        assert -(1 << bits - 1) <= reader(data).signed(bits) < 1 << bits - 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "unexpected end at offset 100"),
        (b"\x80\x80", "unexpected end at offset 102"),
        (b"\x80\x80\x80\x80\x80\x00", "number longer than 32 bits at offset 100"),
        (b"\xff\xff\xff\xff\x1f", "number over 32 bits at offset 100"),
    ],
)
def test_bad_numbers_name_their_offset(data: bytes, said: str) -> None:
    with pytest.raises(BakeError, match=said):
        reader(data, base=100).unsigned()
    with pytest.raises(BakeError, match=said):
        reader(data, base=100).signed()


@given(st.integers(-(2**31), 2**32 - 1))
def test_i32_expression_holds_the_bits(value: int) -> None:
    stretch = reader(i32_expression(value))
    assert stretch.byte() == 0x41
    assert stretch.signed() % 2**32 == value % 2**32
    assert stretch.byte() == 0x0B
    assert stretch.at_end


@pytest.mark.parametrize(
    "expression",
    [
        "41 e5 8e 26 0b",  # i32.const
        "42 c0 bb 78 0b",  # i64.const
        "43 00 00 80 3f 0b",  # f32.const
        "44 00 00 00 00 00 00 f0 3f 0b",  # f64.const
        "fd 0c" + "00" * 16 + "0b",  # v128.const
        "d0 70 0b",  # ref.null func
        "d2 05 0b",  # ref.func
        "23 00 41 08 6a 0b",  # global.get, i32.const, i32.add
    ],
)
def test_constant_expressions_are_skipped_to_their_end(expression: str) -> None:
    data = bytes.fromhex(expression)
    stretch = reader(data + b"\x99")
    stretch.skip_expression()
    assert stretch.position == len(data)
    for end in range(len(data)):
        with pytest.raises(BakeError, match="unexpected end"):
            reader(data[:end]).skip_expression()


def test_unknown_opcodes_and_types_are_named() -> None:
    with pytest.raises(BakeError, match="unsupported opcode 0x10 in a constant expression at offset 9"):
        reader(b"\x10\x00\x0b", base=9).skip_expression()
    with pytest.raises(BakeError, match="unsupported opcode 0xfd in a constant expression at offset 9"):
        reader(b"\xfd\x0b\x0b", base=9).skip_expression()
    with pytest.raises(BakeError, match="unknown value type 0x40 at offset 7"):
        reader(b"\x40", base=7).value_type()
    with pytest.raises(BakeError, match="name at offset 3 is not UTF-8"):
        reader(b"\x01\xff", base=3).name()
    assert reader(b"\x63\x70").value_type() == 0x63


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (b"", "unexpected end"),
        (b"\x7fELF\x01\0\0\0", "does not start with"),
        (b"\0asm\x0d\0\x01\0", "a WebAssembly component"),
        (b"\0asm\x02\0\0\0", "version 02000000 at offset 4"),
        (HEAD + b"\x63\x00", "unknown section 99 at offset 8"),
        (HEAD + b"\x05\x02\x00", "unexpected end: 2 bytes announced at offset 10, 1 there"),
        (HEAD + b"\x05\x00\x05\x00", "memory section at offset 10 is out of order or repeated"),
        (HEAD + b"\x07\x00\x05\x00", "memory section at offset 10 is out of order or repeated"),
    ],
)
def test_malformed_modules(module: bytes, said: str) -> None:
    with pytest.raises(BakeError, match=said):
        read_sections(module)


def test_sections_are_in_the_order_of_the_format_not_of_their_ids() -> None:
    kinds = [SectionId.MEMORY, SectionId.TAG, SectionId.GLOBAL, SectionId.DATA_COUNT, SectionId.CODE, SectionId.DATA]
    module = HEAD + b"".join(section_header(kind, 1) + b"\x00" for kind in kinds)
    assert [(section.id, section.offset) for section in read_sections(bytearray(module))] == [
        (kind, 10 + 3 * place) for place, kind in enumerate(kinds)
    ]
