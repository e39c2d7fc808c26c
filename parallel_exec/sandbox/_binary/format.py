"""Reading and writing the WebAssembly binary format: LEB128 numbers, sections, types, constant expressions.

Only as much as `bake` and `_wasm.prepare` need. A module is read as slices of one buffer, never copied; a `Reader`
knows where in the module it is, so that an error can name the offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

WASM_MAGIC: Final = b"\0asm"
CORE_VERSION: Final = b"\x01\0\0\0"
COMPONENT: Final = b"\x0d\0\x01\0"
WASM_PAGE: Final = 65_536  # bytes

Buffer = bytes | bytearray | memoryview
Parts = list[bytes | memoryview]  # output, joined once at the end


class BakeError(ValueError):
    """A module or memory image that cannot be baked or prepared: malformed, truncated, or not supported."""


class SectionId(IntEnum):
    CUSTOM = 0
    TYPE = 1
    IMPORT = 2
    FUNCTION = 3
    TABLE = 4
    MEMORY = 5
    GLOBAL = 6
    EXPORT = 7
    START = 8
    ELEMENT = 9
    CODE = 10
    DATA = 11
    DATA_COUNT = 12
    TAG = 13


class ExternalKind(IntEnum):
    """What an import or an export is."""

    FUNCTION = 0
    TABLE = 1
    MEMORY = 2
    GLOBAL = 3
    TAG = 4


# The order in which a module must hold its sections is not that of their ids: two were added later, in between.
SECTION_ORDER: Final = (
    SectionId.TYPE,
    SectionId.IMPORT,
    SectionId.FUNCTION,
    SectionId.TABLE,
    SectionId.MEMORY,
    SectionId.TAG,
    SectionId.GLOBAL,
    SectionId.EXPORT,
    SectionId.START,
    SectionId.ELEMENT,
    SectionId.DATA_COUNT,
    SectionId.CODE,
    SectionId.DATA,
)
_ORDER: Final = {section: rank for rank, section in enumerate(SECTION_ORDER)}

# Of a byte of LEB128.
_LOW_BITS: Final = 0x7F
_SIGN_BIT: Final = 0x40
_MORE: Final = 0x80

I32: Final = 0x7F
_I32_CONST: Final = 0x41
_F32_CONST: Final = 0x43
_V128_CONST: Final = 0x0C  # after 0xFD
_SUMS: Final = (0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E)  # add, sub, mul of i32 and i64
_REFERENCES: Final = (0x63, 0x64)  # (ref null heap-type), (ref heap-type): a heap type follows
FUNCTION_TYPE: Final = 0x60
_PLAIN_TYPES: Final = frozenset(range(0x69, 0x75)) | frozenset(range(0x7B, 0x80))  # abstract references; numbers, v128


def unsigned(value: int) -> bytes:
    """Return a number of zero or more as unsigned LEB128, in as few bytes as possible.

    >>> unsigned(624485).hex()
    'e58e26'
    """
    encoded = bytearray()
    while value > _LOW_BITS:
        encoded.append(value & _LOW_BITS | _MORE)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def signed(value: int) -> bytes:
    """Return a number as signed LEB128, in as few bytes as possible.

    >>> signed(-123456).hex()
    'c0bb78'
    """
    encoded = bytearray()
    while not -_SIGN_BIT <= value < _SIGN_BIT:
        encoded.append(value & _LOW_BITS | _MORE)
        value >>= 7
    encoded.append(value & _LOW_BITS)
    return bytes(encoded)


def i32_expression(value: int) -> bytes:
    """Return the constant expression for an i32, given as a signed or an unsigned number.

    >>> i32_expression(0xFFFFFFFF) == i32_expression(-1) == bytes.fromhex("417f0b")
    True
    """
    return b"\x41" + signed(value - (1 << 32) if value >= 1 << 31 else value) + b"\x0b"


class Reader:
    """Reads a stretch of a module from its beginning; base is the offset of the stretch in the module.

    Every method raises BakeError where the stretch ends early or holds what it must not.
    """

    __slots__ = ("_base", "_position", "_view")

    def __init__(self, view: memoryview, base: int = 0) -> None:
        self._view = view
        self._base = base
        self._position = 0

    @property
    def position(self) -> int:
        """How many bytes of the stretch have been read."""
        return self._position

    @property
    def offset(self) -> int:
        """Where the next byte is in the module."""
        return self._base + self._position

    @property
    def at_end(self) -> bool:
        return self._position == len(self._view)

    def since(self, position: int) -> memoryview:
        """The bytes read since an earlier `position`."""
        return self._view[position : self._position]

    def byte(self) -> int:
        if self.at_end:
            raise BakeError(f"unexpected end at offset {self.offset}")
        value = self._view[self._position]
        self._position += 1
        return value

    def raw(self, count: int) -> memoryview:
        left = len(self._view) - self._position
        if count > left:
            raise BakeError(f"unexpected end: {count} bytes announced at offset {self.offset}, {left} there")
        self._position += count
        return self._view[self._position - count : self._position]

    def unsigned(self, bits: int = 32) -> int:
        """An unsigned LEB128 number of at most that many bits."""
        start = self.offset
        value, _, _ = self._leb128(bits)
        if value >> bits:
            raise BakeError(f"number over {bits} bits at offset {start}")
        return value

    def signed(self, bits: int = 32) -> int:
        """A signed LEB128 number of at most that many bits."""
        start = self.offset
        value, length, last = self._leb128(bits)
        if last & _SIGN_BIT:
            value -= 1 << length
        if not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise BakeError(f"number over {bits} bits at offset {start}")
        return value

    def _leb128(self, bits: int) -> tuple[int, int, int]:
        """The bits of a number, how many they are (7 for each byte), and its last byte."""
        start, value, length = self.offset, 0, 0
        while True:
            byte = self.byte()
            value |= (byte & _LOW_BITS) << length
            length += 7
            if not byte & _MORE:
                return value, length, byte
            if length >= bits:
                raise BakeError(f"number longer than {bits} bits at offset {start}")

    def name(self) -> str:
        start = self.offset
        try:
            return str(self.raw(self.unsigned()), "utf-8")
        except UnicodeDecodeError as error:
            raise BakeError(f"name at offset {start} is not UTF-8") from error

    def skip_heap_type(self) -> None:
        self.signed(33)

    def value_type(self) -> int:
        """The first byte of a value type; what follows it is skipped."""
        start, kind = self.offset, self.byte()
        if kind in _REFERENCES:
            self.skip_heap_type()
        elif kind not in _PLAIN_TYPES:
            raise BakeError(f"unknown value type 0x{kind:02x} at offset {start}")
        return kind

    def external_kind(self) -> ExternalKind:
        """Read what an import or an export is."""
        start, number = self.offset, self.byte()
        try:
            return ExternalKind(number)
        except ValueError:
            raise BakeError(f"unknown kind {number} of import or export at offset {start}") from None

    def limits(self) -> tuple[int, int, int | None]:
        """Flags, minimum and maximum of a table or a memory."""
        flags = self.byte()
        bits = 64 if flags & 4 else 32
        return flags, self.unsigned(bits), self.unsigned(bits) if flags & 1 else None

    def skip_expression(self) -> None:
        """A constant expression, its end included."""
        while True:
            start, opcode = self.offset, self.byte()
            match opcode:
                case 0x0B:  # end
                    return
                case 0x41 | 0x42:  # i32.const, i64.const
                    self.signed(32 if opcode == _I32_CONST else 64)
                case 0x43 | 0x44:  # f32.const, f64.const
                    self.raw(4 if opcode == _F32_CONST else 8)
                case 0x23 | 0xD2:  # global.get, ref.func
                    self.unsigned()
                case 0xD0:  # ref.null
                    self.skip_heap_type()
                case 0xFD if self.unsigned() == _V128_CONST:
                    self.raw(16)
                case _ if opcode not in _SUMS:
                    raise BakeError(f"unsupported opcode 0x{opcode:02x} in a constant expression at offset {start}")

    def finish(self, what: str) -> None:
        """Raise a BakeError if bytes are left over."""
        if not self.at_end:
            raise BakeError(f"{len(self._view) - self._position} bytes too many in {what} at offset {self.offset}")


@dataclass(frozen=True, slots=True)
class Section:
    """A section: its body, and the body's offset in the module."""

    id: SectionId
    body: memoryview
    offset: int

    def reader(self) -> Reader:
        return Reader(self.body, self.offset)


