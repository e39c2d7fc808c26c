"""Loops that never end, of every kind that runs code of the plugin: the polled deadline ends each."""

from __future__ import annotations

import pytest

import parallel_exec as px
from tests.attacks.attack import CALM, HURRIED, PATIENT, PLUGIN, Attack, Pools, attacks, judged, loops

SPIN = "for (;;);"

STATEMENTS = {
    "while": "while (true);",
    "for": "for (;;);",
    "do": "do {} while (1)",
    "labels": "a: for (;;) { b: for (;;) { for (;;) continue a } }",
    "label-break": "for (;;) { a: { b: { break a } } }",
    "switch": "let s = 0; for (;;) switch (s) { case 0: s = 1; break; default: s = 0 }",
    "for-in": "const o = {a: 1}; for (;;) for (const k in o) o[k]++",
    "empty-calls": "const f = () => {}; for (;;) f()",
    "mutual-recursion": "const f = n => n ? f(n - 1) : 0; for (;;) f(100)",
    "with": "new Function('o', 'with (o) for (;;) x++')({x: 0})",
    "eval": "eval('for (;;);')",
    "new-function": "new Function('for (;;);')()",
    "static-block": "class A { static { for (;;); } }",
    "field-initializer": "new (class { x = (() => { for (;;); })() })()",
    "default-parameter": "((a = (() => { for (;;); })()) => a)()",
    "tagged-template": "(() => { for (;;); })`x`",
    "exceptions": "for (;;) try { null.x } catch {}",
    "finally-continue": "for (;;) try { throw 1 } finally { continue }",
    "finally-loops": "for (;;) try { for (;;); } finally { for (;;); }",
    "nested-finally": "try { try { for (;;); } finally { for (;;); } } finally { for (;;); }",
    "recursion-finally": "(function f() { try { f() } finally { f() } })()",
    "recursion-finally-twice": "(function f() { try { f() } catch { f() } finally { f() } })()",
    "bind-chain": "let f = () => {}; for (let i = 0; i < 50; i++) f = f.bind(); for (;;) f()",
    "bigint-steps": "let n = 0n; for (;;) n++",
}

COERCIONS = {
    "getter": "({get x() { for (;;); }}).x",
    "setter": "({set x(v) { for (;;); }}).x = 1",
    "getter-recursion": "const o = {get x() { try { return this.x } catch { for (;;); } }}; o.x",
    "toString": "({toString() { for (;;); }}) + ''",
    "valueOf": "+{valueOf() { for (;;); }}",
    "toPrimitive": "`${{[Symbol.toPrimitive]() { for (;;); }}}`",
    "key": "({})[{toString() { for (;;); }}]",
    "compare": "({valueOf() { for (;;); }}) < 1",
    "hasInstance": "1 instanceof {[Symbol.hasInstance]() { for (;;); }}",
    "species": "class A extends Array { static get [Symbol.species]() { for (;;); } } new A(1, 2).map(x => x)",
    "toStringTag": "Object.prototype.toString.call({get [Symbol.toStringTag]() { for (;;); }})",
    "spread-getter": "({...{get x() { for (;;); }}})",
    "date-argument": "new Date({valueOf() { for (;;); }})",
    "array-length": "Array.prototype.push.call({get length() { for (;;); }}, 1)",
    "array-index": "[1].at({valueOf() { for (;;); }})",
    "isConcatSpreadable": "[].concat({get [Symbol.isConcatSpreadable]() { for (;;); }})",
    "regexp-exec": "class R extends RegExp { exec() { for (;;); } } 'x'.match(new R('x', 'g'))",
    "regexp-endless-exec": "class R extends RegExp { exec() { return {0: 'x', index: 0, length: 1} } } 'x'.match(new R('x', 'g'))",
    "prepareStackTrace": "Error.prepareStackTrace = () => { for (;;); }; new Error('x').stack",
    "property-descriptor": "Object.defineProperty({}, 'x', {get get() { for (;;); }})",
    "string-raw": "String.raw({get raw() { for (;;); }})",
    "json-indent": "JSON.stringify([1], null, {valueOf() { for (;;); }, __proto__: Number.prototype})"
    " + JSON.stringify({toJSON() { for (;;); }})",
}

