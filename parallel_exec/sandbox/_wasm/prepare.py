"""Rewrites a module that somebody else compiled so that its instances can be captured and restored.

Three things change: mutable globals are exported, so that the host can read and set them; the host calls the start
function, once and under its limits, instead of wasmtime for each instance; and ``memory.grow`` becomes a call of a
function that does the same and, if memory is refused, notes in a global how much was asked for, which cannot be found
out otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from parallel_exec.sandbox._binary.code import growths
from parallel_exec.sandbox._binary.format import (
    FUNCTION_TYPE,
    SECTION_ORDER,
    BakeError,
    ExternalKind,
    Parts,
    Reader,
    Section,
    SectionId,
    read_imports,
    read_sections,
    section_header,
    unsigned,
)
from parallel_exec.sandbox._text import printable

_OURS: Final = "pexec:"
REFUSED: Final = _OURS + "refused"
GLOBAL: Final = _OURS + "global:"
START: Final = _OURS + "start"
CALL: Final = "__guest_call"

# The most imports, exports, and mutable globals. The time in which wasmtime finds exports in a new instance grows with
# the square of their number: 4 s for ten thousand.
_MOST: Final = 1000
_SUPPORTED: Final = frozenset((0x7F, 0x7E, 0x7D, 0x7C))  # i32, i64, f32, f64

# (func (param i32) (result i32) (local i32)
#   (if (i32.eq (local.tee 1 (memory.grow (local.get 0))) (i32.const -1))
#     (then (global.set $refused (i32.add (memory.size) (local.get 0)))))
#   (local.get 1))
_GROW: Final = bytes.fromhex("01017f200040002201417f4604403f0020006a24"), bytes.fromhex("0b20010b")
_GROW_TYPE: Final = bytes.fromhex("60017f017f")


def prepare(module: bytes) -> bytes:
    """Return the module with its mutable globals exported, as `GLOBAL` and their index; its start function exported, as
    `START`, instead of run; and `REFUSED`, a global that holds the pages that memory would have had if it had not been
    refused.

    Args:
        module: a valid module.

    Raises:
        BakeError: the module keeps state that no image holds, or cannot be prepared; the text says why.
    """
    sections = {each.id: each for each in read_sections(module) if each.id is not SectionId.CUSTOM}
    types = _types(sections.get(SectionId.TYPE))
    functions, imported_globals = _imported(sections.get(SectionId.IMPORT), types)
    _check_memory(sections.get(SectionId.MEMORY))
    functions += _defined(sections.get(SectionId.FUNCTION))
    _check_exports(sections.get(SectionId.EXPORT), functions, types)
    mutable, globals_ = _globals(sections.get(SectionId.GLOBAL), imported_globals)
    bodies = list(_bodies(sections.get(SectionId.CODE)))
    refused = imported_globals + globals_
    grow = len(functions)
    code: Parts = []
    for body, offset in bodies:
        code += _rewritten(body, growths(body, offset), grow)
    added = _GROW[0] + unsigned(refused) + _GROW[1]
    code += [unsigned(len(added)), added]
    exports = [_export(REFUSED, ExternalKind.GLOBAL, refused)]
    exports += [_export(GLOBAL + str(index), ExternalKind.GLOBAL, index) for index in mutable]
    start = sections.pop(SectionId.START, None)
    if start is not None:
        exports.append(_export(START, ExternalKind.FUNCTION, start.reader().unsigned()))
    additions: dict[SectionId, Parts] = {
        SectionId.TYPE: [_GROW_TYPE],
        SectionId.FUNCTION: [unsigned(len(types))],
        SectionId.GLOBAL: [b"\x7f\x01\x41\x00\x0b"],
        SectionId.EXPORT: [*exports],
    }
    parts: Parts = [module[:8]]
    for kind in SECTION_ORDER:
        section = sections.get(kind)
        if kind is SectionId.CODE:
            content: Parts = [unsigned(len(bodies) + 1), *code]
        elif kind in additions:
            content = _extended(section, additions[kind])
        elif section is not None:
            content = [section.body]
        else:
            continue
        parts += [section_header(kind, sum(map(len, content))), *content]
    return b"".join(parts)


def _export(name: str, kind: ExternalKind, index: int) -> bytes:
    text = name.encode()
    return unsigned(len(text)) + text + bytes((kind,)) + unsigned(index)


def _extended(section: Section | None, entries: Parts) -> Parts:
    """Return a section's body with more entries."""
    if section is None:
        return [unsigned(len(entries)), *entries]
    reader = section.reader()
    count = reader.unsigned()
    return [unsigned(count + len(entries)), section.body[reader.position :], *entries]


