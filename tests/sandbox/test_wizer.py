"""A baked module behaves as the instance that its image was captured from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from parallel_exec.sandbox._binary import data as wasm_data
from parallel_exec.sandbox._binary.bake import BakeError, bake
from parallel_exec.sandbox._binary.format import Buffer, SectionId, read_sections, section_header, unsigned

PAGE = 65536
ENGINE = wasmtime.Engine()

COUNTER = """
(module
  (import "host" "log" (func $log (param i32)))
  (memory (export "memory") 1 40)
  (global $base i32 (i32.const 4096))
  (global $top (export "top") (mut i32) (i32.const 65536))
  (global $wide (mut i64) (i64.const -7))
  (global $both (export "both") (export "again") (mut i32) (i32.const 1))
  (table (export "table") 2 funcref)
  (elem (i32.const 0) $next $size)
  (start $begin)
  (data (i32.const 16) "hello, data")
  (data (i32.const 5000) "overwritten")
  (func $begin (i32.store (i32.const 100) (i32.add (i32.load (i32.const 100)) (i32.const 1))))
  (func (export "_initialize")
    (drop (memory.grow (i32.const 3)))
    (i32.store (i32.const 200) (i32.const 41))
    (i64.store (i32.const 5000) (i64.const 0))
    (i32.store (i32.const 262140) (i32.const -1))
    (global.set $top (i32.const -128))
    (global.set $both (i32.const 0x7fffffff))
    (call $log (i32.const 1)))
  (func $next (export "next") (result i32)
    (i32.store (i32.const 200) (i32.add (i32.load (i32.const 200)) (i32.const 1)))
    (i32.load (i32.const 200)))
  (func $size (export "size") (result i32) (memory.size))
  (func (export "through_table") (result i32) (call_indirect (result i32) (i32.const 0))))