_TRAPS = {
    "get": "p.x",
    "set": "p.x = 1",
    "has": "'x' in p",
    "deleteProperty": "delete p.x",
    "ownKeys": "Object.keys(p)",
    "getOwnPropertyDescriptor": "Object.getOwnPropertyDescriptor(p, 'x')",
    "defineProperty": "Object.defineProperty(p, 'x', {})",
    "getPrototypeOf": "Object.getPrototypeOf(p)",
    "setPrototypeOf": "Object.setPrototypeOf(p, null)",
    "isExtensible": "Object.isExtensible(p)",
    "preventExtensions": "Object.preventExtensions(p)",
    "apply": "p()",
    "construct": "new p()",
}
PROXIES = {
    f"trap-{trap}": f"const p = new Proxy(function () {{}}, {{{trap}() {{ for (;;); }}}}); {use}"
    for trap, use in _TRAPS.items()
} | {
    "trap-of-handler": "new Proxy({}, new Proxy({}, {get() { for (;;); }})).x",
    "trap-result": "return new Proxy({}, {ownKeys() { for (;;); }})",
    "trap-json": "JSON.stringify(new Proxy([1], {get() { for (;;); }}))",
    "trap-for-in": "for (const k in new Proxy({}, {ownKeys() { for (;;); }}));",
    "trap-prototype-chain": "const p = new Proxy({}, {getPrototypeOf() { for (;;); }}); Array.prototype.isPrototypeOf(p)",
}

CALLBACKS = {
    "sort": "[3, 1, 2].sort(() => { for (;;); })",
    "to-sorted": "[3, 1, 2].toSorted(() => { for (;;); })",
    "typed-sort": "new Float64Array([3, 1, 2]).sort(() => { for (;;); })",
    "sort-inconsistent": "const a = Array.from({length: 1e5}, (_, i) => i); for (;;) a.sort(() => 1)",
    "map": "[1].map(() => { for (;;); })",
    "reduce": "[1, 2].reduce(() => { for (;;); })",
    "find": "[1].find(() => { for (;;); })",
    "array-from": "Array.from({length: 1}, () => { for (;;); })",
    "group-by": "Object.groupBy([1], () => { for (;;); })",
    "map-group-by": "Map.groupBy([1], () => { for (;;); })",
    "set-foreach-grows": "const s = new Set([1]); s.forEach(x => { s.delete(x); s.add(x + 1) })",
    "map-iteration-grows": "const m = new Map([[1, 1]]); for (const [k] of m) { m.delete(k); m.set(k + 1, 1) }",
    "replace": "'x'.replace(/x/, () => { for (;;); })",
    "replace-all": "'xx'.replaceAll('x', () => { for (;;); })",
    "reviver": "JSON.parse('[1]', () => { for (;;); })",
    "replacer": "JSON.stringify([1], () => { for (;;); })",
    "to-json": "JSON.stringify({toJSON() { for (;;); }})",
    "console": "console.log({toJSON() { for (;;); }})",
    "console-endless": "for (;;) console.log('x'.repeat(1000))",
    "array-species-sort": "[1, 2].sort({__proto__: Function.prototype, call: 1}.constructor('for (;;);'))",
    "reflect-apply": "for (;;) Reflect.apply(() => 1, null, [])",
    "flat-map": "[1].flatMap(() => { for (;;); })",
}

