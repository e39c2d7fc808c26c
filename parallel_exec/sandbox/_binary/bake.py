"""Bakes a memory image into a standalone WebAssembly module, which then starts where the image was captured.

What the Wizer tool does, for a module with one memory of its own:

- the memory's minimum becomes the image's size, and the image's non-zero bytes replace the data segments;
- exported mutable i32 globals get the image's values as initial values;
- the start section and the export `_initialize` go away, for what they do has been done;
- everything else, the code above all, is copied as it is, but for `.debug*` and linking sections, which would be wrong
  and large.

Memory and named globals are all that is carried over. State that an initialisation leaves in tables, in globals that
are not exported, or by `data.drop` and `elem.drop` is not; C code linked by wasm-ld has none of it, except that
`__stack_pointer` must be exported if the image was captured in the middle of a call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from parallel_exec.sandbox._binary.data import data_section
from parallel_exec.sandbox._binary.format import (
    I32,
    WASM_PAGE,
    BakeError,
    Buffer,
    ExternalKind,
    Parts,
    Section,
    SectionId,
    i32_expression,
    read_imports,
    read_sections,
    section_header,
    unsigned,
)

__all__ = ["BakeError", "BakeSource", "bake"]

MAX_PAGES: Final = 65_536
_STALE_SECTIONS: Final = (".debug", "reloc.", "linking")
_DATA_NAMES: Final = 9  # the subsection of the name section that names data segments


class BakeSource(Protocol):
    """What to bake: a `MemoryImage`, or anything like it."""

    @property
    def memory_size(self) -> int:
        """Bytes of linear memory, a multiple of 65,536."""

    @property
    def globals(self) -> Mapping[str, int]:
        """Values of mutable i32 globals by export name, signed or unsigned. Others keep their initial value."""

    @property
    def runs(self) -> Iterable[tuple[int, Buffer]]:
        """Address and bytes of what is not zero, in any order, disjoint."""


def bake(module: Buffer, image: BakeSource) -> bytes:
    """Return a module that starts with the image as its memory.

    Args:
        module: the core WebAssembly module from whose initialised instance the image was captured.
        image: what to bake.

    Raises:
        BakeError: the module is malformed or truncated (the message names the offset); its memory is missing,
            imported, shared, 64-bit or one of several; or the image does not fit the module.

    >>> from types import SimpleNamespace
    >>> module = bytes.fromhex("0061736d01000000" "0503010001")  # (module (memory 1))
    >>> image = SimpleNamespace(memory_size=131072, globals={}, runs=[(16, b"hi")])
    >>> bake(module, image).hex(" ", 8)
    '0061736d010000 0005030100020b08 010041100b026869'
    """
    sections = read_sections(module)
    bodies: dict[SectionId, Section] = {
        section.id: section for section in sections if section.id is not SectionId.CUSTOM
    }
    _check_counts(bodies)
    imported = Counter(each.kind for each in read_imports(bodies.get(SectionId.IMPORT)))
    memory = _memory(bodies.get(SectionId.MEMORY), imported[ExternalKind.MEMORY], image.memory_size)
    exported, exports = _exports(bodies.get(SectionId.EXPORT))
    values = _global_values(image.globals, exported, imported[ExternalKind.GLOBAL])
    variables = _globals(bodies.get(SectionId.GLOBAL), imported[ExternalKind.GLOBAL], values)
    segments, data = data_section(
        bodies.get(SectionId.DATA), image.runs, image.memory_size, keep_passive=SectionId.DATA_COUNT in bodies
    )

    rewritten: dict[SectionId, Parts] = {
        SectionId.MEMORY: [memory],
        SectionId.GLOBAL: variables,
        SectionId.EXPORT: exports,
        SectionId.DATA_COUNT: [unsigned(segments)],
        SectionId.DATA: data,
    }
    output: Parts = [b"\0asm\x01\0\0\0"]
    for section in sections:
        if section.id is SectionId.CUSTOM:
            _emit(output, section.id, _custom(section))
        elif section.id is not SectionId.START:
            _emit(output, section.id, rewritten.get(section.id, [section.body]))
    if SectionId.DATA not in bodies and segments:
        _emit(output, SectionId.DATA, data)
    return b"".join(output)


def _emit(output: Parts, kind: SectionId, body: Parts) -> None:
    if body:
        output.append(section_header(kind, sum(map(len, body))))
        output.extend(body)


def _check_counts(bodies: Mapping[SectionId, Section]) -> None:
    """Notice a module that is cut off between two sections: the sections before announce what is missing."""

    def count(kind: SectionId) -> int:
        return bodies[kind].reader().unsigned() if kind in bodies else 0

    functions, codes = count(SectionId.FUNCTION), count(SectionId.CODE)
    if functions != codes:
        raise BakeError(f"module declares {functions} functions, but has code for {codes}")
    if SectionId.DATA_COUNT in bodies and count(SectionId.DATA_COUNT) != count(SectionId.DATA):
        announced, there = count(SectionId.DATA_COUNT), count(SectionId.DATA)
        raise BakeError(f"module announces {announced} data segments, but has {there}")


def _memory(section: Section | None, imported: int, size: int) -> bytes:
    """Return the body of a memory section whose memory has the image's size from the start."""
    if imported:
        raise BakeError("the module imports its memory; only a memory of its own can be baked")
    reader = section.reader() if section else None
    count = reader.unsigned() if reader else 0
    if section is None or reader is None or count == 0:
        raise BakeError("the module has no memory")
    if count > 1:
        raise BakeError(f"the module has {count} memories (offset {section.offset}); only one can be baked")
    offset = reader.offset
    flags, minimum, maximum = reader.limits()
    if flags & 4:
        raise BakeError(f"the memory at offset {offset} has 64-bit addresses (memory64), which is not supported")
    if flags > 1:
        raise BakeError(f"the memory at offset {offset} is shared or has pages of another size: flags 0x{flags:02x}")
    reader.finish("the memory section")
    pages, rest = divmod(size, WASM_PAGE)
    if rest or not 0 <= pages <= MAX_PAGES:
        raise BakeError(f"memory_size {size} is not a multiple of {WASM_PAGE} up to 4 GiB")
    if pages < minimum:
        raise BakeError(f"the image has {pages} pages, less than the module's minimum of {minimum} (offset {offset})")
    if maximum is None:
        return b"\x01\x00" + unsigned(pages)
    if pages > maximum:
        raise BakeError(f"the image has {pages} pages, more than the module's maximum of {maximum} (offset {offset})")
    return b"\x01\x01" + unsigned(pages) + unsigned(maximum)


