"""Deep recursion of every kind is a RangeError that the plugin can catch, or ends well: never a trap.

QuickJS's limit looks at the shadow stack in linear memory, wasmtime's at the native stack. Whatever recurses must meet
the first before the second, and check it at all: a trap costs the instance, and the plugin cannot catch it.
"""

from __future__ import annotations

import pytest

import parallel_exec as px
from tests.sandbox.recursion import check, outcome, sandbox

__all__ = ["sandbox"]

ENDLESS = {
    "function": "function f() { return f() + 1 } f()",
    "many arguments": "function f(a, b, c, d, e) { return f(a, b, c, d, e) + 1 } f(1, 2, 3, 4, 5)",
    "many locals": """
        let s = ''; for (let i = 0; i < 500; i++) s += `let v${i} = ${i};`;
        const f = Function('f', s + 'return f(f) + v1'); f(f)""",
    "mutual": "const a = () => b() + 1, b = () => a() + 1; a()",
    "constructor": "class A {} class B extends A { constructor() { super(); this.x = new B() } } new B()",
    "field": "class A { x = new A() } new A()",
    "getter": "({get x() { return this.x + 1 }}).x",
    "setter": "const o = {set x(v) { this.x = v }}; o.x = 1",
    "toString": "const o = {toString() { return '' + this }}; '' + o",
    "valueOf": "const o = {valueOf() { return +this }}; +o",
    "toPrimitive": "const o = {[Symbol.toPrimitive]() { return `${this}` }}; `${o}`",
    "toJSON": "const o = {toJSON() { return JSON.stringify(o) }}; JSON.stringify(o)",
    "toJSON of new objects": "class A { toJSON() { return {a: new A()} } } JSON.stringify(new A())",
    "reviver": "JSON.parse('[1]', function r() { return JSON.parse('[1]', r) })",
    "proxy get": "const p = new Proxy({}, {get: (t, k, r) => r[k]}); p.x",
    "proxy set": "const p = new Proxy({}, {set(t, k, v, r) { r[k] = v }}); p.x = 1",
    "proxy has": "const p = new Proxy({}, {has: (t, k) => k in p}); 'x' in p",
    "proxy ownKeys": "const p = new Proxy({}, {ownKeys: () => Object.keys(p)}); Object.keys(p)",
    "proxy apply": "const p = new Proxy(() => 1, {apply: () => p()}); p()",
    "proxy construct": "const p = new Proxy(function () {}, {construct: () => new p()}); new p()",
    "proxy prototype": "const p = new Proxy({}, {getPrototypeOf: () => Object.getPrototypeOf(p)}); p instanceof Map",
    "proxy delete": "const p = new Proxy({}, {deleteProperty: () => delete p.x}); delete p.x",
    "proxy define": """
        const p = new Proxy({}, {defineProperty: (t, k, d) => Reflect.defineProperty(p, k, d)});
        Object.defineProperty(p, 'x', {value: 1})""",
    "proxy descriptor": """
        const p = new Proxy({}, {getOwnPropertyDescriptor: (t, k) => Object.getOwnPropertyDescriptor(p, k)});
        Object.getOwnPropertyDescriptor(p, 'x')""",
    "proxy for its own prototype": "const o = {}; Object.setPrototypeOf(o, new Proxy(o, {})); o.x",
    "map": "const f = () => [1].map(f); f()",
    "reduce": "const f = () => [1, 2].reduce(f); f()",
    "flatMap": "const f = () => [1].flatMap(f); f()",
    "Array.from": "const f = () => Array.from([1], f); f()",
    "sort": "const f = (x, y) => { [3, 1, 2].sort(f); return x - y }; f()",
    "typed sort": "const f = () => new Float64Array([3, 1, 2]).sort(f); f()",
    "Map.forEach": "const m = new Map([[1, 1]]), f = () => m.forEach(f); f()",
    "groupBy": "const f = () => Map.groupBy([1], f); f()",
    "replace": "const f = () => 'a'.replace(/a/, f); f()",
    "regular expression's exec": "const r = /a/; r.exec = () => RegExp.prototype.test.call(r, 'a'); r.test('a')",
    "species": """
        class A extends Array { static get [Symbol.species]() { return new A(1).map(x => x) } }
        new A(1).map(x => x)""",
    "iterator": "const o = {[Symbol.iterator]() { return [...o] }}; [...o]",
    "hasInstance": "const o = {[Symbol.hasInstance]: x => x instanceof o}; 1 instanceof o",
    "getter of a global": "Object.defineProperty(globalThis, 'zz', {get: () => zz}); zz",
    "message getter": "const e = new Error(); Object.defineProperty(e, 'message', {get: () => String(e)}); String(e)",
    "eval": "globalThis.e = () => eval('e()'); e()",
    "Function": "globalThis.g = () => Function('return g()')(); g()",
    "generator": "function* g() { yield* g() } [...g()]",
    "generators in turn": "function* g() { yield [...h()] } function* h() { yield* [...g()] } [...g()]",
    "async": "async function f() { return 1 + await f() } return f()",
    "async generator": "async function* g() { yield* g() } return g().next()",
    "thenable": "const t = {then(r) { t.then(r) }}; return Promise.resolve(t)",
    "caught at each level": "let k = 0; (function f() { try { f() } catch { k++ } })()",
    "caught and repeated": "let k = 0; (function f() { try { f() } catch { if (k++ < 1000) f() } })()",
    "finally": "let k = 0; (function f() { try { f() } finally { k++ } })()",
    "console": "const o = {toJSON() { console.log(o) }}; console.log(o)",
}