ITERATORS = {
    "generator": "for (const x of (function* () { for (;;) yield 1 })());",
    "generator-inside": "(function* () { for (;;); })().next()",
    "generator-return": "const g = (function* () { try { yield 1 } finally { for (;;); } })(); g.next(); g.return()",
    "generator-finally-yields": "for (const x of (function* () { for (;;) try { yield 1 } finally { yield 2 } })());",
    "yield-star": "function* g() { for (;;) yield* [1] } for (const x of g());",
    "iterator-object": "for (const x of {[Symbol.iterator]: () => ({next: () => ({})})});",
    "iterator-return": "for (const x of {[Symbol.iterator]: () => ({next: () => ({}), return() { for (;;); }})}) break",
    "destructuring": "const [a] = {[Symbol.iterator]: () => ({next() { for (;;); }})}",
    "iterator-helpers": "(function* () { for (;;) yield 1 })().filter(x => false).next()",
    "iterator-reduce": "(function* () { for (;;) yield 1 })().reduce((a, b) => b)",
    "iterator-drop": "(function* () { for (;;) yield 1 })().drop(Infinity).next()",
    "iterator-flat-map": "(function* () { for (;;) yield 1 })().flatMap(x => []).next()",
    "iterator-some": "Iterator.from({next: () => ({value: 0})}).some(x => x)",
    "set-from-endless": "new Set({[Symbol.iterator]: () => ({next: () => ({value: 1})})})",
    "map-from-endless": "new Map({[Symbol.iterator]: () => ({next: () => ({value: [1, 1]})})})",
    "weakset-from-endless": "const o = {}; new WeakSet({[Symbol.iterator]: () => ({next: () => ({value: o})})})",
    "from-entries-endless": "Object.fromEntries({[Symbol.iterator]: () => ({next: () => ({value: ['a', 1]})})})",
    "set-union-endless": "new Set([1]).union({size: 1, has: () => true, keys: () => ({next: () => ({value: 1})})})",
}

PROMISES = {
    "async": "return (async () => { await null; for (;;); })()",
    "async-await": "return (async () => { for (;;) await null })()",
    "async-reject": "return (async () => { for (;;) try { await Promise.reject(1) } catch {} })()",
    "async-finally": "return (async () => { for (;;) try { await Promise.reject(1) } finally { continue } })()",
    "async-generator": "return (async () => { for await (const x of (async function* () { for (;;) yield 1 })()); })()",
    "chain": "const f = () => Promise.resolve().then(f); return f()",
    "chain-beside": "const f = () => { Promise.resolve().then(f) }; f(); return new Promise(() => {})",
    "two-chains": "const f = () => { Promise.resolve().then(g) }, g = () => { Promise.resolve().then(f) }; f(); g();"
    " return new Promise(() => {})",
    "executor": "new Promise(() => { for (;;); })",
    "then": "return Promise.resolve().then(() => { for (;;); })",
    "then-beside": "Promise.resolve().then(() => { for (;;); }); return new Promise(() => {})",
    "finally": "return Promise.reject(1).finally(() => { for (;;); })",
    "thenable": "return (async () => ({then() { for (;;); }}))()",
    "thenable-chain": "const t = () => ({then(r) { r(t()) }}); return Promise.resolve(t())",
    "then-getter": "return (async () => ({get then() { for (;;); }}))()",
    "constructor-getter": "const p = Promise.resolve(); Object.defineProperty(p, 'constructor', {get() { for (;;); }});"
    " return p.then(() => 1)",
    "from-async": "return Array.fromAsync({[Symbol.asyncIterator]: () => ({next: async () => { for (;;); }})})",
    "unhandled": "Promise.reject({get message() { for (;;); }}); return (async () => { for (;;) await 0 })()",
}

REGEXPS = {
    "nested-quantifier": "/(a+)+$/.test('a'.repeat(50) + 'b')",
    "alternation": "/^(a|a)*$/.test('a'.repeat(60) + 'b')",
    "lookahead": "/^(?=(a+)+$)/.test('a'.repeat(50) + 'b')",
    "lookbehind": "/(?<=^(a+)+)c/.test('b' + 'a'.repeat(50) + 'c')",
    "backreference": r"/^(.*)(.*)(.*)(.*)(.*)(.*)\1\2\3\4\5\6$/.test('ab'.repeat(60) + 'c')",
    "unicode": "/^(\\p{L}+)+$/u.test('ä'.repeat(50) + '1')",
    "ignore-case": "/^(A+)+$/i.test('a'.repeat(50) + 'b')",
    "sticky": "/(a+)+$/y.test('a'.repeat(50) + 'b')",
    "global": "'a'.repeat(50).concat('b').match(/(a+)+$/g)",
    "split": "'a'.repeat(50).concat('b').split(/(a+)+$/)",
    "replace": "'a'.repeat(50).concat('b').replace(/(a+)+$/, '')",
    "search": "'a'.repeat(50).concat('b').search(/(a+)+$/)",
    "polynomial": "/a*a*a*a*a*a*b/.test('a'.repeat(3000))",
    "caught": "try { /(a+)+$/.test('a'.repeat(50) + 'b') } catch { return 1 }",
    "email": "/^([a-zA-Z0-9])(([\\-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+[.]{1}(([a-z]{2,3})|([a-z]{2,3}[.]{1}[a-z]{2,3}))$/"
    ".test('a'.repeat(60))",
}