def _exports(section: Section | None) -> tuple[dict[str, tuple[ExternalKind, int]], Parts]:
    """Return what is exported, and the section's body without `_initialize`."""
    if section is None:
        return {}, []
    exported: dict[str, tuple[ExternalKind, int]] = {}
    kept: Parts = []
    reader = section.reader()
    for _ in range(reader.unsigned()):
        start = reader.position
        name, kind, index = reader.name(), reader.external_kind(), reader.unsigned()
        exported[name] = kind, index
        if name != "_initialize" or kind is not ExternalKind.FUNCTION:
            kept.append(reader.since(start))
    reader.finish("the export section")
    return exported, [unsigned(len(kept)), *kept]


def _global_values(
    values: Mapping[str, int], exported: Mapping[str, tuple[ExternalKind, int]], imported: int
) -> dict[int, tuple[str, int]]:
    """Return name and value to set, by the global's index."""
    chosen: dict[int, tuple[str, int]] = {}
    for name, value in values.items():
        kind, index = exported.get(name, (None, 0))
        if kind is not ExternalKind.GLOBAL:
            raise BakeError(f"the module exports no global {name!r}")
        if index < imported:
            raise BakeError(f"the global {name!r} is imported; only globals of the module can be baked")
        if not -(1 << 31) <= value < 1 << 32:
            raise BakeError(f"the value {value} of global {name!r} is not a 32-bit number")
        if index in chosen and (chosen[index][1] - value) % (1 << 32):
            raise BakeError(f"the globals {chosen[index][0]!r} and {name!r} are the same, but their values differ")
        chosen[index] = name, value
    return chosen


def _globals(section: Section | None, imported: int, values: dict[int, tuple[str, int]]) -> Parts:
    """Return the body of the global section with the values as initial values."""
    parts: Parts = []
    count = 0
    if section is not None:
        reader = section.reader()
        count = reader.unsigned()
        parts.append(unsigned(count))
        for index in range(imported, imported + count):
            start, offset = reader.position, reader.offset
            kind, mutability = reader.value_type(), reader.byte()
            reader.skip_expression()
            if index not in values:
                parts.append(reader.since(start))
                continue
            name, value = values[index]
            if kind != I32 or mutability != 1:
                raise BakeError(f"the global {name!r} at offset {offset} is not a mutable i32")
            parts.append(b"\x7f\x01" + i32_expression(value))
        reader.finish("the global section")
    for index, (name, _) in values.items():
        if index >= imported + count:
            raise BakeError(f"the export {name!r} is global {index}, but the module has {imported + count}")
    return parts


def _custom(section: Section) -> Parts:
    """Return the body of a custom section, or nothing if it describes what is no longer there."""
    reader = section.reader()
    name = reader.name()
    if name.startswith(_STALE_SECTIONS):
        return []
    if name != "name":
        return [section.body]
    kept: Parts = [reader.since(0)]
    while not reader.at_end:
        start = reader.position
        subsection = reader.byte()
        reader.raw(reader.unsigned())
        if subsection != _DATA_NAMES:
            kept.append(reader.since(start))
    return kept