@pytest.mark.parametrize("code", ENDLESS.values(), ids=ENDLESS)
def test_endless_recursion(sandbox: px.Sandbox, code: str) -> None:
    check(sandbox, code, 0)


PROXIES = {
    "get": "p.x",
    "set": "p.x = 1",
    "in": "'x' in p",
    "delete": "delete p.x",
    "keys": "Object.keys(p)",
    "spread": "({...p})",
    "for in": "for (const k in p);",
    "assign": "Object.assign({}, p)",
    "define": "Object.defineProperty(p, 'b', {value: 1})",
    "descriptor": "Object.getOwnPropertyDescriptor(p, 'a')",
    "prototype": "Object.getPrototypeOf(p)",
    "set prototype": "Object.setPrototypeOf(p, Array.prototype)",
    "extensible": "Object.isExtensible(p)",
    "prevent extensions": "Object.preventExtensions(p)",
    "freeze": "Object.freeze(p)",
    "is frozen": "Object.isFrozen(p)",
    "instanceof": "p instanceof Array; p instanceof p",
    "call": "p()",
    "new": "new p()",
    "construct": "Reflect.construct(Map, [], p)",
    "is array": "Array.isArray(q)",
    "concat": "[].concat(q)",
    "map": "Array.prototype.map.call(q, x => x)",
    "flat": "[q].flat()",
    "stringify": "JSON.stringify(q)",
    "to string": "String(q); Object.prototype.toString.call(q)",
    "console": "console.log(p, q)",
    "handlers": "chain(n, {}, handler => new Proxy({}, handler)).x",
    "as prototype": "Object.create(p).x; Object.create(p).x = 1",
    "await": "(async () => { await p })()",
    "throw": "throw p",
}


@pytest.mark.parametrize("n", [300, 100_000])
@pytest.mark.parametrize("code", PROXIES.values(), ids=PROXIES)
def test_chains_of_proxies(sandbox: px.Sandbox, code: str, n: int) -> None:
    check(sandbox, f"let p = function () {{}}, q = [1]; p.a = 1; p = proxies(n, p); q = proxies(n, q); {code}", n)


