"""Results that misbehave when they are written, and documents that misbehave when they are read."""

from __future__ import annotations

import json
from typing import Any

import pytest

import parallel_exec as px
from tests.attacks.attack import CALM, PATIENT, PLUGIN, Attack, judged, loops

WRITTEN: dict[str, tuple[str, Any]] = {
    "undefined": ("return undefined", None),
    "function": ("return () => 1", None),
    "symbol": ("return Symbol()", None),
    "nan": ("return [NaN, Infinity, -0]", [None, None, 0]),
    "holes": ("return [, 1, ,]", [None, 1, None]),
    "to-json-undefined": ("return {toJSON() {}}", None),
    "to-json-itself": ("return {toJSON() { return this }, a: 1}", {"a": 1}),
    "to-json-changes": ("const o = {a: 1, toJSON() { o.b = 2; delete o.a; return o }}; return o", {"b": 2}),
    "getter-deletes": ("return {get a() { delete this.b; return 1 }, b: 2, c: 3}", {"a": 1, "c": 3}),
    "getter-adds": ("return {get a() { this.z = 1; return 1 }, b: 2}", {"a": 1, "b": 2}),
    "getter-shrinks-the-array": ("const a = [{get x() { a.length = 1; return 1 }}, 2, 3]; return a", [{"x": 1}, None, None]),
    "getter-grows-the-array": ("const a = [{get x() { a.push(a.length); return 1 }}, 2]; return a", [{"x": 1}, 2]),
    "getter-frees-the-array": ("const o = {a: [{toJSON() { o.a = null; return 1 }}, 'x'.repeat(3)]}; return o", {"a": [1, "xxx"]}),
    "getter-makes-a-getter": ("return {get a() { Object.defineProperty(this, 'b', {get: () => 7, enumerable: true}); return 1 }, b: 2}",
                              {"a": 1, "b": 7}),
    "getter-collects": ("return [1, 2, 3].map(n => ({get x() { const a = []; for (let i = 0; i < 1e4; i++) a.push({a}); return n }}))",
                        [{"x": 1}, {"x": 2}, {"x": 3}]),
    "getter-detaches": ("const b = new ArrayBuffer(8), v = new Uint8Array(b); return [{get x() { b.transfer(); return 1 }}, v]",
                        [{"x": 1}, {}]),
    "typed-shrinks": (("const b = new ArrayBuffer(8, {maxByteLength: 8}), v = new Uint8Array(b);"
                      " return [{toJSON() { b.resize(2); return 1 }}, v]"), [1, {"0": 0, "1": 0}]),
    "proxy-keys-twice": (("return new Proxy({}, {ownKeys: () => ['a', 'b'], get: (t, k) => k,"
                         " getOwnPropertyDescriptor: () => ({enumerable: true, configurable: true})})"), {"a": "a", "b": "b"}),
    "proxy-array-lies": ("return new Proxy([], {get: (t, k) => k === 'length' ? 3 : k === 'toJSON' ? undefined : k})", ["0", "1", "2"]),
    "proxy-length-changes": ("let n = 0; return new Proxy([], {get: (t, k) => k === 'length' ? ++n : undefined})", [None]),
    "boxed": ("return [new Number(1), new String('s'), new Boolean(false)]", [1, "s", False]),
    "boxed-lies": ("return Object.assign(new Number(1), {valueOf: () => 7, toString: () => '8'})", 7),
    "array-prototype-to-json": ("Array.prototype.toJSON = () => 'array'; return [1, {a: []}]", "array"),
    "object-prototype-to-json": ("Object.prototype.toJSON = () => 'object'; return {a: 1}", "object"),
    "string-prototype-to-json": ("String.prototype.toJSON = () => 7; return ['a']", ["a"]),
    "proto-key": ("return JSON.parse('{\"__proto__\": {\"a\": 1}}')", {"__proto__": {"a": 1}}),
    "integer-keys": ("return {b: 1, 2: 1, 1: 1, a: 1}", {"1": 1, "2": 1, "b": 1, "a": 1}),
    "stringify-replaced": ("JSON.stringify = () => { throw 1 }; return {a: 1}", {"a": 1}),
    "promise": ("return Promise.resolve({a: Promise.resolve(1)})", {"a": {}}),
    "thenable": ("return Promise.resolve({then(r) { r(5) }})", 5),
    "surrogate": ("return ['\\ud800', '\\udc00\\ud800']", ["\ud800", "\udc00\ud800"]),
    "many-keys": ("const o = {}; for (let i = 0; i < 2e3; i++) o['k' + i] = i; return Object.keys(o).length", 2000),
}  # fmt: skip

