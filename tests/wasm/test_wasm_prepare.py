"""Preparing a module: what it does is what it did, whatever instructions it is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import wasmtime

import parallel_exec as px
from parallel_exec.sandbox._binary.format import BakeError
from parallel_exec.sandbox._engine import raw
from parallel_exec.sandbox._engine.engine import GUEST as ENGINE
from parallel_exec.sandbox._engine.engine import make_config
from parallel_exec.sandbox._wasm.prepare import GLOBAL, REFUSED, START, prepare
from tests.wasm.modules import GUEST, module

RUNTIME = wasmtime.Engine(make_config())

# Every shape of immediate that there is, before and after a memory.grow each; the function's result tells.
SHAPES = r"""
(memory (export "memory") 1 3)
(table $t 4 funcref)
(elem (i32.const 0) $one)
(type $none (func (result i32)))
(global $g (mut i32) (i32.const 1))
(func $one (result i32) (i32.const 1))
(func (export "shapes") (result i32) (local i64 f32 f64 v128 v128 i32)
  (drop (memory.grow (i32.const 0)))
  (block (result i32) (loop (result i32) (if (result i32) (i32.const 1) (then (i32.const 64)) (else (i32.const -65)))))
  (br_table 0 0 0 (i32.const 1) (i32.const 2))
)
(func (export "numbers") (result i32) (local $a i32)
  (local.set $a (memory.grow (i32.const 1)))
  (drop (i64.const 0x4000400040004000)) (drop (f32.const 2.0078125)) (drop (f64.const 32.03137255))
  (drop (v128.const i32x4 0x40004000 0x40004000 0x40004000 0x40004000))
  (drop (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 (v128.const i64x2 64 0) (v128.const i64x2 64 0)))
  (drop (i8x16.extract_lane_s 4 (i8x16.splat (i32.const 64))))
  (drop (v128.load8_lane offset=64 3 (i32.const 64) (i8x16.splat (i32.const 64))))
  (drop (v128.load32_zero offset=16384 (i32.const 64)))
  (drop (f32x4.sqrt (f32x4.splat (f32.const 4))))
  (drop (i32.trunc_sat_f64_s (f64.const 64)))
  (drop (i64.add128 (i64.const 64) (i64.const 0) (i64.const 64) (i64.const 0)))
  drop
  (memory.fill (i32.const 64) (i32.const 0) (i32.const 64))
  (memory.copy (i32.const 64) (i32.const 128) (i32.const 64))
  (drop (table.size $t))
  (drop (table.get $t (i32.const 0)))
  (drop (ref.is_null (ref.func $one)))
  (drop (ref.is_null (ref.null func)))
  (drop (select (result i32) (i32.const 64) (i32.const 65) (i32.const 1)))
  (i32.store offset=16384 align=1 (i32.const 64) (i32.const 64))
  (drop (i64.load32_u offset=64 align=2 (i32.const 64)))
  (drop (call_indirect (type $none) (i32.const 0)))
  (drop (i32.extend8_s (i32.const 64)))
  (global.set $g (memory.grow (i32.const 1)))
  (i32.add (i32.mul (local.get $a) (i32.const 100))
    (i32.add (i32.mul (global.get $g) (i32.const 10)) (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))))
(func (export "tail") (result i32) (return_call $one))
"""


def instance(wasm: bytes) -> tuple[wasmtime.Store, Any]:
    store = wasmtime.Store(RUNTIME)
    return store, wasmtime.Instance(store, wasmtime.Module(RUNTIME, wasm), []).exports(store)


def test_every_instruction_is_passed_over() -> None:
    store, exports = instance(prepare(module(SHAPES)))
    assert exports["numbers"](store) == 121  # one page, then two, then refused
    assert exports["tail"](store) == 1
    assert exports[REFUSED].value(store) == 4
    assert exports[GLOBAL + "0"].value(store) == 2


def test_a_growth_that_is_not_refused_leaves_no_note() -> None:
    store, exports = instance(
        prepare(module('(memory 1) (func (export "f") (result i32) (memory.grow (i32.const 2)))'))
    )
    assert exports["f"](store) == 1
    assert exports[REFUSED].value(store) == 0


def test_the_engine_itself_can_be_prepared() -> None:
    wasmtime.Module.validate(RUNTIME, prepare((ENGINE / "engine.wasm").read_bytes()))


def test_a_start_function_is_exported_instead_of_run() -> None:
    wasm = (
        '(memory 1) (global $g (export "g") (mut i32) (i32.const 1)) (func $s (global.set $g (i32.const 2))) (start $s)'
    )
    store, exports = instance(prepare(module(wasm)))
    assert exports["g"].value(store) == 1
    exports[START](store)
    assert exports["g"].value(store) == 2


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ("(table 1 funcref) (func (drop (table.grow (ref.null func) (i32.const 1))))", "table.grow"),
        ("(table 1 funcref) (func (table.fill (i32.const 0) (ref.null func) (i32.const 1)))", "table.fill"),
        ("(table 1 funcref) (func (table.copy (i32.const 0) (i32.const 0) (i32.const 1)))", "table.copy"),
        (
            "(table 1 funcref) (elem $e func) (func (table.init $e (i32.const 0) (i32.const 0) (i32.const 0)))",
            "table.init",
        ),
        ("(elem $e func) (func (elem.drop $e))", "elem.drop"),
        ('(data $d "x") (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 0)))', "memory.init"),
    ],
)
def test_state_that_cannot_be_restored_is_refused(fields: str, name: str) -> None:
    with pytest.raises(BakeError, match=rf"its code has {name}"):
        prepare(module(f"(memory 1) {fields}"))


@pytest.fixture(params=["unchecked", "checked"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "checked":
        checked: dict[str, Callable[..., Any]] = {"unchecked_numbers": raw.checked_numbers}
        checked["define_unchecked"] = raw.define_checked
        for name, function in checked.items():
            monkeypatch.setattr(raw, name, function)
    return str(request.param)


def test_both_ways_of_calling_do_the_same(way: str) -> None:
    def interrupted(_value: object) -> None:
        raise KeyboardInterrupt

    plugin = px.WasmPlugin(module(GUEST), name=f"{way}.wasm", host={"half": lambda n: n / 2, "stop": interrupted})
    with px.Sandbox(plugin, limits=px.Limits(time_s=0.5)) as sandbox:
        assert sandbox.call("echo", [1, "two"]) == [1, "two"]
        assert sandbox.call("hhalf", 5) == 2.5
        for name, error in (("trap", px.WasmError), ("outside", px.WasmError), ("loop", px.JobTimeout)):
            with pytest.raises(error):
                sandbox.call(name, None)
        with pytest.raises(px.WasmError, match="do not lie in its memory"):
            sandbox.call("outside", None)
        with pytest.raises(KeyboardInterrupt):
            sandbox.call("hstop", 1)
        assert sandbox.call("count", b"", input="binary") == bytes([1, 8, 1, 42, 1])
