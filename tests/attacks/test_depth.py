"""Depth: of calls, of values, of texts. It is a RangeError that the plugin may catch, or the document's or result's own
error; never the end of the instance.
"""

from __future__ import annotations

import parallel_exec as px
from tests.attacks.attack import PATIENT, Attack, judged

DEEP = {
    "function": "(function f() { f() })()",
    "method": "const o = {f() { return o.f() + 1 }}; o.f()",
    "getter": "const o = {get x() { return this.x }}; o.x",
    "setter": "const o = {set x(v) { this.x = v }}; o.x = 1",
    "constructor": "class A { constructor() { new A() } } new A()",
    "subclass": "class A { constructor() { new B() } } class B extends A {} new B()",
    "field": "class A { x = new A() } new A()",
    "generator": "function* g() { yield* g() } g().next()",
    "default": "const f = (a = f()) => a; f()",
    "to-string": "const o = {toString() { return '' + o }}; '' + o",
    "to-primitive": "const o = {[Symbol.toPrimitive]() { return +o }}; +o",
    "to-json": "const o = {toJSON() { return JSON.stringify(o) }}; JSON.stringify(o)",
    "array-to-string": "const a = []; a[0] = {toString() { return a.join() + '' }}; const b = [a]; for (;;) b[0] = [b[0]] + ''",
    "proxy-get": "const p = new Proxy({}, {get(t, k, r) { return r[k] }}); p.x",
    "proxy-chain": "let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); p.x",
    "proxy-prototype": "const p = new Proxy({}, {}); Object.setPrototypeOf(p, Object.create(p)); p.x",
    "proxy-of-itself": "const h = {}; const p = new Proxy({}, h); h.__proto__ = p; p.x",
    "apply": "const f = () => f.apply(null, [f]); f()",
    "reflect": "const f = () => Reflect.apply(f, null, []); f()",
    "sort": "const f = () => [2, 1].sort(f); f()",
    "map": "const f = () => [1].map(f); f()",
    "reduce": "const f = () => [1, 2].reduce(f); f()",
    "replace": "const f = () => 'x'.replace(/x/, f); f()",
    "reviver": "const f = () => JSON.parse('[1]', f); f()",
    "replacer": "const f = () => JSON.stringify([1], f); f()",
    "array-from": "const f = () => Array.from([1], f); f()",
    "for-each-set": "const f = () => new Set([1]).forEach(f); f()",
    "flat-map": "const f = () => [1].flatMap(f); f()",
    "flat-cyclic": "const a = []; a.push(a); a.flat(Infinity)",
    "eval": "const f = () => eval('f()'); f()",
    "json-arrays": "JSON.parse('['.repeat(1e6) + ']'.repeat(1e6))",
    "json-objects": "JSON.parse('{\"a\":'.repeat(1e5) + '1' + '}'.repeat(1e5))",
    "json-reviver": "JSON.parse('['.repeat(1e5) + ']'.repeat(1e5), (k, v) => v)",
    "json-write": "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; JSON.stringify(a)",
    "json-write-objects": "let a = {}; for (let i = 0; i < 1e5; i++) a = {a}; JSON.stringify(a)",
    "json-write-getters": "const f = () => ({get a() { return f() }}); JSON.stringify(f())",
    "result": "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a",
    "result-objects": "let a = {}; for (let i = 0; i < 1e5; i++) a = {a}; return a",
    "result-getters": "const f = () => ({get a() { return f() }}); return f()",
    "result-to-json": "const f = () => ({a: {toJSON: f}}); return f()",
    "iterator-chain": "let i = [1].values(); for (let n = 0; n < 1e5; n++) i = i.map(x => x); i.next()",
    "iterator-drop-chain": "let i = [1].values(); for (let n = 0; n < 1e5; n++) i = i.drop(0); i.next()",
    "prototype-chain-has": "const a = []; a[0] = a; for (;;) (function f(x) { return f(x[0]) })(a)",
    "join-nested": "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; String(a)",
    "concat-nested": "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; a.flat(Infinity)",
    "error-to-string": "const e = new Error(); Object.defineProperty(e, 'message', {get() { return String(e) }}); String(e)",
    "has-instance": "const o = {[Symbol.hasInstance](x) { return x instanceof o }}; 1 instanceof o",
    "species": "class A extends Array { static get [Symbol.species]() { return new A(1).map(x => x) } } new A(1).map(x => x)",
    "date-value": "const o = {valueOf() { return +new Date(o) }}; +o",
    "typed-sort": "const f = () => new Uint8Array([2, 1]).sort(f); f()",
    "symbol-iterator": "const o = {[Symbol.iterator]() { return [...o] }}; [...o]",
    "caught-each-time": "(function f() { try { f() } catch (e) { throw e } })()",
    "finally-each-time": "(function f() { try { f() } finally { 1 } })()",
    "async-call": "return (async function f() { return await f() })()",
}  # fmt: skip