FAILING = [
    Attack("cycle", "const a = {}; a.a = a; return a", (px.JSError,), "TypeError: circular"),
    Attack("cycle-array", "const a = []; a.push([a]); return a", (px.JSError,), "TypeError: circular"),
    Attack("cycle-through-to-json", "const a = {b: {toJSON: () => a}}; return a", (px.JSError,), "TypeError: circular"),
    Attack("endless-nesting", "const f = () => ({a: {toJSON: f}}); return f()", (px.JSError,), "RangeError"),
    Attack("bigint", "return [1n]", (px.JSError,), "TypeError"),
    Attack("bigint-alone", "return 1n", (px.JSError,), "TypeError"),
    Attack("to-json-throws", "return {toJSON() { throw new RangeError('mine') }}", (px.JSError,), "RangeError: mine"),
    Attack("getter-throws", "return {get a() { throw new Error('mine') }}", (px.JSError,), "Error: mine"),
    Attack("revoked-proxy", "const p = Proxy.revocable([], {}); p.revoke(); return p.proxy", (px.JSError,), "TypeError"),
    Attack("revoked-inside", "const p = Proxy.revocable({}, {}); return [{get a() { p.revoke(); return 1 }}, p.proxy]", (px.JSError,), "TypeError"),
    Attack("pending", "return new Promise(() => {})", (px.JSError,), "can never settle"),
    Attack("then-never", "return Promise.resolve({then() {}})", (px.JSError,), "can never settle"),
    Attack("rejected", "return Promise.reject(new TypeError('mine'))", (px.JSError,), "TypeError: mine"),
    Attack("large-string", "return 'x'.repeat(5e6)", (px.OutputTooLarge,), "Limits.output_bytes=4194304"),
    Attack("large-array", "return new Array(3e6).fill(1)", (px.OutputTooLarge,)),
    Attack("large-escapes", "return '\\u0001'.repeat(1e6)", (px.OutputTooLarge,)),
    Attack("large-keys", "return {['k'.repeat(5e6)]: 1}", (px.OutputTooLarge,)),
    Attack("large-bytes", "return new Uint8Array(5e6)", (px.OutputTooLarge,)),
    Attack("large-growing", "return {toJSON() { return 'x'.repeat(1e7) }}", (px.OutputTooLarge,)),
    Attack("many-times-the-same", "let a = ['x'.repeat(100)]; for (let i = 0; i < 25; i++) a = [a, a]; return a", (px.OutputTooLarge,)),
    Attack("proxy-length", "return new Proxy([], {get: (t, k) => k === 'length' ? 2 ** 53 - 1 : undefined})", (px.OutputTooLarge,)),
    Attack("sparse", "return Object.assign([], {length: 2 ** 32 - 1})", (px.OutputTooLarge,)),
]  # fmt: skip

ENDLESS = {
    "endless-to-json": "return {toJSON() { for (;;); }}",
    "endless-getter": "return {get a() { for (;;); }}",
    "endless-getter-late": "return [...new Array(1000).fill({a: [1, 'b']}), {get a() { for (;;); }}]",
    "endless-proxy-keys": "return new Proxy({}, {ownKeys() { for (;;); }})",
    "endless-proxy-get": "return new Proxy([1], {get() { for (;;); }})",
    "endless-value-of": "return Object.assign(new Number(1), {valueOf() { for (;;); }})",
    "endless-then": "return Promise.resolve({then() { for (;;); }})",
    "endless-caught": "return [1, {toJSON() { try { for (;;); } catch { return 1 } }}]",
    "endless-growing": "const a = [{toJSON() { a.push(a[0]); return 1 }}]; for (;;) a.length = 1, JSON.stringify(a)",
}


def bytes_of(text: str, count: int) -> bytes:
    return text.encode() * count


CYCLIC: list[Any] = []
CYCLIC.append(CYCLIC)

