"""Throwing odd things: whatever is thrown, the caller gets a bounded error with texts that can be printed and stored."""

from __future__ import annotations

import pickle

import pytest

import parallel_exec as px
from tests.attacks.attack import PLUGIN, Attack, Sandboxes, judged, loops

THROWN = {
    "null": ("null", "null"),
    "undefined": ("undefined", "undefined"),
    "number": ("-0.5", "-0.5"),
    "nan": ("NaN", "NaN"),
    "bigint": ("123n", "123"),
    "boolean": ("false", "false"),
    "string": ("'text'", "text"),
    "string-empty": ("''", ""),
    "string-surrogate": ("'a\\ud800b'", "a\ufffdb"),
    "string-nul": ("'a\\0b'", "a\0b"),
    "symbol": ("Symbol('s')", "[symbol]"),
    "object": ("{}", "[object Object]"),
    "array": ("[1, [2]]", "1,2"),
    "function": ("() => 1", "() => 1"),
    "class": ("class A {}", "class A {}"),
    "date": ("new Date(NaN)", "Invalid Date"),
    "regexp": ("/x/g", "/x/g"),
    "map": ("new Map()", "[object Map]"),
    "null-prototype": ("Object.create(null)", "[a value that cannot be shown]"),
    "revoked-proxy": ("(() => { const p = Proxy.revocable({}, {}); p.revoke(); return p.proxy })()", "cannot be shown"),
    "proxy": ("new Proxy({}, {})", "[object Object]"),
    "proxy-of-error": ("new Proxy(new Error('inner'), {})", "inner"),
    "proxy-throws": ("new Proxy({}, {get() { throw 1 }})", "cannot be shown"),
    "proxy-throws-itself": ("(() => { const p = new Proxy({}, {get() { throw p }}); return p })()", "cannot be shown"),
    "proxy-answers-all": ("(() => { const p = new Proxy(() => p, {get: () => p}); return p })()", "cannot be shown"),
    "to-string-throws": ("{toString() { throw this }}", "cannot be shown"),
    "to-string-object": ("{toString() { return {} }}", "cannot be shown"),
    "to-string-symbol": ("{toString() { return Symbol() }}", "cannot be shown"),
    "to-string-null": ("{toString: null, valueOf: null}", "cannot be shown"),
    "promise": ("Promise.reject(1)", "[object Promise]"),
    "generator": ("(function* () {})()", "[object Generator]"),
    "global": ("globalThis", "[object"),
    "typed-array": ("new Uint8Array(3)", "0,0,0"),
    "error-subclass": ("new (class Mine extends TypeError {})('m')", "TypeError: m"),
    "error-nameless": ("Object.assign(new Error('m'), {name: ''})", "m"),
    "error-name-object": ("Object.assign(new Error('m'), {name: {}})", "[object Object]: m"),
    "error-name-undefined": ("Object.assign(new Error('m'), {name: undefined})", "Error: m"),
    "error-name-symbol": ("Object.assign(new Error('m'), {name: Symbol()})", "Error: m"),
    "error-message-object": ("Object.assign(new Error(), {message: {toString: () => 'deep'}})", "Error: deep"),
    "error-message-symbol": ("Object.assign(new Error(), {message: Symbol()})", "Error"),
    "error-message-throws": ("Object.defineProperty(new Error(), 'message', {get() { throw 1 }})", "Error"),
    "error-name-throws": ("Object.defineProperty(new Error('m'), 'name', {get() { throw 1 }})", "Error: m"),
    "error-stack-throws": ("Object.defineProperty(new Error('m'), 'stack', {get() { throw 1 }})", "Error: m"),
    "error-stack-number": ("Object.defineProperty(new Error('m'), 'stack', {value: 42})", "Error: m"),
    "error-stack-forged": ("Object.assign(new Error('m'), {stack: '    at f (/etc/passwd:1:1)\\n'.repeat(99)})", "Error: m"),
    "error-stack-odd": ("Object.assign(new Error('m'), {stack: 'at ' + '('.repeat(9999) + ':'.repeat(9999)})", "Error: m"),
    "error-gone": ("Object.setPrototypeOf(new Error('m'), null)", "Error: m"),
    "error-frozen": ("Object.freeze(new Error('m'))", "Error: m"),
    "error-out-of-memory": ("new Error('out of memory')", "Error: out of memory"),
    "error-interrupted": ("new Error('interrupted')", "Error: interrupted"),
    "error-internal": ("Object.assign(new Error('out of memory'), {name: 'InternalError'})", "InternalError: out of memory"),
    "error-cyclic-cause": ("(() => { const e = new Error('m'); e.cause = e; return e })()", "Error: m"),
    "aggregate": ("new AggregateError([1, 2], 'm')", "AggregateError: m"),
    "suppressed": ("new SuppressedError(1, 2, 'm')", "SuppressedError: m"),
    "error-of-prototype": ("Error.prototype", "Error"),
    "large-message": ("'x'.repeat(4e6)", "x" * 16384),
    "large-error": ("Object.assign(new Error('x'.repeat(4e6)), {name: 'y'.repeat(4e6), stack: 'z'.repeat(4e6)})", "x" * 16384),
    "large-wide": ("'日'.repeat(1e6)", "日" * 5461),
    "large-array": ("new Array(1e5).fill('x'.repeat(10))", "x,x"),
}  # fmt: skip