def read_sections(module: Buffer) -> list[Section]:
    """Return the sections of a core module in their order.

    Raises:
        BakeError: a section is cut short, unknown, or out of order.
    """
    reader = Reader(memoryview(module).cast("B"))
    if bytes(reader.raw(4)) != WASM_MAGIC:
        raise BakeError("not a WebAssembly module: it does not start with \\0asm")
    version = bytes(reader.raw(4))
    if version == COMPONENT:
        raise BakeError("a WebAssembly component, not a core module")
    if version != CORE_VERSION:
        raise BakeError(f"WebAssembly version {version.hex()} at offset 4, not {CORE_VERSION.hex()}")
    sections: list[Section] = []
    rank = -1
    while not reader.at_end:
        start, number = reader.offset, reader.byte()
        try:
            kind = SectionId(number)
        except ValueError:
            raise BakeError(f"unknown section {number} at offset {start}") from None
        body = reader.raw(reader.unsigned())
        if kind is not SectionId.CUSTOM:
            if _ORDER[kind] <= rank:
                raise BakeError(f"{kind.name.lower()} section at offset {start} is out of order or repeated")
            rank = _ORDER[kind]
        sections.append(Section(kind, body, reader.offset - len(body)))
    return sections


def section_header(kind: SectionId, size: int) -> bytes:
    """Return what goes before a section's body of that many bytes."""
    return bytes((kind,)) + unsigned(size)


class Import(NamedTuple):
    """One import: its module and name, its kind, and of a function the index of its type, else 0."""

    module: str
    name: str
    kind: ExternalKind
    type: int


def read_imports(section: Section | None) -> list[Import]:
    """Return the imports of a module; none if it lacks the section."""
    if section is None:
        return []
    imports: list[Import] = []
    reader = section.reader()
    for _ in range(reader.unsigned()):
        module, name, kind, index = reader.name(), reader.name(), reader.external_kind(), 0
        match kind:
            case ExternalKind.FUNCTION:
                index = reader.unsigned()
            case ExternalKind.TABLE:
                reader.value_type()
                reader.limits()
            case ExternalKind.MEMORY:
                reader.limits()
            case ExternalKind.GLOBAL:
                reader.value_type()
                reader.byte()
            case ExternalKind.TAG:
                reader.byte()
                reader.unsigned()
        imports.append(Import(module, name, kind, index))
    reader.finish("the import section")
    return imports