def _imported(section: Section | None, types: list[bool]) -> tuple[list[int], int]:
    """Return the types' indexes of the imported functions, and how many globals are imported."""
    if section is not None:
        _bounded(section.reader(), "imports")
    imports = read_imports(section)
    for each in imports:
        if each.kind not in (ExternalKind.FUNCTION, ExternalKind.GLOBAL):
            raise BakeError(f"it imports a {each.kind.name.lower()}")
        if each.kind is ExternalKind.FUNCTION and not types[each.type]:
            name = printable(f"{each.module}.{each.name}")
            raise BakeError(f"its import {name} takes or returns something other than numbers")
    functions = [each.type for each in imports if each.kind is ExternalKind.FUNCTION]
    return functions, len(imports) - len(functions)


def _bounded(reader: Reader, what: str) -> int:
    count = reader.unsigned()
    if count > _MOST:
        raise BakeError(f"it has {count} {what}; at most {_MOST} are taken")
    return count


def _defined(section: Section | None) -> list[int]:
    """Return the types' indexes of the module's own functions."""
    if section is None:
        return []
    reader = section.reader()
    return [reader.unsigned() for _ in range(reader.unsigned())]


def _check_memory(section: Section | None) -> None:
    reader = section.reader() if section is not None else None
    if reader is None or reader.unsigned() != 1:
        raise BakeError("it must have one memory, and no more")
    flags, _least, _most = reader.limits()
    if flags > 1:
        raise BakeError("its memory must be of 32-bit addresses and not shared")


def _check_exports(section: Section | None, functions: list[int], types: list[bool]) -> None:
    if section is None:
        return
    reader = section.reader()
    for _ in range(_bounded(reader, "exports")):
        name = reader.name()
        if name.startswith(_OURS):
            raise BakeError(f"it exports {printable(name)!r}, and names that begin with {_OURS!r} are this package's")
        kind, index = reader.byte(), reader.unsigned()
        if name == CALL and kind == ExternalKind.FUNCTION and not types[functions[index]]:
            raise BakeError(f"its {CALL} takes or returns something other than numbers")


def _globals(section: Section | None, imported: int) -> tuple[list[int], int]:
    """Return the indexes of the mutable globals, and how many globals are defined."""
    if section is None:
        return [], 0
    reader = section.reader()
    mutable = []
    count = reader.unsigned()
    for index in range(imported, imported + count):
        start = reader.offset
        kind = reader.value_type()
        if reader.byte():
            if kind not in _SUPPORTED:
                raise BakeError(f"its mutable global at offset {start} is not a number, and could not be restored")
            mutable.append(index)
            if len(mutable) > _MOST:
                raise BakeError(f"it has more than {_MOST} mutable globals")
        reader.skip_expression()
    return mutable, count


def _types(section: Section | None) -> list[bool]:
    """Return, for each function type, whether it has numbers only. wasmtime's C interface ends the process when it is
    asked for the type of a vector.
    """
    if section is None:
        return []
    reader = section.reader()
    types = []
    for _ in range(reader.unsigned()):
        start = reader.offset
        if reader.byte() != FUNCTION_TYPE:
            raise BakeError(f"the type at offset {start} is not a function's")
        values = [reader.value_type() for _list in ("parameters", "results") for _ in range(reader.unsigned())]
        types.append(_SUPPORTED.issuperset(values))
    return types


def _bodies(section: Section | None) -> Iterator[tuple[memoryview, int]]:
    if section is None:
        return
    reader = section.reader()
    for _ in range(reader.unsigned()):
        size = reader.unsigned()
        offset = reader.offset
        yield reader.raw(size), offset


def _rewritten(body: memoryview, growths: Iterable[tuple[int, int]], grow: int) -> Parts:
    """Return a function's size and body, with a call in place of each ``memory.grow``."""
    call = b"\x10" + unsigned(grow)
    pieces: Parts = []
    start = 0
    for begin, end in growths:
        pieces += [body[start:begin], call]
        start = end
    pieces.append(body[start:])
    return [unsigned(sum(map(len, pieces))), *pieces]