DEEP = {
    "parse arrays": "JSON.parse('['.repeat(n))",
    "parse closed arrays": "JSON.parse('['.repeat(n) + ']'.repeat(n))",
    "parse objects": "JSON.parse('{\"a\":'.repeat(n) + '1' + '}'.repeat(n))",
    "parse with a reviver": "JSON.parse('['.repeat(n) + ']'.repeat(n), (k, v) => v)",
    "stringify arrays": "JSON.stringify(chain(n, [], a => [a]))",
    "stringify objects": "JSON.stringify(chain(n, {}, a => ({a})))",
    "stringify indented": "JSON.stringify(chain(Math.min(n, 9000), {}, a => ({a})), null, 1)",
    "stringify with a replacer": "JSON.stringify(chain(n, {}, a => ({a})), (k, v) => v)",
    "console": "console.log(chain(n, [], a => [a]))",
    "flat": "chain(n, [], a => [a]).flat(Infinity)",
    "array to string": "String(chain(n, [], a => [a]))",
    "array to locale string": "chain(n, [], a => [a]).toLocaleString()",
    "generators": "function* g(k) { if (k) yield* g(k - 1); yield k } for (const x of g(n));",
    "generators returned": """
        function* g(k) { try { if (k) yield* g(k - 1); yield 1 } finally {} }
        const i = g(Math.min(n, 50)); i.next(); i.return(5)""",
    "async functions": "async function f(k) { return k ? 1 + await f(k - 1) : 0 } return f(n)",
    "async generators": """
        async function* g(k) { if (k) yield* g(k - 1); yield k }
        return (async () => { for await (const x of g(Math.min(n, 2000))); })()""",
    "promises in turn": "return chain(n, Promise.resolve(0), p => p.then(x => x + 1))",
    "promises of promises": "return chain(n, Promise.resolve(0), p => new Promise(resolve => resolve(p)))",
    "promises of all": "return chain(Math.min(n, 9000), Promise.resolve(0), p => Promise.all([p])).then(() => 1)",
    "thenables": "let k = 0; const t = {then(r) { k++ < n ? r(t) : r(1) }}; return Promise.resolve(t)",
    "ropes to the left": "chain(n, '', s => s + 'abc').charCodeAt(5)",
    "ropes to the right": "chain(n, '', s => 'abc' + s).charCodeAt(5)",
    "ropes of large strings": "const x = 'x'.repeat(9000); chain(Math.min(n, 3000), x, s => x + s).charCodeAt(5)",
    "ropes compared": "chain(n, '', s => s + 'abc') === chain(n, '', s => 'abc' + s)",
    "ropes as keys": "({})[chain(n, '', s => 'abc' + s)]",
    "ropes matched": "/ba/.test(chain(n, '', s => 'ab' + s))",
    "ropes freed": "chain(n, 'z'.repeat(9000), s => s + 'y'.repeat(20)); 1",
    "class extends": "new (chain(Math.min(n, 9000), class {}, C => class extends C {}))()",
    "class extends with constructors": """
        new (chain(Math.min(n, 9000), class {}, C => class extends C { constructor() { super() } }))()""",
    "class fields": "new (chain(Math.min(n, 9000), class {}, C => class extends C { x = 1 }))()",
    "super methods": """
        new (chain(Math.min(n, 9000), class { m() {} }, C => class extends C { m() { super.m() } }))().m()""",
    "class extends a builtin": "new (chain(Math.min(n, 9000), Array, C => class extends C {}))()",
    "bound functions": "chain(Math.min(n, 5000), () => 1, f => f.bind(null))()",
    "bound arguments": "chain(Math.min(n, 5000), () => 1, f => f.bind(null, 1))()",
    "bound constructors": "new (chain(Math.min(n, 5000), function () {}, f => f.bind(null)))()",
    "instanceof a bound function": "({}) instanceof chain(Math.min(n, 5000), function () {}, f => f.bind(null))",
    "construct for a bound function": """
        Reflect.construct(Map, [], chain(Math.min(n, 5000), function () {}, f => f.bind()))""",
    "prototypes got": "chain(n, {}, Object.create).x",
    "prototypes set": "chain(n, {}, Object.create).x = 1",
    "prototypes in": "'x' in chain(n, {}, Object.create)",
    "prototypes enumerated": "for (const k in chain(Math.min(n, 9000), {}, Object.create));",
    "prototypes instanceof": "chain(n, {}, Object.create) instanceof Map",
    "causes": "const e = chain(n, new Error('x'), cause => new Error('y', {cause})); console.log(e); String(e)",
    "aggregates": "String(chain(n, new Error('x'), e => new AggregateError([e])))",
    "iterators mapped": "[...chain(n, [1].values(), i => i.map(x => x))]",
    "iterators taken": "[...chain(n, [1].values(), i => i.take(2))]",
    "iterators flattened": "[...chain(n, [1].values(), i => i.flatMap(x => [x]))]",
    "iterators wrapped": "[...chain(n, [1], i => Iterator.from({next: () => i.next?.() ?? {done: true}}))]",
    "iterators concatenated": "[...chain(n, [1], i => Iterator.concat(i))]",
    "iterators zipped": "[...chain(Math.min(n, 9000), [1], i => Iterator.zip([i]))]",
    "iterators returned": "chain(n, [1].values(), i => i.take(2)).return()",
    "lists freed": "chain(n, null, next => ({next})); chain(n, null, next => [next]); 1",
    "closures freed": "chain(n, null, next => () => next); 1",
    "maps freed": "chain(n, null, next => new Map([[next, next]])); 1",
    "weak maps": "const m = new WeakMap(); chain(n, {}, k => { const o = {}; m.set(k, o); return o })",
    "weak references": "chain(n, {}, o => ({o: new WeakRef(o)}))",
    "suspended generators freed": """
        chain(n, null, v => { const g = (function* () { yield v })(); g.next(); return g }); 1""",
    "kept lists": "globalThis.keep = chain(n, null, next => ({next})); 1",
    "dates with parentheses": "Date.parse('Thu Jan 01 1970 ' + '('.repeat(n))",
    "private fields": "chain(Math.min(n, 9000), class {}, C => class extends C { #x = 1; x() { return this.#x } })",
}