READ = [
    Attack("document-empty", document=b"", errors=(px.InvalidDocument,)),
    Attack("document-blank", document=b" \n\t ", errors=(px.InvalidDocument,)),
    Attack("document-half", document=b'{"a": [1, 2', errors=(px.InvalidDocument,), says="ends too early"),
    Attack("document-string-half", document=b'"abc', errors=(px.InvalidDocument,)),
    Attack("document-escape-half", document=b'"\\u12', errors=(px.InvalidDocument,)),
    Attack("document-two", document=b"1 2", errors=(px.InvalidDocument,), says="(at byte 2)"),
    Attack("document-comma", document=b"[1,]", errors=(px.InvalidDocument,)),
    Attack("document-comment", document=b"/**/1", errors=(px.InvalidDocument,)),
    Attack("document-nul", document=b"\0" * 1000, errors=(px.InvalidDocument,)),
    Attack("document-nul-inside", document=b'"a\0b"', errors=(px.InvalidDocument,)),
    Attack("document-code", document=b"(() => { for (;;); })()", errors=(px.InvalidDocument,)),
    Attack("document-utf16", document='{"a":1}'.encode("utf-16"), errors=(px.InvalidDocument,)),
    Attack("document-bom", document=b"\xef\xbb\xbf1", errors=(px.InvalidDocument,)),
    Attack("document-bad-utf8", document=b'"\xff\xfe"', errors=(px.InvalidDocument,), says="UTF-8"),
    Attack("document-overlong", document=b'"\xc0\x80"', errors=(px.InvalidDocument,), says="UTF-8"),
    Attack("document-surrogate-bytes", document=b'"\xed\xa0\x80"', errors=(px.InvalidDocument,), says="UTF-8"),
    Attack("document-deep-arrays", document=b"[" * 500_000 + b"]" * 500_000, errors=(px.InvalidDocument,), says="nested too deeply"),
    Attack("document-deep-objects", document=b'{"a":' * 100_000 + b"1" + b"}" * 100_000, errors=(px.InvalidDocument,), says="nested"),
    Attack("document-brackets", document=b"[" * 5_000_000, errors=(px.InvalidDocument,)),
    Attack("document-number", document=b"9" * 5_000_000, says=None),
    Attack("document-number-fraction", document=b"0." + b"0" * 1_000_000 + b"1e1000001", says=1),
    Attack("document-exponent", document=b"1e" + b"9" * 1_000_000, says=None),
    Attack("document-string-escapes", document=b'"' + b"\\u0041" * 500_000 + b'"', says="A" * 500_000),
    Attack("document-duplicates", document=b"{" + b'"a":1,' * 100_000 + b'"a":2}', says={"a": 2}),
    Attack("document-proto", document=b'{"__proto__": {"polluted": 1}, "constructor": 1}', says={"__proto__": {"polluted": 1}, "constructor": 1}),
    Attack("document-to-json", document=b'{"toJSON": 1, "then": 2, "valueOf": 3}', says={"toJSON": 1, "then": 2, "valueOf": 3}),
    Attack("document-zero-key", document=b'{"": {"": 1}}', says={"": {"": 1}}),
    Attack("document-large", document=b'"' + b"x" * 17_000_000 + b'"', errors=(px.InvalidDocument,), says="Limits.document_bytes"),
    Attack("document-fills", document=b"[" + b"{}," * 3_000_000 + b"1]", errors=(px.MemoryLimitExceeded,), limits=PATIENT),
    Attack("document-many-keys", document=json.dumps({f"k{i}": i for i in range(500_000)}).encode(), errors=(px.MemoryLimitExceeded,), limits=PATIENT),
    Attack("document-value-cyclic", document=CYCLIC, errors=(px.InvalidDocument,)),
    Attack("document-value-object", document=object(), errors=(px.InvalidDocument,)),
    Attack("document-value-large-number", document=1 << 70, errors=(px.InvalidDocument,)),
]  # fmt: skip

TABLE = [Attack(f"written-{name}", code, (), says) for name, (code, says) in WRITTEN.items()]
TABLE += [*FAILING, *loops(ENDLESS), *READ]


test_in_a_sandbox, test_in_a_pool = judged(TABLE)


def test_a_value_that_changes_while_it_is_written_is_still_json() -> None:
    code = "let n = 0; const o = {get a() { o['k' + n++] = 1; return n }}; for (let i = 0; i < 50; i++) o['x' + i] = {toJSON() { delete o['x' + (i + 1)]; return [n++] }}; return o"
    with px.Sandbox(PLUGIN, limits=CALM) as sandbox:
        text = sandbox.call_bytes("attack", code)
        assert isinstance(json.loads(text), dict)
        assert sandbox.call_bytes("attack", f"return JSON.parse(JSON.stringify((() => {{ {code} }})()))") == text


@pytest.mark.parametrize("padding", [0, 1, 15, 16, 17, 63, 64, 65])
def test_a_document_that_ends_anywhere(padding: int) -> None:
    text = b'{"a": ["b\\n", 1.5e3, true, null, "\xc3\xa4"]}'
    with px.Sandbox(PLUGIN, limits=CALM) as sandbox:
        for end in range(len(text)):
            with pytest.raises(px.InvalidDocument):
                sandbox.call("echo", b" " * padding + text[:end])
        assert sandbox.call("echo", b" " * padding + text) == {"a": ["b\n", 1500, True, None, "ä"]}