"""


@dataclass
class Image:
    memory_size: int = PAGE
    globals: Mapping[str, int] = field(default_factory=dict)
    runs: Iterable[tuple[int, Buffer]] = ()


class Running:
    """An instance of a module, with the memory, globals and functions that it exports."""

    def __init__(self, module: bytes, engine: wasmtime.Engine = ENGINE) -> None:
        wasmtime.Module.validate(engine, module)
        self.store = wasmtime.Store(engine)
        self.logged: list[int] = []
        compiled = wasmtime.Module(engine, module)
        log = wasmtime.Func(self.store, wasmtime.FuncType([wasmtime.ValType.i32()], []), self.logged.append)
        self.exports = wasmtime.Instance(self.store, compiled, [log] if compiled.imports else []).exports(self.store)

    def call(self, name: str, *arguments: int) -> Any:
        function = self.exports[name]
        assert isinstance(function, wasmtime.Func)
        return function(self.store, *arguments)

    def memory(self) -> bytes:
        memory = self.exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        return bytes(memory.read(self.store))

    def globals(self) -> dict[str, int]:
        return {
            name: item.value(self.store)
            for name, item in self.exports.items()
            if isinstance(item, wasmtime.Global) and item.type(self.store).mutable
        }

    def image(self, page: int = 4096) -> Image:
        memory = self.memory()
        pages = ((start, memory[start : start + page]) for start in range(0, len(memory), page))
        return Image(len(memory), self.globals(), [(start, run) for start, run in pages if any(run)])


def wasm(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def initialised(text: str) -> tuple[bytes, Running]:
    module = wasm(text)
    running = Running(module)
    running.call("_initialize")
    return module, running


# ---------------------------------------------------------------------------------------------------- behaviour


def test_baked_module_is_the_initialised_instance() -> None:
    module, original = initialised(COUNTER)
    baked = Running(bake(module, original.image()))
    assert baked.memory() == original.memory()
    assert baked.globals() == original.globals() == {"top": -128, "both": 0x7FFFFFFF, "again": 0x7FFFFFFF}
    assert set(baked.exports) == set(original.exports) - {"_initialize"}
    assert baked.logged == []
    assert baked.call("size") == 4
    assert [baked.call("next"), baked.call("through_table")] == [42, 43]
    assert [original.call("next"), original.call("through_table")] == [42, 43]
    assert baked.memory() == original.memory()


def test_start_function_does_not_run_again() -> None:
    module, original = initialised(COUNTER)
    once = bake(module, original.image())
    assert SectionId.START in {section.id for section in read_sections(module)}
    assert SectionId.START not in {section.id for section in read_sections(once)}
    assert Running(once).memory()[100] == 1


def test_baking_a_baked_module_changes_nothing() -> None:
    module, original = initialised(COUNTER)
    once = bake(module, original.image())
    assert bake(once, Running(once).image()) == once


def test_module_without_data_or_exports_gets_data() -> None:
    baked = bake(wasm('(module (memory 1) (func (export "f")))'), Image(2 * PAGE, runs=[(PAGE, b"x")]))
    assert [section.id for section in read_sections(baked)][-2:] == [SectionId.CODE, SectionId.DATA]
    wasmtime.Module.validate(ENGINE, baked)
    assert bake(wasm("(module (memory 1))"), Image()) == wasm("(module (memory 1))")


def test_passive_segments_stay_usable() -> None:
    text = """
    (module
      (memory (export "memory") 1)
      (data (i32.const 0) "active")
      (data $first "passive one")
      (data (i32.const 64) "active too")
      (data (i32.const 96) "third")
      (data $second "passive two")
      (func (export "_initialize") (i32.store8 (i32.const 500) (i32.const 7)))
      (func (export "fill")
        (memory.init $first (i32.const 1000) (i32.const 0) (i32.const 11))
        (memory.init $second (i32.const 2000) (i32.const 0) (i32.const 11))
        (data.drop $second)))
    """
    module, original = initialised(text)
    baked = Running(bake(module, original.image()))
    assert baked.memory() == original.memory()
    for running in (baked, original):
        running.call("fill")
        assert running.memory()[1000:1011] == b"passive one"
        assert running.memory()[2000:2011] == b"passive two"
        with pytest.raises(wasmtime.Trap):
            running.call("fill")
    # The image has fewer segments than the module had active ones: the rest stay as empty segments, so indices hold.
    empty = Running(bake(module, Image()))
    empty.call("fill")
    assert empty.memory()[2000:2011] == b"passive two"
    assert not any(empty.memory()[:1000])


def test_custom_sections() -> None:
    def custom(name: bytes, content: bytes) -> bytes:
        body = unsigned(len(name)) + name + content
        return section_header(SectionId.CUSTOM, len(body)) + body

    named = b"\x00\x02\x01m" + b"\x09\x04\x01\x00\x01d"  # the module is m, data segment 0 is d
    module = wasm("(module (memory 1))") + custom(b".debug_info", b"x" * 100) + custom(b"name", named)
    module += custom(b"producers", b"\x00") + custom(b"reloc.CODE", b"\x00")
    baked = bake(module, Image())
    assert baked == wasm("(module (memory 1))") + custom(b"name", named[:4]) + custom(b"producers", b"\x00")


def test_high_addresses_and_full_range_of_values() -> None:
    module = wasm('(module (memory (export "memory") 1) (global (export "g") (mut i32) (i32.const 0)))')
    top = 1 << 32
    baked = bake(module, Image(top, {"g": 0xFFFFFFFE}, [(top - 3, b"end"), ((1 << 31) - 1, b"middle")]))
    running = Running(baked)
    memory = running.exports["memory"]
    assert isinstance(memory, wasmtime.Memory)
    assert bytes(memory.read(running.store, top - 4, top)) == b"\0end"
    assert bytes(memory.read(running.store, (1 << 31) - 2, (1 << 31) + 6)) == b"\0middle\0"
    assert running.globals() == {"g": -2}


# --------------------------------------------------------------------------------------------------- properties

contents = st.lists(st.tuples(st.integers(0, 3 * PAGE - 1), st.binary(min_size=1, max_size=60)), max_size=40)


@settings(max_examples=60, deadline=None)
@given(contents, st.sampled_from((64, 4096, PAGE)), st.sampled_from((bytes, bytearray, memoryview)))
def test_any_memory_is_read_back(writes: list[tuple[int, bytes]], page: int, kind: Callable[[bytes], Buffer]) -> None:
    memory = bytearray(3 * PAGE)
    for address, written in writes:
        content = written[: len(memory) - address]
        memory[address : address + len(content)] = content
    starts = range(0, len(memory), page)
    runs = [(start, kind(bytes(memory[start : start + page]))) for start in starts if any(memory[start : start + page])]
    runs.reverse()
    baked = bake(
        wasm('(module (memory (export "memory") 1 3) (data (i32.const 9) "gone"))'), Image(len(memory), {}, runs)
    )
    assert Running(baked).memory() == bytes(memory)


@settings(max_examples=40, deadline=None)
@given(contents, st.integers(1, 5))
def test_segment_limit_joins_the_nearest(writes: list[tuple[int, bytes]], limit: int) -> None:
    memory = bytearray(4 * PAGE)
    for address, content in writes:
        memory[address : address + len(content)] = content
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wasm_data, "MAX_SEGMENTS", limit)
        baked = bake(wasm('(module (memory (export "memory") 1))'), Image(len(memory), {}, [(0, memory)]))
    assert segment_count(baked) <= limit
    assert Running(baked).memory() == bytes(memory)


def segment_count(module: bytes) -> int:
    return next((s.reader().unsigned() for s in read_sections(module) if s.id is SectionId.DATA), 0)


def test_engine_limit_on_segments_is_kept() -> None:
    memory = (b"\1" + bytes(15)) * 150_000
    size = -(-len(memory) // PAGE) * PAGE
    baked = bake(wasm('(module (memory (export "memory") 1))'), Image(size, {}, [(0, memory)]))
    assert segment_count(baked) <= 100_000
    assert Running(baked).memory()[: len(memory)] == memory


def test_zeros_cheaper_than_a_segment_are_kept_and_others_cut() -> None:
    module = wasm('(module (memory (export "memory") 1))')

    def counts(zeros: int) -> tuple[int, int]:
        within = bake(module, Image(PAGE, {}, [(64, b"a" + bytes(zeros) + b"b")]))
        between = bake(module, Image(PAGE, {}, [(64, b"a"), (65 + zeros, b"b")]))
        return segment_count(within), segment_count(between)

    assert counts(0) == counts(wasm_data.SEGMENT_OVERHEAD - 1) == (1, 1)
    assert counts(wasm_data.SEGMENT_OVERHEAD) == counts(5000) == (2, 2)


# --------------------------------------------------------------------------------------------- what is refused


def test_truncation_anywhere_is_an_error_or_a_module() -> None:
    module, original = initialised(COUNTER)
    image = original.image()
    for end in range(len(module)):
        try:
            bake(module[:end], image)
        except BakeError as error:
            assert str(error)
        else:
            read_sections(module[:end])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_anywhere_is_an_error_or_a_module(data: st.DataObject) -> None:
    module = bytearray(wasm(COUNTER))
    for _ in range(data.draw(st.integers(1, 3))):
        module[data.draw(st.integers(0, len(module) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_sections(bake(module, Image(4 * PAGE, {"top": 5}, [(5, b"x")])))
    except BakeError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "image", "said"),
    [
        ("(module)", Image(), "the module has no memory"),
        ('(module (import "a" "b" (memory 1)))', Image(), "imports its memory"),
        ("(module (memory 1) (memory 1))", Image(), r"has 2 memories \(offset 10\)"),
        ("(module (memory i64 1))", Image(), "the memory at offset 11 has 64-bit addresses"),
        ("(module (memory 1 2 shared))", Image(), "the memory at offset 11 is shared"),
        ("(module (memory 1 2))", Image(3 * PAGE), "3 pages, more than the module's maximum of 2"),
        ("(module (memory 3))", Image(2 * PAGE), "2 pages, less than the module's minimum of 3"),
        ("(module (memory 1))", Image(PAGE + 1), "memory_size 65537 is not a multiple"),
        ("(module (memory 1))", Image(65537 * PAGE), "is not a multiple of 65536 up to 4 GiB"),
        ("(module (memory 1))", Image(runs=[(PAGE - 1, b"ab")]), "run of 2 bytes at 65535 is outside the memory"),
        ("(module (memory 1))", Image(runs=[(-1, b"ab")]), "run of 2 bytes at -1 is outside the memory"),
        ("(module (memory 1))", Image(runs=[(8, b"ab"), (7, b"cd")]), "run at 8 overlaps the one that ends at 9"),
        ("(module (memory 1))", Image(globals={"g": 1}), "exports no global 'g'"),
        ('(module (memory (export "g") 1))', Image(globals={"g": 1}), "exports no global 'g'"),
        (
            '(module (import "a" "b" (global (mut i32))) (memory 1) (export "g" (global 0)))',
            Image(globals={"g": 1}),
            "the global 'g' is imported",
        ),
        (
            '(module (memory 1) (global (export "g") i32 (i32.const 1)))',
            Image(globals={"g": 1}),
            "the global 'g' at offset 16 is not a mutable i32",
        ),
        (
            '(module (memory 1) (global (export "g") (mut i64) (i64.const 1)))',
            Image(globals={"g": 1}),
            "the global 'g' at offset 16 is not a mutable i32",
        ),
        (
            '(module (memory 1) (global (export "g") (mut i32) (i32.const 1)))',
            Image(globals={"g": 1 << 32}),
            "the value 4294967296 of global 'g' is not a 32-bit number",
        ),
        (
            '(module (memory 1) (global (export "g") (export "h") (mut i32) (i32.const 1)))',
            Image(globals={"g": 1, "h": 2}),
            "the globals 'g' and 'h' are the same, but their values differ",
        ),
    ],
)
def test_refusals_say_what_and_where(text: str, image: Image, said: str) -> None:
    with pytest.raises(BakeError, match=said):
        bake(wasm(text), image)


def test_missing_code_is_noticed_at_a_section_boundary() -> None:
    module = wasm('(module (memory 1) (data "passive") (func (export "f")) (func (data.drop 0)))')
    sections = {section.id: section for section in read_sections(module)}
    code, data = sections[SectionId.CODE], sections[SectionId.DATA]
    with pytest.raises(BakeError, match="declares 2 functions, but has code for 0"):
        bake(module[: code.offset - 2], Image())
    with pytest.raises(BakeError, match="announces 1 data segments, but has 0"):
        bake(module[: data.offset - 2], Image())


# ------------------------------------------------------------------------------------------------ the real thing

GUEST = Path(__file__).resolve().parents[2] / "parallel_exec" / "guest" / "engine.wasm"


@pytest.mark.skipif(not GUEST.exists(), reason="the engine is not built: run scripts/build_guest.py")
def test_plugin_image_bakes_into_the_engine() -> None:
    from parallel_exec.sandbox import Engine, MemoryImage

    image = MemoryImage.capture("const kept = [1, 2, 3]; function f() { return kept }", name="f.js")
    module = GUEST.read_bytes()
    baked = Running(bake(module, image), Engine.shared().runtime)
    memory = bytearray(image.memory_size)
    for address, run in image.runs:
        memory[address : address + len(run)] = run
    assert baked.memory() == bytes(memory)
    assert baked.globals() == image.globals
    assert "_initialize" not in set(baked.exports)
