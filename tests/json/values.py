"""Random JavaScript values for the writer, as source text.

Each snippet is an expression; a `@` in it stands for another one. What a value does when it is looked at, it tells in the
array `log` of oracle.js. scripts/fuzz_json compiles the same snippets into the native fuzz target.
"""

# ruff: noqa: E501 (an expression stays on one line)

from __future__ import annotations

from hypothesis import strategies as st

LEAVES = (
    "0", "-0", "1", "-7", "2147483648", "0.1", "1e21", "5e-324", "1.5e300", "123456789.125", "NaN", "Infinity",
    "-Infinity",
    "null", "true", "false", "undefined", "Symbol('s')", "Symbol.iterator", "() => 1", "function f() {}", "class {}",
    "1n", "10n ** 40n",
    "''", "'plain'", "'\"\\\\/'", "'\\b\\f\\n\\r\\t\\v\\0'", "'\\x7f\\x80\\xff'", "'\\u2028\\u2029'",
    "'\u20ac\u00e9'", "'\\ud83d\\ude00'",
    "'\\ud800'", "'\\udc00'", "'\\udc00\\ud800'", "'a\\ud83d'", "'\\ud83dx\\ude00'", "'\\ud800\\ud800\\udc00'",
    "Array.from({ length: 300 }, (_, i) => String.fromCharCode(i)).join('')",
    "Array.from({ length: 34 }, (_, i) => String.fromCharCode(0xd7f0 + i)).join('')", "'x'.repeat(5000)",
    "'\\u0001'.repeat(1000)",
    "'\\ud800'.repeat(5000)", "'\u20ac'.repeat(5000)", "'ab'.repeat(8).slice(3)", "'x'.repeat(40) + 'y'.repeat(9000)",
    "('\\ud83d' + '\\ude00')", "Array.from({ length: 50 }, (_, i) => 'rope ' + i).reduce((a, b) => a + b)",
    "new Number(3)", "new Number(NaN)", "new Number(-0)", "new String('s\\n')", "new Boolean(false)", "Object(1n)",
    "Object(Symbol())",
    "new Date(0)", "new Date(NaN)", "/x/g", "new Map([[1, 2]])", "new Set([1])", "new WeakMap()", "new Error('e')",
    "new Uint8Array([1, 2])", "new Float64Array([1.5, NaN])", "new ArrayBuffer(3)", "new DataView(new ArrayBuffer(1))",
    "new BigInt64Array(2)", "Promise.resolve(1)", "(function () { return arguments })(1, 'two')", "globalThis.Math",
    "JSON",
    "JSON.rawJSON('1e1000')", "JSON.rawJSON('\"raw\\\\u0041\"')", "JSON.rawJSON('null')", "[]", "{}",
    "Object.create(null)", "[,]", "[1, , 3]",
    "[undefined, () => 1, Symbol()]", "({ a: undefined, b: () => 1, c: Symbol() })", "new Array(5)",
    "new Proxy({}, {})", "new Proxy([], {})",
    "new Proxy(() => 1, {})", "({ __proto__: null })", "({ ['__proto__']: 1 })", "({ '': 1 })",
    "({ 1: 'b', 0: 'a', x: 'c', '-1': 'd' })",
    "({ a: 1, 4294967294: 2, 4294967295: 3 })", "({ [Symbol('hidden')]: 1, shown: 2 })",
    "({ 'k\"\\n\\u20ac\\ud800': 1 })", "new (class A { #private = 1; open = 2 })()",
    "({ ['long'.repeat(30)]: 1 })", "(function* () {})()", "new (class extends Array {})(1, 2)",
    "new (class B { get g() { return 1 } })()",
    "Object.fromEntries(Array.from({ length: 400 }, (_, i) => ['k' + i, i]))",
    "Array.from({ length: 70 }, (_, i) => ({ ['s' + i]: i }))",
    "Array.from({ length: 20 }, (_, i) => i / 7)", "({ toJSON: 1 })", "({ toJSON: null, a: 1 })",
    "({ toJSON: undefined })",
    "({ a: 1, toJSON() { return undefined } })", "({ toJSON() { throw new RangeError('no') } })",
    "({ get a() { throw new Error('get') } })",
    "({ get toJSON() { throw 'a string' } })", "({ toJSON(key) { log.push('key ' + typeof key + key); return key } })",
    "(() => { const a = []; a.push(a); return a })()", "(() => { const o = {}; o.o = { deep: [o] }; return o })()",
    "(() => { const s = { s: 1 }; return [s, s, { s }] })()",
    "(() => { const o = { a: 1, b: 2 }; delete o.a; o.a = 3; return o })()",
    "(() => { const a = [1, 2, 3]; a.extra = 1; a[-1] = 2; return a })()",
    "(() => { const a = [1, 2, 3]; a.length = 1; a[4] = 5; return a })()",
    "(() => { const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); return proxy })()",
    "(() => { const { proxy, revoke } = Proxy.revocable([], {}); revoke(); return [proxy] })()",
    "(() => { let v = 1; for (let i = 0; i < 150; i++) v = i % 2 ? [v] : { v }; return v })()",
)  # fmt: skip