@pytest.mark.parametrize("n", [300, 100_000])
@pytest.mark.parametrize("code", DEEP.values(), ids=DEEP)
def test_deep_structures(sandbox: px.Sandbox, code: str, n: int) -> None:
    check(sandbox, code, n)


ARGUMENTS = {
    "apply a builtin": "Math.max.apply(null, new Array(n).fill(1))",
    "apply a function": "(function (a) { return a + arguments.length }).apply(null, new Array(n).fill(1))",
    "spread": "Math.max(...new Array(n).fill(1))",
    "spread into new": "new (class { constructor(...a) { this.n = a.length } })(...new Array(n).fill(1))",
    "spread into push": "[].push(...new Array(n).fill(1))",
    "String.fromCharCode": "String.fromCharCode.apply(null, new Array(n).fill(65))",
    "concat": "[].concat.apply([], new Array(n).fill([1]))",
    "Reflect.apply": "Reflect.apply(Math.max, null, new Array(n).fill(1))",
    "Reflect.construct": "Reflect.construct(Array, new Array(n).fill(1))",
    "bind": "Math.max.bind.apply(Math.max, new Array(n).fill(1)).apply(null, new Array(n).fill(1))",
    "destructuring": "const [a, ...b] = new Array(n).fill(1)",
    "proxy": "new Proxy(() => 1, {}).apply(null, new Array(n).fill(1))",
    "generator": "(function* (...a) { yield a }).apply(null, new Array(n).fill(1)).next()",
    "async": "return (async (...a) => a.length).apply(null, new Array(n).fill(1))",
}


@pytest.mark.parametrize(
    "n", [10, 2_000, 5_000, 12_000, 23_000, 24_000, 25_000, 32_000, 65_000, 65_536, 100_000, 10**6]
)
@pytest.mark.parametrize("code", ARGUMENTS.values(), ids=ARGUMENTS)
def test_many_arguments(sandbox: px.Sandbox, code: str, n: int) -> None:
    check(sandbox, code, n)


@pytest.mark.parametrize(
    ("code", "depth"),
    [
        ("return (function f(k) { return k ? k + f(k - 1) : 0 })(n)", 3500),
        ("let d = 0; (function f() { if (++d < n) [1].map(f) })(); return d", 1500),
        ("let d = 0; (function f() { if (++d < n) [2, 1].sort(f) })(); return d", 800),
        ("let d = 0; const o = {get x() { return ++d < n ? this.x : d }}; return o.x", 3000),
    ],
)
def test_a_plugin_recurses_deeply(sandbox: px.Sandbox, code: str, depth: int) -> None:
    expected = depth * (depth + 1) // 2 if "k + f" in code else depth
    assert outcome(sandbox, code, depth) == str(expected)


def test_documents_and_results_nest_deeply_or_are_refused() -> None:
    source = "const same = x => x; const deep = n => { let a = []; for (let i = 1; i < n; i++) a = [a]; return a }"
    deeper: dict[str, str] = {}
    with px.Sandbox(px.Plugin(source + "; const read = x => 1"), limits=px.Limits(time_s=None)) as sandbox:
        for n in (1, 100, 1000, 5000, 8192, 100_000, 1_000_000):
            text = b"[" * n + b"]" * n
            for function, document, expected in (("same", text, text), ("deep", n, text), ("read", text, b"1")):
                try:
                    assert sandbox.call_bytes(function, document) == expected
                except (px.JSError, px.InvalidDocument) as error:
                    assert n > 8192  # what can be read can be written
                    deeper.setdefault(function, str(error))
    for function in ("same", "read"):
        assert deeper[function].startswith(f"plugin.js: {function}(): the document is nested too deeply")
    assert deeper["deep"] == "plugin.js: deep(): RangeError: Maximum call stack size exceeded"


def test_what_is_deep_at_the_bottom_of_a_recursion_is_no_trap(sandbox: px.Sandbox) -> None:
    for inner in (
        "JSON.stringify(deep)", "JSON.parse(text)", "new Function(source)", "({}) instanceof proxy",
        "Object.getPrototypeOf(proxy)", "deep.flat(Infinity)", "new RegExp(groups)", "JSON.parse(text, (k, v) => v)",
    ):  # fmt: skip
        code = f"""
            const deep = chain(9000, [], a => [a]), text = '['.repeat(8000) + ']'.repeat(8000);
            const proxy = proxies(30000, {{}});
            const source = '('.repeat(2000) + ')'.repeat(2000), groups = '('.repeat(5000) + ')'.repeat(5000);
            let ended = 0;
            (function f() {{ try {{ f() }} catch {{}} if (ended++ % 400 == 0) try {{ {inner} }} catch {{}} }})();
            return 'done'"""
        assert outcome(sandbox, code, 0) == "done"