ENDLESS = {
    "to-string": "{toString() { for (;;); }}",
    "value-of": "{toString: null, valueOf() { for (;;); }}",
    "to-primitive": "{[Symbol.toPrimitive]() { for (;;); }}",
    "message": "Object.defineProperty(new Error(), 'message', {get() { for (;;); }})",
    "name": "Object.defineProperty(new Error(), 'name', {get() { for (;;); }})",
    "stack": "Object.defineProperty(new Error(), 'stack', {get() { for (;;); }})",
    "message-object": "Object.assign(new Error(), {message: {toString() { for (;;); }}})",
    "message-catches": "Object.defineProperty(new Error(), 'message', {get() { try { for (;;); } catch { return 1 } }})",
    "proxy": "new Proxy({}, {get() { for (;;); }})",
    "proxy-prototype": "new Proxy(new Error(), {getPrototypeOf() { for (;;); }, get() { for (;;); }})",
}

WAYS = {
    "thrown": "throw {}",
    "rejected": "return Promise.reject({})",
    "async": "return (async () => { await null; throw {} })()",
    "while-written": "return {{toJSON() {{ throw {} }}}}",
    "while-read": "return {{get x() {{ throw {} }}}}",
}


def code(way: str, value: str) -> str:
    return WAYS[way].replace("{{", "{").replace("}}", "}").replace("{}", f"({value})", 1)


TABLE = [Attack(name, f"throw ({value})", (px.JSError,), says) for name, (value, says) in THROWN.items()]
TABLE += [
    Attack(f"{way}-{name}", code(way, THROWN[name][0]), (px.JSError,), THROWN[name][1])
    for way in WAYS
    if way != "thrown"
    for name in ("null", "undefined", "symbol", "revoked-proxy", "proxy-throws-itself", "error-message-throws")
]
TABLE += loops({f"endless-{name}": f"throw ({value})" for name, value in ENDLESS.items()})
TABLE += loops({f"endless-rejected-{name}": f"return Promise.reject({value})" for name, value in ENDLESS.items()})
TABLE += [
    # 100 MB do not fit the job's memory: they are refused before they become a message.
    Attack("message-of-100-mb", "throw new Error('x'.repeat(1e8))", (px.MemoryLimitExceeded,)),
    Attack("message-while-reported", "throw Object.defineProperty(new Error(), 'message', {get: () => 'x'.repeat(1e8)})",
           (px.MemoryLimitExceeded, px.JSError)),
]  # fmt: skip
FITTING = px.Limits(time_s=60.0, memory_bytes=512 << 20, output_bytes=1 << 20)


test_in_a_sandbox, test_in_a_pool = judged(TABLE)


@pytest.mark.parametrize("attack", [each for each in TABLE if each.errors == (px.JSError,)], ids=lambda each: each.name)
def test_the_error_is_fit_to_be_kept(sandboxes: Sandboxes, attack: Attack) -> None:
    with pytest.raises(px.JSError) as caught:
        sandboxes.of(attack.limits).call(*attack.call)
    error = caught.value
    for text in (str(error), error.name, error.message, error.js_stack):
        assert isinstance(text, str)
        text.encode()  # no lone surrogates: it can be printed and stored
        assert len(text) < 50_000
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and vars(again) == vars(error)


def test_a_message_of_100_mb_that_fits() -> None:
    with px.Sandbox(PLUGIN, limits=FITTING) as sandbox, pytest.raises(px.JSError) as caught:
        sandbox.call("attack", "throw new Error('x'.repeat(1e8))")
    assert caught.value.message == "x" * 16384