BRANCHES = (
    "[@]", "[@, @]", "[@, @, @]", "[@, , @]", "({ a: @ })", "({ a: @, b: @ })", "({ b: @, a: @, c: @ })",
    "({ 1: @, a: @, 0: @ })", "({ a: @, [Symbol()]: @ })",
    "[{ a: @, b: @ }, { a: @, b: @ }, { a: @ }, { b: @, a: @ }]", "({ get a() { log.push('a'); return @ }, b: @ })",
    "Object.freeze({ a: @, b: @ })",
    "Object.freeze([@, @])", "Object.assign(Object.create({ inherited: 1 }), { a: @ })",
    "Object.assign(Object.create(null), { a: @, b: @ })",
    "new (class { constructor() { this.a = @ } })()", "new (class { a = @; #b = 1; static c = 2 })()",
    "Object.assign([@, @], { extra: @ })",
    "Object.defineProperty({ a: @ }, 'hidden', { value: 1 })",
    "Object.defineProperty({ a: @ }, 'a', { enumerable: false })",
    "Object.defineProperty({ a: 1, b: @ }, 'a', { get() { log.push('got'); return @ } })",
    "Object.defineProperty([1, 2, 3], 1, { get: () => @ })",
    "({ toJSON() { return @ }, a: 1 })", "({ toJSON(key) { log.push(key); return this.v }, v: @ })",
    "({ a: { toJSON: () => @ }, b: @ })",
    "Object.assign(() => 1, { toJSON: () => @ })", "Object.assign(new Date(0), { toJSON: () => @ })",
    "Object.assign(new Number(1), { valueOf: () => 5, toJSON: undefined })",
    "Object.assign(new Number(1), { valueOf() { log.push('v'); return 5 } })",
    "Object.assign(new String('s'), { toString() { log.push('t'); return 'u' } })",
    "Object.assign(new String('s'), { toString: () => { throw new Error('t') } })",
    "Object.assign(new Boolean(true), { valueOf: () => false, a: @ })",
    "new Proxy({ a: @, b: @ }, {})", "new Proxy([@, @], {})", "new Proxy(new Proxy([@], {}), {})",
    "({ p: new Proxy({ a: @ }, {}), q: @ })",
    ("new Proxy({ a: @, b: @ }, { get(t, k) { log.push('get ' + String(k)); return Reflect.get(t, k) }, ownKeys(t) { log.push('keys'); return Reflect.ownKeys(t) }, "
    "getOwnPropertyDescriptor(t, k) { log.push('desc ' + String(k)); return Reflect.getOwnPropertyDescriptor(t, k) }, has(t, k) { log.push('has ' + String(k)); return Reflect.has(t, k) }, "
    "getPrototypeOf(t) { log.push('proto'); return Reflect.getPrototypeOf(t) } })"),
    "new Proxy([@, @], { get(t, k) { log.push('get ' + String(k)); return k === 'length' ? 3 : Reflect.get(t, k) } })", ("new Proxy({}, { ownKeys: () => ['x', 'y'], "
    "getOwnPropertyDescriptor: (t, k) => ({ value: 1, enumerable: k === 'x', configurable: true }), get: () => @ })"),
    "new Proxy([], { get: (t, k) => k === 'length' ? -1 : @ })",
    "new Proxy([], { get: (t, k) => { if (k === 'length') throw new TypeError('length'); return @ } })",
    "new Proxy({}, { ownKeys() { throw new Error('keys') } })",
    # getters and toJSON that change what is being written
    "(() => { const o = { a: 1, get b() { delete o.c; return @ }, c: @, d: 4 }; return o })()",
    "(() => { const o = { a: 1, get b() { o.c = @; o.e = 5; return 2 }, c: @, d: 4 }; return o })()",
    "(() => { const o = { a: { toJSON() { delete o.b; return @ } }, b: @, c: 3 }; return o })()",
    "(() => { const o = { a: { toJSON() { o.b = @; o.z = 9; return 1 } }, b: 2, c: @ }; return o })()",
    "(() => { const o = { a: { toJSON() { Object.defineProperty(o, 'b', { get() { log.push('late'); return @ } }); return 1 } }, b: 2, c: 3 }; return o })()",
    "(() => { const o = { a: { toJSON() { Object.defineProperty(o, 'b', { enumerable: false }); return 1 } }, b: @, c: 3 }; return o })()",
    "(() => { const o = { a: { toJSON() { Object.setPrototypeOf(o, { b: @ }); delete o.b; return 1 } }, b: 2, c: 3 }; return o })()",
    "(() => { const o = { a: { toJSON() { for (const k of Object.keys(o)) delete o[k]; return @ } }, b: @, c: 3 }; return o })()",
    "(() => { const o = { a: { toJSON() { Object.freeze(o); return @ } }, b: @ }; return [o, o] })()",
    "(() => { const o = { a: { toJSON() { delete o.a; o.a = 1; return @ } }, b: @ }; return [o, o] })()",
    "(() => { const o = { x: { toJSON() { o.x = o; return o } }, b: @ }; return o })()",
    "(() => { const o = { x: @ }; o.y = { toJSON: () => o }; return o })()",
    "(() => { const a = [{ toJSON() { a.length = 1; return @ } }, @, 3]; return a })()",
    "(() => { const a = [{ toJSON() { a.push(@); return 1 } }, 2]; return a })()",
    "(() => { const a = [{ toJSON() { delete a[1]; return 1 } }, @, 3]; return a })()",
    "(() => { const a = [{ toJSON() { a[1] = @; a[7] = 1; return 1 } }, 2, 3]; return a })()",
    "(() => { const a = [{ toJSON() { a.splice(0, 2, @, @, @); return 1 } }, 2, 3, 4]; return a })()",
    "(() => { const a = [{ toJSON() { Object.defineProperty(a, 1, { get() { log.push('one'); return @ } }); return 1 } }, 2, 3]; return a })()",
    "(() => { const a = [{ toJSON() { a.length = 0; Array.prototype[1] = @; return 1 } }, 2, 3]; return a })()",
    "(() => { const a = [{ toJSON() { Object.setPrototypeOf(a, null); return 1 } }, @]; return a })()",
    "(() => { const a = [@, { toJSON() { a[0] = null; a.fill(0); return @ } }, @]; return [a, a] })()",
    # prototypes that are changed before or while writing
    "(Object.prototype.toJSON = function (k) { log.push(k); return Array.isArray(this) ? this.length : this.a }, [@, { a: @ }])", "(Array.prototype.toJSON = function () { return @ }, { a: [@] })",
    "(BigInt.prototype.toJSON = function () { return typeof this + String(this) }, [1n, Object(2n), @])",
    "(Object.defineProperty(Object.prototype, 'toJSON', { get() { log.push('g'); } }), { a: [@] })",
    "(String.prototype.toJSON = () => 'never', Number.prototype.toJSON = () => 'never', ['s', 1, new String('t'), new Number(2), @])",
    "[{ toJSON() { Object.prototype.toJSON = () => 'all'; return 1 } }, @, { a: @ }]",
    "[{ toJSON() { Array.prototype.toJSON = () => 'all'; return 1 } }, [@], { a: [1] }]",
    "(() => { Object.prototype.toJSON = function () { delete Object.prototype.toJSON; return this }; return [{ a: @ }, { b: @ }] })()",
    "(Object.setPrototypeOf(Array.prototype, { toJSON() { return 'inherited' } }), [[@], { a: @ }])",
    "(Object.setPrototypeOf(Array.prototype, { __proto__: Object.prototype }), [[@], { a: @ }])",
    "[{ toJSON() { Object.setPrototypeOf(Array.prototype, { toJSON: () => 'late' }); return 1 } }, [@]]",
    "(Object.prototype.inherited = 1, Array.prototype[1] = @, [1, , 3])", "(Object.prototype[0] = @, [, 2])",
    "(Object.defineProperty(Array.prototype, 0, { get() { log.push('hole'); return @ } }), [, 2])",
    "(() => { const o = { a: @ }; JSON.stringify(o); o.toJSON = () => @; return [o, { a: 1 }] })()",
    "(() => { const o = { a: 1, b: 2 }; JSON.stringify(o); Object.defineProperty(o, 'a', { enumerable: false }); return [o, { a: 1, b: @ }] })()",
    "JSON.parse('[{\"a\":1,\"b\":2},{\"a\":1,\"b\":2},{\"b\":1,\"a\":2}]', undefined).concat([{ a: @, b: @ }])",
    "Array.from({ length: 5 }, () => ({ type: 'F', p: { a: @, b: @ }, c: [@, 1.5] }))",
    "(() => { JSON.parse = JSON.stringify = () => 'replaced'; return [@] })()", "[JSON.stringify(@), @]",
    "[JSON.stringify({ a: @ }, null, 2), JSON.stringify([@], ['a', 1]), @]",
    "({ toJSON() { return JSON.stringify({ a: @ }) + JSON.stringify([@]) } })",
    "(() => { const o = { a: { toJSON() { return JSON.parse(JSON.stringify(o.b)) } }, b: @ }; return o })()",
)  # fmt: skip


def fill(template: str, parts: list[str]) -> str:
    """Put the parts in the place of the template's `@`, in turn."""
    pieces = template.split("@")
    return "".join(piece + (f"({part})" if part else "") for piece, part in zip(pieces, [*parts, ""], strict=True))


@st.composite
def branches(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    """A branch filled with what `inner` gives."""
    template = draw(st.sampled_from(BRANCHES))
    return fill(template, [draw(inner) for _ in range(template.count("@"))])


VALUES = st.recursive(st.sampled_from(LEAVES), branches, max_leaves=12)