ENDLESS = [
    attack
    for family, bodies in {
        "": STATEMENTS,
        "coercion-": COERCIONS,
        "proxy-": PROXIES,
        "callback-": CALLBACKS,
        "iterator-": ITERATORS,
        "promise-": PROMISES,
        "regexp-": REGEXPS,
    }.items()
    for attack in loops({family + name: code for name, code in bodies.items()})
]

# Endless, and taking ever more: memory runs out first.
GREEDY = {
    "array-from-endless": "Array.from({[Symbol.iterator]: () => ({next: () => ({})})})",
    "spread-endless": "[...(function* () { for (;;) yield 1 })()]",
    "call-endless": "Math.max(...(function* () { for (;;) yield 1 })())",
    "iterator-to-array": "(function* () { for (;;) yield 1 })().toArray()",
    "rest-endless": "const [...a] = (function* () { for (;;) yield 1 })()",
    "typed-array-endless": "new Uint8Array({[Symbol.iterator]: () => ({next: () => ({value: 1})})})",
    "promise-all-endless": "return Promise.all((function* () { for (;;) yield 1 })())",
    "group-by-endless": "Object.groupBy((function* () { for (;;) yield 1 })(), x => x)",
}
# These grow by what waits to run; collecting it may take all the time.
QUEUED = {
    "promise-chains-grow": "const f = () => { Promise.resolve().then(f); Promise.resolve().then(f) }; f();"
    " return new Promise(() => {})",
    "queue-in-getter": "for (;;) Promise.resolve().then(() => 1)",
}
TABLE = [
    *ENDLESS,
    *(Attack(name, code, (px.MemoryLimitExceeded,), limits=PATIENT) for name, code in GREEDY.items()),
    *loops(QUEUED, px.JobTimeout, px.MemoryLimitExceeded),
]
test_in_a_sandbox, test_in_a_pool = judged(TABLE)

PASSING = px.Limits(time_s=HURRIED.time_s, grace_s=HURRIED.grace_s)
# One of each mechanism: how an attack is stopped does not depend on the clock.
BY_PASSED_TIME = (
    *("while", "coercion-getter", "proxy-trap-get", "callback-sort", "iterator-generator", "promise-async-await"),
    *("promise-then-beside", "regexp-nested-quantifier"),
)


@pytest.mark.parametrize(
    "source",
    [
        "for (;;);",
        "export const f = 1; for (;;);",
        "export {}; await (async () => { for (;;) await null })()",
        "try { for (;;); } catch {} finally { for (;;); }",
        "throw {toString() { for (;;); }}",
        "throw Object.defineProperty(new Error(), 'message', {get() { for (;;); }})",
        "throw new Proxy(new Error(), {get() { for (;;); }})",
        "Promise.resolve().then(() => { for (;;); }); export {}; await new Promise(() => {})",
    ],
)
def test_while_the_plugin_is_loaded(pools: Pools, source: str) -> None:
    with pytest.raises(px.JobTimeout):
        px.Sandbox(px.Plugin(source, name="load.js"), limits=PASSING)
    function = px.Plugin(source, name="load.js").function("f", limits=PASSING)
    with pytest.raises(px.JobTimeout):
        pools.of(CALM).submit(function, 1).result(timeout=60)


@attacks(*(attack for attack in ENDLESS if attack.name in BY_PASSED_TIME))
def test_time_that_passes_is_the_limit_by_default(pools: Pools, attack: Attack) -> None:
    stopped = pytest.raises(px.JobTimeout, match=r"Limits.time_s=0.03 s$")
    with px.Sandbox(PLUGIN, limits=PASSING) as sandbox, stopped:
        sandbox.call(*attack.call)
    name, document = attack.call
    with stopped:
        pools.of(CALM).submit(PLUGIN.function(name, limits=PASSING), document).result(timeout=60)
