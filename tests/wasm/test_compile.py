"""Compiling a stranger's module takes no more than is allowed, and what is too much is said."""

from __future__ import annotations

import pytest

import parallel_exec as px
from parallel_exec.sandbox._wasm import compile as wasm_compile
from tests.wasm.modules import GUEST, IMPORTS, module

CALL = '(func (export "__guest_call") (param i32 i32) (result i32) (i32.const 1))'
MEMORY = '(memory (export "memory") 1)'


def test_a_module_that_takes_long_to_compile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasm_compile, "CPU_S", 1)
    depth = 15_000  # loops in each other: 11 s for 64 KB
    looping = px.WasmPlugin(module(f"{MEMORY} {CALL} (func {'loop ' * depth} {'end ' * depth})"), name="loops.wasm")
    with pytest.raises(px.PluginError, match=r"loops\.wasm: compiling the module takes more than 1 s of CPU time"):
        px.Sandbox(looping)


def test_a_module_that_takes_much_memory_to_compile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasm_compile, "ADDRESS_SPACE", 400 << 20)
    # Blocks that hand on a thousand values, in 4 KB: many gigabytes.
    many = "i32 " * 1000
    fields = f"""{MEMORY} {CALL} (type $many (func (param {many}) (result {many})))
    (func {"(i32.const 0) " * 1000} {"(block (type $many)) " * 1000} {"drop " * 1000})"""
    with pytest.raises(px.PluginError, match="compiling the module takes more than 400 MiB of memory"):
        px.Sandbox(px.WasmPlugin(module(fields)))


def test_a_module_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasm_compile, "MOST_MODULE_BYTES", 1000)
    with pytest.raises(px.PluginError, match="1009 bytes; at most 1000 are taken"):
        px.Sandbox(px.WasmPlugin(module(GUEST)))


@pytest.mark.parametrize("limits", [px.Limits(), px.Limits(fuel=100_000)], ids=["", "metered"])
def test_what_is_compiled_apart_runs(limits: px.Limits) -> None:
    large = px.WasmPlugin(module(GUEST + f'(data (i32.const 70004) "{"x" * 10_000}")'))
    with px.Sandbox(large, limits=limits) as sandbox:
        assert sandbox.call("count", b"", input="binary") == bytes([1, 8, 1, 42, 1])
        assert sandbox.call("echo", {"a": 1}) == {"a": 1}


def test_what_is_wrong_with_a_large_module_is_said() -> None:
    padding = f'(data (i32.const 0) "{"x" * 10_000}")'
    for fields, message in (
        (f"{CALL} (memory 1) {padding}", "does not export a memory"),
        (f"{MEMORY} {CALL} (memory 1) {padding}", "cannot be run: not a|multiple memories"),
        (f"{IMPORTS} {MEMORY} {CALL} {padding} (data $d) (func (data.drop $d))", r"has data\.drop"),
    ):
        with pytest.raises(px.PluginError, match=message):
            px.Sandbox(px.WasmPlugin(module(fields)))
    with pytest.raises(px.PluginError, match="not a WebAssembly module"):
        px.Sandbox(px.WasmPlugin(bytes(10_000)))
