"""Whatever a plugin throws becomes one error with the right place, and the next job knows nothing of it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

import parallel_exec as px
from parallel_exec.sandbox._js.outcome import location
from parallel_exec.sandbox._text import read_text

SandboxOf = Callable[..., px.Sandbox]
GOOD = "\nfunction good(x) { return 2 * x }"


def error_of(sandbox: px.Sandbox, function: str = "f", document: Any = 1) -> px.PexecError:
    """The error of a call, after a look at how it travels and at the job that follows it."""
    with pytest.raises(px.PexecError) as caught:
        sandbox.call(function, document)
    error = caught.value
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
    str(error).encode()
    assert error.plugin is not None
    assert error.function == function
    assert str(error).startswith(f"{error.plugin}: {function}(): ")
    return error


def js_error_of(sandbox: px.Sandbox) -> px.JSError:
    error = error_of(sandbox)
    assert isinstance(error, px.JSError)
    assert sandbox.call("good", 21) == 42
    return error


def thrown(sandbox_of: SandboxOf, value: str, **limits: Any) -> px.JSError:
    return js_error_of(sandbox_of(f"function f() {{ throw {value} }}{GOOD}", **limits))


PLACES = [
    ("function f() {\n  null.x\n}", (2, 8), "f"),
    ("export function f() {\n  null.x\n}\nexport function good(x) { return 2 * x }", (2, 8), "f"),
    (
        "function f() {\n  return g()\n}\nfunction g() {\n\n    h()\n}\nconst h = () => {\n throw Error() }",
        (9, 13),
        "h",
    ),
    ("function f() {\n  return [1].map(x => {\n    return missing;\n  })\n}", (3, 12), "<anonymous>"),
    ("class A { get x() { throw Error() } }\nfunction f() { return new A().x }", (1, 32), "get x"),
    ("async function f() {\n  await null;\n  null.x\n}", (3, 8), "f"),
    ("function f() {\n  return Promise.reject(Error('later'))\n}", (2, 31), "f"),
    ("function f() {\n  JSON.parse('{')\n}", (2, 13), "parse"),
    ("function f() {\n  eval('\\n\\n  null.x')\n}", (2, 7), "<eval>"),
    ("function f() {\n  new RegExp('(')\n}", (2, 9), "RegExp"),
    ("/* ä ö 日本 */ function f() {\n  /* 日本 */ null.x\n}", (2, 17), "f"),
    ("function f() {\r\n  null.x\r\n}", (2, 8), "f"),
]


@pytest.mark.parametrize(("source", "place", "function"), PLACES)
@pytest.mark.parametrize("name", ["a.js", "dir/my file (1).js", "C:\\a.js", "é:1:2.js", "<stdin>"])
def test_an_error_says_where(
    sandbox_of: SandboxOf, source: str, place: tuple[int, int], function: str, name: str
) -> None:
    if "good" not in source:
        source += GOOD
    error = js_error_of(sandbox_of(source, name=name))
    if name == "<stdin>" and function in ("parse", "<eval>"):
        assert error.line is not None  # what was parsed is no file either
        return
    assert error.file == name
    assert error.line == place[0]
    # The column of an expression changes by a few between releases of the engine.
    assert error.column is not None
    assert abs(error.column - place[1]) <= 6
    assert f"at {function} (" in error.js_stack
    assert str(error).endswith(f"(at {name}:{error.line}:{error.column})")
    assert error.plugin == name


def test_the_innermost_file_is_the_place() -> None:
    assert location("") == (None, None, None)
    assert location("    at f (native)\n    at g (a.js:1:2)\n    at h (b.js:3:4)\n") == ("a.js", 1, 2)
    assert location("    at <input>:1:5\n    at parse (native)\n    at f (a.js:7:8)\n") == ("a.js", 7, 8)
    assert location("    at <input>:1:5\n    at <eval> (<null>:0:1)\n") == ("<input>", 1, 5)
    assert location("    at my file (1).js:3:9\n") == ("my file (1).js", 3, 9)


@pytest.mark.parametrize(
    "stack",
    [
        "    at evil (evil.js:" + "9" * 5000 + ":1)",
        "    at evil (evil.js:1:" + "9" * 10 + ")",
        "    at evil (evil.js:²:1)",
        "    at evil (evil.js:-1:1)",
        "    at evil (:1:1)",
        "at (" * 4000,
        "at x" + ":x" * 8000,
        "\n" * 16000 + "at",
        " (" * 8000,
        "    at x" * 2000,
    ],
)
def test_a_stack_that_the_plugin_made_up(sandbox_of: SandboxOf, stack: str) -> None:
    assert location(stack) == (None, None, None)
    sandbox = sandbox_of(f"function f(stack) {{ throw Object.assign(Error('x'), {{stack}}) }}{GOOD}")
    error = error_of(sandbox, "f", stack)
    assert isinstance(error, px.JSError)
    assert (error.file, error.message) == (None, "x")


NON_ERRORS = {
    "null": "null",
    "1": "1",
    "-0": "0",
    "12n": "12",
    "true": "true",
    "'text'": "text",
    "''": "",
    "'ä\\u2028日本'": "ä\u2028日本",
    "[1, [2]]": "1,2",
    "{}": "[object Object]",
    "{name: 'n', message: 'm'}": "[object Object]",
    "{toString: () => 'mine'}": "mine",
    "new String('boxed')": "boxed",
    "x => 1": "x => 1",
    "new Proxy({}, {})": "[object Object]",
}


@pytest.mark.parametrize(("value", "text"), NON_ERRORS.items())
def test_thrown_values_that_are_no_errors(sandbox_of: SandboxOf, value: str, text: str) -> None:
    error = thrown(sandbox_of, value)
    assert (error.name, error.message, error.js_stack) == ("throw", text, "")
    assert (error.file, error.line, error.column) == (None, None, None)


AWKWARD = [
    "undefined",
    "Symbol('s')",
    "Symbol.iterator",
    "Object(Symbol())",
    "Object.create(null)",
    "globalThis",
    "new Proxy({}, {get() { throw 1 }})",
    "new Proxy({}, {get() { throw new Error('again') }})",
    "new Proxy(new Error('behind'), {})",
    "new Proxy(new Error('behind'), {getPrototypeOf() { throw 1 }})",
    "(() => { const r = Proxy.revocable({}, {}); r.revoke(); return r.proxy })()",
    "(() => { const r = Proxy.revocable(() => 1, {}); r.revoke(); return r.proxy })()",
    "{toString() { throw 1 }}",
    "{toString: () => ({})}",
    "{toString: null, valueOf: null}",
    "{[Symbol.toPrimitive]: 1}",
    "{[Symbol.toPrimitive]() { throw this }}",
    "{get toString() { throw 1 }}",
    "Object.defineProperty(Error('x'), 'message', {get() { throw 1 }})",
    "Object.defineProperty(Error('x'), 'message', {value: Symbol()})",
    "Object.defineProperty(Error('x'), 'message', {value: {toString() { throw 1 }}})",
    "Object.defineProperty(Error('x'), 'name', {get() { throw 1 }})",
    "Object.defineProperty(Error('x'), 'name', {value: undefined})",
    "Object.defineProperty(Error('x'), 'stack', {get() { throw 1 }})",
    "Object.defineProperty(Error('x'), 'stack', {value: {}})",
    "Object.defineProperty(Error('x'), 'stack', {value: null})",
    "Object.setPrototypeOf(Error('x'), null)",
    "Object.setPrototypeOf(Error('x'), new Proxy({}, {get() { throw 1 }}))",
    "Object.create(Error.prototype)",
    "Error.prototype",
    "new AggregateError([1, Error('inner')], 'many')",
    "new DOMException('dom', 'AbortError')",
    "Object.freeze(Error('frozen'))",
    "(() => { const e = Error('self'); e.cause = e; return e })()",
    "(() => { Error.prototype.toString = Error.prototype.name = null; return Error('x') })()",
    "(() => { delete Error.prototype.stack; delete Error.prototype.name; return Error('x') })()",
    "(() => { Error.prepareStackTrace = () => { throw 1 }; return Error('x') })()",
    "(() => { Error.prepareStackTrace = () => ({}); return Error('x') })()",
    "(() => { Error.stackTraceLimit = 0; return Error('x') })()",
    "(() => { Error.stackTraceLimit = {valueOf() { throw 1 }}; return Error('x') })()",
    "(() => { String.prototype.toString = Object.prototype.toString = null; return Error('x') })()",
    "(() => { Object.defineProperty(Object.prototype, 'message', {get() { throw 2 }}); return {} })()",
    "(() => { let e; try { null.x } catch (caught) { e = caught } return e })()",
]


@pytest.mark.parametrize("value", AWKWARD)
def test_awkward_values_are_reported_somehow(sandbox_of: SandboxOf, value: str) -> None:
    error = thrown(sandbox_of, value)
    assert error.name
    assert "the engine stopped" not in error.message


LOOPING = [
    "{toString() { for (;;); }}",
    "{[Symbol.toPrimitive]() { for (;;); }}",
    "new Proxy({}, {get() { for (;;); }})",
    "Object.defineProperty(Error('x'), 'message', {get() { for (;;); }})",
    "Object.defineProperty(Error('x'), 'name', {get() { for (;;); }})",
    "Object.defineProperty(Error('x'), 'stack', {get() { for (;;); }})",
    "Object.defineProperty(Error('x'), 'message', {get() { for (;;) try { for (;;); } catch {} }})",
]


@pytest.mark.parametrize("value", LOOPING)
def test_a_loop_while_the_error_is_read_is_a_timeout(sandbox_of: SandboxOf, value: str) -> None:
    sandbox = sandbox_of(f"function f() {{ throw {value} }}{GOOD}", time_s=0.05)
    assert isinstance(error_of(sandbox), px.JobTimeout)
    assert sandbox.call("good", 21) == 42


def test_names_and_messages_are_the_plugins(sandbox_of: SandboxOf) -> None:
    error = thrown(sandbox_of, "Object.assign(Error('no way'), {name: 'Custom'})")
    assert (error.name, error.message) == ("Custom", "no way")
    assert str(error) == f"plugin.js: f(): Custom: no way (at plugin.js:1:{error.column})"
    error = thrown(sandbox_of, "Object.assign(Error(), {name: 5})")
    assert (error.name, error.message) == ("5", "")
    assert str(error) == f"plugin.js: f(): 5 (at plugin.js:1:{error.column})"
    assert thrown(sandbox_of, "new RangeError('r')").name == "RangeError"
    assert thrown(sandbox_of, "Error('nul \\0 and\\nline')").message == "nul \0 and\nline"


@pytest.mark.parametrize("letter", ["x", "é", "日", "\U0001f600"])
def test_huge_messages_are_cut_between_characters(sandbox_of: SandboxOf, letter: str) -> None:
    for value in (f"Error('{letter}'.repeat(1e6))", f"'{letter}'.repeat(1e6)", f"Error('a' + '{letter}'.repeat(1e6))"):
        error = thrown(sandbox_of, value)
        assert 1000 < len(error.message.encode()) <= 16384
        assert set(error.message) <= {letter, "a"}
    error = thrown(sandbox_of, f"Object.assign(Error('{letter}'.repeat(1e6)), {{name: '{letter}'.repeat(1e6)}})")
    assert set(error.name) == {letter}
    assert len(pickle.dumps(error)) < 200_000


def test_lone_surrogates_are_replaced_one_by_one(sandbox_of: SandboxOf) -> None:
    assert thrown(sandbox_of, "Error('\\ud800 \\udc00\\ud83d\\ude00')").message == "\ufffd \ufffd\U0001f600"
    assert thrown(sandbox_of, "'\\udfff'").message == "\ufffd"
    assert thrown(sandbox_of, "Object.assign(Error(), {name: '\\ud800'})").name == "\ufffd"
    assert read_text(b"\xff\xed\xa0\x80") == "\ufffd" * 4  # not even that: what the engine never writes
    assert read_text("ä日\U0001f600".encode()) == "ä日\U0001f600"


def test_errors_do_not_pass_for_limits(sandbox_of: SandboxOf) -> None:
    for message in ("out of memory", "interrupted", "stack overflow"):
        for kind in ("Error", "InternalError", "RangeError"):
            error = thrown(sandbox_of, f"new {kind}('{message}')")
            assert (error.name, error.message) == (kind, message)


def test_a_promise_that_cannot_settle(sandbox_of: SandboxOf) -> None:
    for body in (
        "return new Promise(() => {})",
        "return (async () => ({then() {}}))()",
        "return (async () => { await {then() {}} })()",
    ):
        error = js_error_of(sandbox_of(f"function f() {{ {body} }}{GOOD}"))
        assert error.name == "Pending"
        assert "can never settle" in error.message


def test_an_error_while_the_result_is_written(sandbox_of: SandboxOf) -> None:
    for body in (
        "return {toJSON() { throw TypeError('while writing') }}",
        "return {get x() { throw TypeError('while writing') }}",
        "return [new Proxy({}, {ownKeys() { throw TypeError('while writing') }})]",
        "return (async () => ({then(resolve, reject) { reject(TypeError('while writing')) }}))()",
    ):
        error = js_error_of(sandbox_of(f"function f() {{ {body} }}{GOOD}"))
        assert (error.name, error.message) == ("TypeError", "while writing")
    assert js_error_of(sandbox_of(f"function f() {{ const a = []; a[0] = a; return a }}{GOOD}")).name == "TypeError"
    assert js_error_of(sandbox_of(f"function f() {{ return 1n }}{GOOD}")).name == "TypeError"


SYNTAX_ERRORS = [
    ("auto", "function f() {\n  return 1 +;\n}", (2, 13)),
    ("auto", "export function f() {\n  return 1 +;\n}", (2, 13)),
    ("auto", "const a = 1;\nconst f = () => {\n  with (\n}", (4, 1)),
    ("auto", "export const a = 1;\nexport const b = ;", (2, 18)),
    ("auto", "const a = await 1;\nexport const f = => 1", (2, 18)),
    ("auto", "\n\n'unterminated", (3, 1)),
    ("script", "function f() {\n  return 1 +;\n}", (2, 13)),
    ("script", "const a = 1;\nexport const f = 1", (2, 1)),
    ("script", "const a = 1;\nconst a = 2;", (2, 9)),
    ("module", "export function f() {\n  return 1 +;\n}", (2, 13)),
    ("module", "const a = 1;\nwith (Math) { }", (2, 1)),
    ("module", "export const f = 1;\nreturn 5", (2, 1)),
    ("module", "export const f = 1;\nexport { g }", (2, 1)),
]


@pytest.mark.parametrize(("kind", "source", "place"), SYNTAX_ERRORS)
def test_syntax_errors_say_where(kind: Any, source: str, place: tuple[int, int]) -> None:
    with pytest.raises(px.PluginError, match="does not compile: SyntaxError: ") as caught:
        px.Sandbox(px.Plugin(source, name="bad.js", kind=kind))
    error = caught.value
    if error.line is None:
        assert "export" in str(error)  # found when the module is linked, which knows no place
    else:
        assert (error.file, error.line) == ("bad.js", place[0])
        assert abs((error.column or 0) - place[1]) <= 6
        assert str(error).endswith(f"(at bad.js:{error.line}:{error.column})")
    assert error.plugin == "bad.js"
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


LOAD_ERRORS = [
    ("let f;\n missing()", "ReferenceError: missing is not defined", 2),
    ("\n\n throw new Error('at the top')", "Error: at the top", 3),
    ("export const a = 1;\n throw new Error('at the top')", "Error: at the top", 2),
    ("export const a = await Promise.reject(Error('awaited'))", "Error: awaited", 1),
    ("throw 5", "throw: 5", None),
    ("throw null", "throw: null", None),
    ("export default 1; throw {toString() { throw 1 }}", "throw: ", None),
    ("(function f() { f() })()", "RangeError: Maximum call stack size exceeded", 1),
]


@pytest.mark.parametrize(("source", "message", "line"), LOAD_ERRORS)
def test_errors_at_the_top_level(source: str, message: str, line: int | None) -> None:
    with pytest.raises(px.PluginError) as caught:
        px.Sandbox(px.Plugin(source, name="bad.js"))
    assert f"bad.js: the plugin fails while it is loaded: {message}" in str(caught.value)
    assert caught.value.line == line


def test_a_top_level_that_never_ends_its_await() -> None:
    with pytest.raises(px.PluginError, match="awaits a promise that can never settle"):
        px.Sandbox(px.Plugin("await new Promise(() => {}); export const f = 1"))


def test_imports_are_refused() -> None:
    for source in ("import x from './x.js';", "export * from 'x';", "export default await import('fs')"):
        for kind in ("module", "auto"):
            with pytest.raises(px.PluginError) as caught:
                px.Sandbox(px.Plugin(source, kind=kind))
            assert "could not load module" in str(caught.value)
            assert "imports nothing" in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "const turf = require('@turf/turf'); function f() {}",
        "module.exports = { f() {} }",
        "exports.f = () => 1",
        "function f() { return require('fs') }",
    ],
)
def test_common_js_is_told_what_to_do_instead(source: str) -> None:
    with pytest.raises((px.PluginError, px.JSError)) as caught:
        px.Plugin(source).function("f")(0)
    assert "a plugin is not a CommonJS module" in str(caught.value)
    assert "bundled into it" in str(caught.value)
    if isinstance(caught.value, px.JSError):
        assert caught.value.message == "require is not defined"
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_what_is_not_a_function_is_missing(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of("const f = 5; var g = {}; let h; function good(x) { return 2 * x }")
    for name in ("f", "g", "h", "missing", "toString.call", "__proto__", "1", "a b", ""):
        error = error_of(sandbox, name)
        assert isinstance(error, px.PluginError)
        assert f"the plugin has no function {name!r}" in str(error)
    assert sandbox.call("good", 2) == 4
    module = sandbox_of("const hidden = () => 1; export const f = x => x", kind="module")
    assert isinstance(error_of(module, "hidden"), px.PluginError)
    assert module.call("f", 3) == 3


def test_the_error_of_a_getter_for_the_function(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of(f"Object.defineProperty(globalThis, 'f', {{get() {{ throw Error('no') }}}}){GOOD}")
    assert js_error_of(sandbox).message == "no"
