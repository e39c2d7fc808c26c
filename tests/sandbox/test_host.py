"""Host functions: JSON in and out, errors that are JavaScript's, and no way for either side to harm the other."""

from __future__ import annotations

import ctypes
import gc
import logging
import math
import operator
import pickle
import posixpath
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
import wasmtime

import parallel_exec as px
from parallel_exec.plugins._base import kept_images
from parallel_exec.sandbox._engine import raw
from tests.sandbox.inside import instance_of

Caller = Callable[..., Any]


class Given:
    """What the host functions of a test were given, and what they do."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answer: Any = None

    def lookup(self, *arguments: Any) -> Any:
        self.calls.append(arguments)
        return self.answer(*arguments) if callable(self.answer) else self.answer


@pytest.fixture
def given() -> Given:
    return Given()


@pytest.fixture
def call(given: Given) -> Iterator[Caller]:
    """Run a function body that may call `lookup`, in one sandbox; other limits make another one."""
    made: dict[tuple[Any, ...], px.Sandbox] = {}

    def run(body: str, document: Any = None, **limits: Any) -> Any:
        key = tuple(sorted(limits.items()))
        if key not in made:
            source = "function run(d) { return new Function('d', d.body)(d.document) } const good = x => 2 * x"
            plugin = px.Plugin(source, host={"lookup": given.lookup})
            made[key] = px.Sandbox(plugin, limits=px.Limits(**limits))
        try:
            return made[key].call("run", {"body": body, "document": document})
        finally:
            assert made[key].call("good", 21) == 42

    yield run
    for sandbox in made.values():
        sandbox.close()


VALUES = [None, True, 0, -1.5, 2**53, "", "ä\U0001f600\n", [], {}, [1, [2, {"a": None}]], {"k": {"l": [1]}}, "x" * 5000]


def test_values_go_both_ways(call: Caller, given: Given) -> None:
    given.answer = lambda *arguments: arguments[0]
    for value in VALUES:
        assert call("return lookup(d)", value) == value
        assert given.calls.pop() == (value,)
    assert call("return [lookup(1), lookup('b', 2), lookup([3], {}, null)]") == [1, "b", [3]]
    assert given.calls == [(1,), ("b", 2), ([3], {}, None)]


def test_arguments_are_json(call: Caller, given: Given) -> None:
    call("lookup(undefined, () => 1, NaN, new Date(0), {toJSON() { return 7 }}, new Map(), '\\ud800')")
    assert given.calls == [(None, None, None, "1970-01-01T00:00:00.000Z", 7, {}, "\ud800")]
    with pytest.raises(px.JSError, match="TypeError: BigInt"):
        call("lookup(1n)")
    with pytest.raises(px.JSError, match="circular"):
        call("const a = []; a.push(a); lookup(a)")
    with pytest.raises(px.JSError, match="Error: mine"):
        call("lookup({toJSON() { throw new Error('mine') }})")
    assert len(given.calls) == 1


@pytest.mark.parametrize("size", [0, 1, 4000, 4096 - 66, 4096 - 65, 4096, 100_000, 3_000_000])
def test_results_of_any_size(call: Caller, given: Given, size: int) -> None:
    given.answer = "x" * size
    assert call("const s = lookup(); return [s.length, s === 'x'.repeat(s.length)]") == [size, True]
    assert call("return lookup('y'.repeat(d)).length", size) == size


def test_calls_in_many_places(call: Caller, given: Given) -> None:
    given.answer = lambda x: x + 1
    assert call("return [3, 1, 2].map(x => lookup(x)).sort((a, b) => lookup(a) - lookup(b))") == [2, 3, 4]
    assert call("return (async () => { await null; return lookup(1) })()") == 2
    assert call("return {get a() { return lookup(1) }, toJSON() { return lookup(2) }}") == 3
    assert call("return lookup({toJSON() { return lookup(10) }})") == 12
    assert call("let n = 0; for (let i = 0; i < 2000; i++) n = lookup(n); return n") == 2000
    assert call("return [typeof lookup, lookup.name, Object.keys(globalThis).includes('lookup')]") == [
        "function",
        "lookup",
        False,
    ]


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_arguments: Any) -> Any:
        raise error

    return fail


CATCH = "try { lookup(); return 'no error' } catch (e) { return [e.name, e.message, e instanceof %s, e.stack] }"


def test_exceptions_are_errors_of_javascript(call: Caller, given: Given, caplog: pytest.LogCaptureFixture) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    for error, name, message, kind in (
        (KeyError("tea"), "KeyError", "'tea'", "Error"),
        (TypeError("no"), "TypeError", "no", "TypeError"),
        (LookupError("ä" * 5000), "LookupError", "ä" * 1000, "Error"),
        (ValueError("\ud800"), "ValueError", "?", "Error"),
        (Odd(), "Odd", "", "Error"),
        (px.InvalidDocument("bad"), "InvalidDocument", "bad", "Error"),
    ):
        given.answer = failing(error)
        caplog.clear()
        *told, stack = call(CATCH % kind)
        assert told == [name, message, True]
        assert "Traceback" not in stack and ".py" not in stack
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("parallel_exec.host", logging.ERROR)
        assert record.exc_info is not None and record.exc_info[1] is error
    with pytest.raises(px.JSError, match="KeyError: 'x'") as caught:
        given.answer = failing(KeyError("x"))
        call("return lookup()")
    assert caught.value.name == "KeyError" and caught.value.__cause__ is None


def test_results_that_are_not_json(call: Caller, given: Given, caplog: pytest.LogCaptureFixture) -> None:
    endless: list[Any] = []
    endless.append(endless)
    for answer in (object(), b"1", {1: 2}, {"a": {1, 2}}, 1 << 70, endless):
        given.answer = answer
        name, message, typed, _stack = call(CATCH % "TypeError")
        assert (name, message, typed) == ("TypeError", "the host function lookup() returned what is not JSON", True)
    assert len(caplog.records) == 6
    given.answer = orjson.Fragment(b"[1,")
    assert call(CATCH % "TypeError")[:2] == ["TypeError", "the result of a host function is not JSON"]


def test_sizes_are_bounded(call: Caller, given: Given, caplog: pytest.LogCaptureFixture) -> None:
    given.answer = "x" * 1000
    with pytest.raises(px.JSError, match=r"RangeError: the result of the host function lookup\(\), 1002 bytes, "):
        call("lookup()", document_bytes=1000)
    assert len(caplog.records) == 1
    with pytest.raises(px.JSError, match=r"RangeError: the arguments of a host function exceed Limits\.output_bytes"):
        call("lookup('x'.repeat(1000))", output_bytes=1000)
    assert len(given.calls) == 1
    given.answer = "x" * 20_000_000
    with pytest.raises(px.MemoryLimitExceeded):
        call("return lookup().length", memory_bytes=16 << 20)


def test_a_plugin_cannot_flood_the_log(call: Caller, given: Given, caplog: pytest.LogCaptureFixture) -> None:
    given.answer = failing(KeyError("x"))
    for _ in range(2):
        caplog.clear()
        call("for (let i = 0; i < 100; i++) try { lookup() } catch {}")
        assert len(caplog.records) == 6
        assert "further failures are not logged" in caplog.text


def test_the_deadline_holds_over_host_functions(call: Caller, given: Given) -> None:
    given.answer = lambda: time.sleep(0.2)
    for body in ("lookup(); return 1", "try { lookup() } catch { return 1 } finally { return 2 }"):
        with pytest.raises(px.JobTimeout):
            call(body, time_s=0.1)
    assert len(given.calls) == 2
    given.answer = 1
    with pytest.raises(px.JobTimeout):
        call("for (;;) lookup()", time_s=0.1)


def test_host_functions_take_no_cpu_time_of_the_job(call: Caller, given: Given) -> None:
    def compute() -> None:
        end = time.thread_time() + 0.3
        while time.thread_time() < end:
            pass

    given.answer = compute
    assert call("lookup(); lookup(); return 1", time_s=0.25, clock="cpu") == 1
    with pytest.raises(px.JobTimeout):
        call("lookup(); for (;;);", time_s=0.25, clock="cpu")
    assert len(given.calls) == 3


@pytest.mark.parametrize("bound", ["unchecked", "checked"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_what_is_no_exception_ends_the_call(
    call: Caller, given: Given, monkeypatch: pytest.MonkeyPatch, bound: str, error: BaseException
) -> None:
    monkeypatch.setattr(raw, "bind", getattr(raw, bound))
    given.answer = failing(error)
    for body in ("lookup()", "try { lookup() } catch { return 1 } finally { return 2 }", "return {toJSON: lookup}"):
        with pytest.raises(type(error)) as caught:
            call(body)
        assert caught.value is error
    given.answer = 5
    assert call("return lookup()") == 5
    # Nothing is left behind for the next call that fails.
    with pytest.raises(px.JSError, match="Error: later"):
        call("throw new Error('later')")


def test_a_sandbox_cannot_be_entered_twice(given: Given) -> None:
    plugin = px.Plugin("const f = x => lookup(x)", host={"lookup": given.lookup})
    with px.Sandbox(plugin) as sandbox, px.Sandbox(px.Plugin("const g = x => 2 * x")) as other:
        for again in (lambda x: sandbox.call("f", x), lambda x: sandbox.call_bytes("f", x), lambda _: sandbox.close()):
            given.answer = again
            with pytest.raises(px.JSError, match=r"PexecError: .*the sandbox is running the job that called this host"):
                sandbox.call("f", 1)
        given.answer = lambda x: other.call("g", x)
        assert sandbox.call("f", 21) == 42
        # Each level takes native stack.
        given.answer = plugin.function("f")
        with pytest.raises(px.JSError, match="cannot call host functions itself"):
            sandbox.call("f", 1)


def test_deep_recursion_on_both_levels() -> None:
    # Through JSON.stringify, which takes the most native stack; the deepest call of each level calls the next level.
    source = """let depth = 0;
    const f = x => { depth++; try { return +JSON.stringify({toJSON: () => f(x)}) } catch { return more(x) } };
    const g = x => [f(x), depth]"""
    inner = px.Plugin(source.replace("more(x)", "7"))
    plugin = px.Plugin(source, host={"more": lambda x: inner.function("g")(x)[0]})
    number, depth = plugin.function("g")(0)
    assert number == 7 and depth > 100


def test_not_while_the_plugin_is_loaded() -> None:
    for source in ("lookup(); function f() {}", "export const f = () => 1; lookup()"):
        with pytest.raises(px.PluginError, match="host functions cannot be called while the plugin is loaded"):
            px.Plugin(source, host={"lookup": len}).image()
    plugin = px.Plugin("const f = d => lookup(d)", host={"lookup": len})
    with pytest.raises(
        px.PluginError, match=r"sample 0 fails: .*cannot be called while the plugin is loaded or warmed"
    ):
        plugin.image(samples=["abc"], function="f")
    assert plugin.function("f")("abc") == 3


def test_names() -> None:
    for name in ("JSON", "console", "undefined", "globalThis", "eval"):
        with pytest.raises(px.PluginError, match=f"the host function '{name}' would replace a global of the engine"):
            px.Plugin("", host={name: len}).image()
    for name in ("", "a b", "1", "ä", "a" * 101, "a\0"):
        with pytest.raises(ValueError, match="must be an identifier"):
            px.Plugin("", host={name: len})
    with pytest.raises(TypeError, match="must be callable, not int"):
        px.Plugin("", host={"a": 3})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="must not be async"):

        async def later() -> None: ...

        px.Plugin("", host={"a": later})
    with pytest.raises(TypeError, match=r"Plugin\.host must map names to functions, not list"):
        px.Plugin("", host=[len])  # type: ignore[arg-type]
    # The plugin may have a function of its own with that name.
    assert px.Plugin("function len(x) { return 7 } const f = x => len(x)", host={"len": len}).function("f")("") == 7
    assert px.Plugin("const len = 5; const f = x => len", host={"len": len}).function("f")("") == 5
    assert px.Plugin("export const f = x => len(x)", host={"len": len}).function("f")("abc") == 3


def test_a_memory_image_has_no_functions_of_its_own() -> None:
    image = px.MemoryImage.from_bytes(px.Plugin("const f = d => len(d)", host={"len": len}).image().to_bytes())
    with px.Sandbox(image) as sandbox, pytest.raises(px.JSError, match="has been given no host functions"):
        sandbox.call("f", "abc")
    with px.Sandbox(image, host={"len": len}) as sandbox:
        assert sandbox.call("f", "abc") == 3
    with px.Sandbox(image, host={"abs": abs}) as sandbox, pytest.raises(px.JSError, match="no such host function"):
        sandbox.call("f", "abc")
    with pytest.raises(TypeError, match="host= goes with a memory image"):
        px.Sandbox(px.Plugin(""), host={})


def test_functions_are_pickled_by_reference() -> None:
    host: dict[str, Caller] = {"join": posixpath.join, "hypot": math.hypot, "add": operator.add, "length": len}
    plugin = px.Plugin("const f = ([a, b]) => [hypot(a, b), join('x', 'y'), length([1])]", host=host)
    again = pickle.loads(pickle.dumps(plugin.function("f")))
    assert again == plugin.function("f") and again.plugin.host == host
    assert again.plugin.digest == plugin.digest
    assert again([3, 4]) == [5.0, "x/y", 1]
    empty: dict[str, int] = {}
    elsewhere: list[Caller] = [lambda: 1, failing(KeyError()), Given().lookup, empty.get, operator.itemgetter(0)]
    for function in elsewhere:
        with pytest.raises(px.PluginError, match=r"the host function 'f' \(.*\) cannot be sent to another process"):
            pickle.dumps(px.Plugin("", host={"f": function}))
    assert px.Plugin("", host={"f": failing}).digest != px.Plugin("", host={"f": len}).digest


def test_a_function_that_cannot_be_imported_there(monkeypatch: pytest.MonkeyPatch) -> None:
    text = pickle.dumps(px.Plugin("", host={"f": posixpath.join}))
    with pytest.raises(px.PluginError, match=r"cannot import the host function 'f' \(posixpath\.join\)"):
        monkeypatch.delattr(posixpath, "join")
        pickle.loads(text)


def test_functions_are_part_of_the_plugin() -> None:
    one, other = px.Plugin("", host={"f": math.sin}), px.Plugin("", host={"f": math.cos})
    assert one != other and one.digest != other.digest and one != px.Plugin("")
    assert one == px.Plugin("", host={"f": math.sin}) and hash(one) == hash(px.Plugin("", host={"f": math.sin}))
    functions = [px.Plugin("const g = x => f(x)", host={"f": f}).function("g") for f in (math.floor, math.ceil)]
    assert [function(1.5) for function in functions] == [1, 2]


def test_a_closed_sandbox_frees_its_functions_and_memory() -> None:
    class Table(dict[str, int]): ...

    def get(table: Table = Table()) -> int:  # noqa: B008
        return len(table)

    held = weakref.ref(get.__defaults__[0])  # type: ignore[index]
    for _ in range(3):
        sandbox = px.Sandbox(px.Plugin("const f = () => get()", host={"get": get}).image(), host={"get": get})
        assert sandbox.call("f", 0) == 0
        made = instance_of(sandbox)
        assert made is not None
        instance = weakref.ref(made)
        del made
        sandbox.close()
        gc.collect()
        assert instance() is None
    del sandbox, get
    kept_images.images.clear()
    gc.collect()
    assert held() is None


def test_an_interruption_is_raised_once() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    plugin = px.Plugin("const f = () => stop()", host={"stop": interrupted})
    with px.Sandbox(plugin) as sandbox, pytest.raises(KeyboardInterrupt):
        sandbox.call("f", 0)
    # The next failure that wasmtime's own package sees: a segment outside of memory.
    fields = '(memory (export "memory") 1) (data (i32.const 65535) "ab")'
    call = '(func (export "__guest_call") (param i32 i32) (result i32) (i32.const 1))'
    with pytest.raises(px.PluginError, match="out of bounds"):
        px.Sandbox(px.WasmPlugin(bytes(wasmtime.wat2wasm(f"(module {fields} {call})"))))


# Exceptions where WebAssembly calls Python


def test_an_interruption_while_the_plugin_computes_ends_the_job() -> None:
    begun = threading.Event()
    source = """function f() { begun(); for (;;) { for (let i = 0; i < 1e5; i++); nothing() } }"""

    def interrupt() -> None:
        begun.wait()
        signal.raise_signal(signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with px.Sandbox(px.Plugin(source, host={"begun": begun.set, "nothing": lambda: None})) as sandbox:
        with pytest.raises(KeyboardInterrupt):
            sandbox.call("f", None)
        interrupter.join()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_raises_nothing_leaves_the_job_alone() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: seen.append(number))
    plugin = px.Plugin(
        "function f() { send(); return nothing() }",
        host={"send": lambda: signal.raise_signal(signal.SIGUSR1), "nothing": lambda: 1},
    )
    try:
        with px.Sandbox(plugin) as sandbox:
            assert sandbox.call("f", None) == 1
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]


def test_a_call_near_the_recursion_limit_fails_as_such() -> None:
    def deep(left: int) -> Any:
        return deep(left - 1) if left else sandbox.call("f", 1)

    with px.Sandbox(px.Plugin("const f = x => g(x)", host={"g": lambda x: x})) as sandbox:
        ended = []
        for depth in range(sys.getrecursionlimit() - 150, sys.getrecursionlimit()):
            try:
                ended.append(deep(depth))
            except (RecursionError, ctypes.ArgumentError):
                ended.append(None)
        assert set(ended) == {1, None}
        assert sandbox.call("f", 1) == 1
