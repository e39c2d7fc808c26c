"""Calls into WebAssembly: the unchecked path and wasmtime's public one do the same, however the call ends."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import wasmtime

import parallel_exec as px
from parallel_exec.sandbox._engine import raw
from parallel_exec.sandbox._engine.engine import MAX_WASM_STACK, make_config

MODULE = """
(module
  (memory (export "memory") 1)
  (global $calls (export "calls") (mut i32) (i32.const 0))
  (func (export "count") (global.set $calls (i32.add (global.get $calls) (i32.const 1))))
  (func (export "unreachable") unreachable)
  (func $deep (export "deep") (call $deep))
  (func (export "outside") (drop (i32.load (i32.const 0x7fffffff))))
  (func (export "divide") (drop (i32.div_s (i32.const 1) (i32.const 0)))))
"""
PATHS = {"unchecked": raw.unchecked, "checked": raw.checked, "bind": raw.bind}


@pytest.fixture(scope="module")
def engine() -> wasmtime.Engine:
    return wasmtime.Engine(make_config())


@pytest.fixture
def instance(engine: wasmtime.Engine) -> tuple[wasmtime.Store, Any]:
    store = wasmtime.Store(engine)
    return store, wasmtime.Instance(store, wasmtime.Module(engine, MODULE), []).exports(store)


@pytest.mark.parametrize("bind", PATHS.values(), ids=PATHS)
def test_calls(instance: tuple[wasmtime.Store, Any], bind: Any) -> None:
    store, exports = instance
    count = bind(store, exports["count"])
    for _ in range(1000):
        assert count() is None
    assert exports["calls"].value(store) == 1000


TRAPS = {
    "unreachable": ("`unreachable` instruction executed", False),
    "deep": ("call stack exhausted", True),
    "outside": ("out of bounds memory access", False),
    "divide": ("integer divide by zero", False),
}


@pytest.mark.parametrize(("export", "message", "overflow"), [(name, *trap) for name, trap in TRAPS.items()])
@pytest.mark.parametrize("bind", PATHS.values(), ids=PATHS)
def test_traps(instance: tuple[wasmtime.Store, Any], bind: Any, export: str, message: str, *, overflow: bool) -> None:
    store, exports = instance
    call, count = bind(store, exports[export]), bind(store, exports["count"])
    for turn in range(20):
        with pytest.raises(raw.Trapped) as caught:
            call()
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.stack_overflow is overflow
        assert caught.value.out_of_fuel is False
        count()
        assert exports["calls"].value(store) == turn + 1


@pytest.mark.parametrize("bind", PATHS.values(), ids=PATHS)
def test_fuel(bind: Any) -> None:
    config = make_config()
    config.consume_fuel = True
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    store.set_fuel(100)
    exports = wasmtime.Instance(store, wasmtime.Module(engine, MODULE), []).exports(store)
    with pytest.raises(raw.Trapped) as caught:
        bind(store, exports["deep"])()
    assert caught.value.out_of_fuel
    assert not caught.value.stack_overflow


@pytest.mark.parametrize("bind", PATHS.values(), ids=PATHS)
def test_a_call_keeps_its_store(engine: wasmtime.Engine, bind: Any) -> None:
    store = wasmtime.Store(engine)
    exports = wasmtime.Instance(store, wasmtime.Module(engine, MODULE), []).exports(store)
    call = bind(store, exports["count"])
    del store, exports
    gc.collect()
    for _ in range(100):
        call()


def test_this_wasmtime_has_the_unchecked_path(instance: tuple[wasmtime.Store, Any]) -> None:
    store, exports = instance
    assert raw.bind(store, exports["count"]).__qualname__ == raw.unchecked(store, exports["count"]).__qualname__


@pytest.mark.parametrize("error", [AttributeError, ImportError])
def test_another_wasmtime_gets_the_public_path(
    instance: tuple[wasmtime.Store, Any], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def missing(*_arguments: object) -> None:
        raise error("no such symbol")

    monkeypatch.setattr(raw, "unchecked", missing)
    store, exports = instance
    count = raw.bind(store, exports["count"])
    assert count.__qualname__ == raw.checked(store, exports["count"]).__qualname__
    count()
    assert exports["calls"].value(store) == 1


def reachable_depth(size: int) -> int:
    """Return how often a function can call itself with this much stack."""
    config = wasmtime.Config()
    raw.set_max_wasm_stack(config, size)
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    text = """(module (global $n (export "n") (mut i32) (i32.const 0))
        (func $deep (export "deep") (global.set $n (i32.add (global.get $n) (i32.const 1))) (call $deep)))"""
    exports: Any = wasmtime.Instance(store, wasmtime.Module(engine, text), []).exports(store)
    with pytest.raises(raw.Trapped, match="call stack exhausted"):
        raw.bind(store, exports["deep"])()
    return int(exports["n"].value(store))


class LibraryWithout:
    """A shared library that has nothing of what is asked for."""

    def __getitem__(self, name: str) -> None:
        raise AttributeError(f"undefined symbol: {name}")


def test_a_larger_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_WASM_STACK > 2 << 20
    common, full = reachable_depth(2 << 20), reachable_depth(MAX_WASM_STACK)
    assert full / common == pytest.approx(MAX_WASM_STACK / (2 << 20), rel=0.01)
    with monkeypatch.context() as patch:
        patch.setattr("wasmtime._ffi.dll", LibraryWithout())
        assert reachable_depth(MAX_WASM_STACK) == pytest.approx(common, rel=0.01)


def test_another_wasmtime_lacks_the_symbols(
    instance: tuple[wasmtime.Store, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, exports = instance
    with monkeypatch.context() as patch:
        patch.setattr("wasmtime._ffi.dll", LibraryWithout())
        count = raw.bind(store, exports["count"])
    assert count.__qualname__ == raw.checked(store, exports["count"]).__qualname__


SOURCE = """
let calls = 0;
function work({n, code}) { calls += 1; return code ? new Function(code)() : [calls, n, "x".repeat(n)] }
"""


@pytest.fixture(params=["unchecked", "checked"])
def sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[px.Sandbox]:
    monkeypatch.setattr(raw, "unchecked", getattr(raw, request.param))
    limits = px.Limits(time_s=0.2, memory_bytes=16 << 20, seed=3, time=1e9)
    with px.Sandbox(px.Plugin(SOURCE, name="raw.js"), limits=limits) as sandbox:
        yield sandbox


def test_a_sandbox_works_the_same_on_both_paths(sandbox: px.Sandbox) -> None:
    expected = {
        "return 1": "1",
        "throw new TypeError('no')": "raw.js: work(): TypeError: no (at <input>:3:20)",
        "for (;;);": "raw.js: work(): still running after Limits.time_s=0.2 s",
        "new Uint8Array(1e8)": "raw.js: work(): asked for",
        "(function f() { f() })()": "raw.js: work(): RangeError: Maximum call stack size exceeded",
        "return [Math.random(), Date.now()]": "[0.1",
    }
    seen = {}
    for code in expected:
        try:
            seen[code] = sandbox.call_bytes("work", {"code": code}).decode()
        except px.PexecError as error:
            seen[code] = str(error)
        assert sandbox.call("work", {"n": 3}) == [1, 3, "xxx"]
    random = seen.pop("return [Math.random(), Date.now()]")
    assert random.endswith(",1000000000000]")
    for code, text in seen.items():
        assert text.startswith(expected[code].partition(" (at")[0]), code