# The parser may call its exhausted stack a syntax error.
PARSED = {
    "new-function": "globalThis.f = () => new Function('f()')(); f()",
    "parse-brackets": "eval('['.repeat(1e5) + ']'.repeat(1e5))",
    "parse-parentheses": "eval('('.repeat(1e5) + '1' + ')'.repeat(1e5))",
    "parse-unary": "eval('-'.repeat(0) + '!'.repeat(1e6) + '1')",
    "parse-blocks": "eval('{'.repeat(1e5) + '}'.repeat(1e5))",
    "parse-functions": "eval('()=>'.repeat(1e5) + '1')",
    "parse-templates": "eval('`${'.repeat(1e5) + '1' + '}`'.repeat(1e5))",
    "parse-ternary": "eval('1?'.repeat(1e5) + '1' + ':1'.repeat(1e5))",
    "parse-powers": "eval('2**'.repeat(1e5) + '1')",
    "parse-new": "eval('new '.repeat(1e5) + 'f')",
    "parse-await": "eval('async () => ' + 'await '.repeat(1e5) + '1')",
    "parse-if": "eval('if(1)'.repeat(1e5) + ';')",
    "parse-objects": "eval('(' + '{a:'.repeat(1e5) + '1' + '}'.repeat(1e5) + ')')",
    "parse-destructuring": "eval('let ' + '['.repeat(1e5) + 'a' + ']'.repeat(1e5) + ' = 1')",
    "parse-class": "eval('(' + 'class extends '.repeat(1e5) + 'Object' + '{}'.repeat(1e5) + ')')",
    "regexp-groups": "new RegExp('('.repeat(1e5) + ')'.repeat(1e5))",
    "regexp-lookaheads": "new RegExp('(?='.repeat(1e5) + ')'.repeat(1e5))",
}  # fmt: skip

# Something else that each level takes may run out before the depth does.
GROWING = {
    "spread": "const f = (...a) => f(...a, 1); f()",
    "bind": "let f = () => 1; for (let i = 0; i < 1e5; i++) f = f.bind(); f()",
    "json-write-indent": "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; JSON.stringify(a, null, 1)",
    "promise-nested": "let p = Promise.resolve(1); for (let i = 0; i < 1e5; i++) { const q = p; p = (async () => q)() } return p",
}  # fmt: skip

# Deep, but possible, because nothing recurs or there is enough stack.
EITHER = {
    "rope": "let s = ''; for (let i = 0; i < 1e4; i++) s = 'a' + s + 'b'; return s.length + s.charCodeAt(5)",
    "linked-freed": "let a = null; for (let i = 0; i < 1e5; i++) a = {a}; a = null; return 1",
    "closures-freed": "let f = null; for (let i = 0; i < 1e5; i++) { const g = f; f = () => g } f = null; return 1",
    "cycle-collected": "let a = null; for (let i = 0; i < 1e5; i++) a = [a]; a.self = a; a = null; return 1",
    "promise-chain": "let p = Promise.resolve(1); for (let i = 0; i < 1e4; i++) p = p.then(x => x); return p",
    "promise-nested": "let p = Promise.resolve(1); for (let i = 0; i < 5e3; i++) { const q = p; p = (async () => q)() } return p",
    "thenable-nested": "let t = {then(r) { r(1) }}; for (let i = 0; i < 1e4; i++) { const u = t; t = {then(r) { r(u) }} } return Promise.resolve(t)",
    "prototypes": "let o = {x: 1}; for (let i = 0; i < 5e4; i++) o = Object.create(o); return o.x",
    "regexp-backtrack": "return /^(?:.|\\n)*$/.test('x'.repeat(2e5))",
    "regexp-captures": "return /^(?:(a)|b)*$/.test('ab'.repeat(1e5))",
    "else-if": "return eval('if(0);else '.repeat(300) + '1')",
    "comma": "return eval('1,'.repeat(1e5) + '1')",
    "plus": "return eval('1+'.repeat(1e5) + '1')",
    "dots": "return typeof eval('(()=>{})' + '?.a'.repeat(1e5))",
    "then-collected": "kept.push(Array.from({length: 2e4}, (_, i) => ({i, a: [{}]}))); return 1",
    "map-nested": "let m = new Map(); for (let i = 0; i < 1e5; i++) m = new Map([[m, m]]); m = null; return 1",
    "proxy-freed": "let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); p = null; return 1",
    "error-causes": "let e = new Error('a'); for (let i = 0; i < 1e4; i++) e = new Error('b', {cause: e}); return 1",
}

CAUGHT = [
    Attack("caught", "let n = 0; for (let i = 0; i < 20; i++) try { (function f() { f() })() } catch (e) { n += e instanceof RangeError } return n", (), 20),
    Attack("caught-deep", "const f = n => { try { return f(n + 1) } catch (e) { return e.name } }; return f(0)", (), "RangeError"),
    Attack("caught-native", "try { [[]].flat(Infinity, 1); const a = []; a.push(a); a.flat(Infinity) } catch (e) { return e.name }", (), "RangeError"),
    Attack("caught-json", "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; try { JSON.stringify(a) } catch (e) { return e.name }", (), "RangeError"),
    Attack("caught-parse", "try { JSON.parse('['.repeat(1e6)) } catch (e) { return e.name }", (), "RangeError"),
]  # fmt: skip

TABLE = [Attack(name, code, (px.JSError,), "RangeError", PATIENT) for name, code in DEEP.items()]
TABLE += [Attack(name, code, (px.JSError,), "Error", PATIENT) for name, code in PARSED.items()]
TABLE += [Attack(name, code, (px.JSError, px.MemoryLimitExceeded), "", PATIENT) for name, code in GROWING.items()]
TABLE += [Attack(f"either-{name}", code, (), "", PATIENT) for name, code in EITHER.items()]
TABLE += CAUGHT


test_in_a_sandbox, test_in_a_pool = judged(TABLE)
