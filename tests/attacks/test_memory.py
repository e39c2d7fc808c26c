"""Eating memory, in many forms: the job is refused, the process stays within its bound, and what it took is given back."""

from __future__ import annotations

import parallel_exec as px
from tests.attacks.attack import PATIENT, PREPARING, Attack, judged, loops

GREEDY = {
    "arrays": "const a = []; for (;;) a.push([])",
    "objects": "const a = []; for (;;) a.push({a: 1, b: 2})",
    "numbers": "const a = []; for (;;) a.push(a.length + 0.5)",
    "linked": "let o = null; for (;;) o = {o}",
    "sparse-arrays": "const a = []; for (;;) { const b = []; b[1e6] = 1; a.push(b) }",
    "properties": "const o = {}; for (let i = 0;; i++) o['k' + i] = i",
    "indices": "const o = {}; for (let i = 0;; i++) o[i * 1000] = i",
    "shapes": "const a = []; for (let i = 0;; i++) a.push({['p' + i]: 1})",
    "prototypes": "let o = {}; for (;;) o = Object.create(o)",
    "classes": "const a = []; for (;;) a.push(class { #x = 1; static y = 2 })",
    "strings": "const a = []; for (;;) a.push('x' + a.length)",
    "string-appending": "let s = ''; for (;;) s += 'abcdefghij'.repeat(1000)",
    "wide-strings": "const a = []; for (;;) a.push('日'.repeat(10000) + a.length)",
    "rope-flattened": "let s = 'x'.repeat(1e6); for (let i = 0; i < 10; i++) s = s + s; s.charCodeAt(5)",
    "rope-as-key": "let s = 'x'.repeat(1e6); for (let i = 0; i < 5; i++) s = s + s; ({})[s]",
    "rope-as-json": "let s = 'x'.repeat(1e6); for (let i = 0; i < 5; i++) s = s + s; JSON.stringify([s, s])",
    "repeat": "'x'.repeat(2 ** 29)",
    "pad": "'x'.padStart(2 ** 29)",
    "concat": "const s = 'x'.repeat(4e6); ''.concat(s, s, s, s, s, s, s, s, s)",
    "join": "new Array(1e4).fill('x'.repeat(1e4)).join('')",
    "split": "const a = []; for (;;) a.push('x'.repeat(10000).split(''))",
    "spread": "[...'x'.repeat(1e7)]",
    "template": "const s = 'x'.repeat(4e6); `${s}${s}${s}${s}${s}${s}${s}`",
    "replace-grows": "let s = 'xx'; for (;;) s = s.replaceAll('x', 'x'.repeat(16))",
    "replace-dollars": "'x'.repeat(1e4).replace(/x+/, '$&'.repeat(1e4))",
    "escape-grows": "let s = '%'.repeat(1e5); for (;;) s = encodeURIComponent(s)",
    "normalize-grows": "'\\uFDFA'.repeat(4e6).normalize('NFKC')",
    "upper-grows": "'ΐ'.repeat(4e6).toUpperCase()",
    "atoms": "const a = []; for (let i = 0;; i++) a.push(Symbol.for('s' + i))",
    "atoms-as-keys": "const a = []; for (let i = 0;; i++) { const o = {}; o['long-key-' + i] = 1; a.push(o) }",
    "symbols": "const a = []; for (;;) a.push(Symbol('description'.repeat(9)))",
    "typed-array": "new Uint8Array(64e6)",
    "typed-arrays": "const a = []; for (;;) a.push(new Float64Array(1e4))",
    "typed-touched": "const a = []; for (;;) a.push(new Uint8Array(1e6).fill(1))",
    "buffer-resized": "const b = new ArrayBuffer(1, {maxByteLength: 2 ** 30}); b.resize(2 ** 30)",
    "buffers-resized": "const a = []; for (;;) { const b = new ArrayBuffer(1, {maxByteLength: 2e6}); b.resize(2e6); a.push(b) }",
    "buffer-transferred": "let b = new ArrayBuffer(1e6); for (;;) b = b.transfer(b.byteLength * 2)",
    "map": "const m = new Map(); for (let i = 0;; i++) m.set(i, {i})",
    "set": "const s = new Set(); for (;;) s.add({})",
    "weak-map": "const w = new WeakMap(), a = []; for (;;) { const k = {}; a.push(k); w.set(k, {k}) }",
    "weak-refs": "const a = []; for (;;) a.push(new WeakRef({}), {})",
    "registry": "const r = new FinalizationRegistry(() => 1), a = []; for (;;) { const o = {}; a.push(o); r.register(o, 'x'.repeat(99)) }",
    "closures": "const a = []; for (;;) { const n = a.length; a.push(() => n) }",
    "bound": "let f = () => 1; for (;;) f = f.bind()",
    "generators": "const a = []; for (;;) { const g = (function* () { yield new Array(100).fill(1) })(); g.next(); a.push(g) }",
    "promises": "const a = []; for (;;) a.push(new Promise(() => {}))",
    "pending-jobs": "for (;;) Promise.resolve().then(() => 1)",
    "async-stacks": "const f = async () => { await null; return f() }, a = []; for (;;) a.push(f())",
    "bigints": "const a = []; for (;;) a.push(1n << 10000n)",
    "errors": "const a = []; const f = n => n ? f(n - 1) : new Error('x'); for (;;) a.push(f(50))",
    "error-messages": "const a = []; for (;;) a.push(new Error('x'.repeat(10000) + a.length))",
    "error-causes": "let e = null; for (;;) e = new Error('x', {cause: e})",
    "aggregate": "const a = []; for (;;) a.push(new AggregateError(a.slice(0, 100)))",
    "regexps": "const a = []; for (;;) a.push(new RegExp('x{1,' + (a.length + 1) + '}'))",
    "regexp-large": "new RegExp('a'.repeat(1e7))",
    "regexp-groups": "new RegExp('(a)'.repeat(254)).exec('a'.repeat(254)); const a = []; for (;;) a.push(/(a)(b)?/.exec('a'))",
    "match-all": "'x'.repeat(2e6).match(/x/g)",
    "functions": "const a = []; for (;;) a.push(new Function('return ' + a.length))",
    "source": "eval('[' + '1,'.repeat(3e6) + ']')",
    "json-parse": "JSON.parse('[' + '{},'.repeat(3e5) + '1]')",
    "json-stringify": "const a = new Array(2e6).fill('xyz'); JSON.stringify(a)",
    "console-objects": "const a = []; for (;;) { a.push({}); console.log(a.length) }",
    "proxies": "const a = []; for (;;) a.push(new Proxy({}, {}))",
    "dates": "const a = []; for (;;) a.push(new Date())",
    "iterators": "const a = []; for (;;) a.push([1].values())",
    "arguments": "const a = []; (function f() { a.push(arguments); })(...new Array(1000)); for (;;) (function () { a.push(arguments) })(1, 2, 3)",
    "from-entries": "Object.fromEntries((function* () { for (let i = 0;; i++) yield ['k' + i, i] })())",
    "modules": "const a = []; for (let i = 0;; i++) a.push(import('x' + i).catch(() => 1))",
    "globals": "for (let i = 0;; i++) globalThis['g' + i] = {}",
    "the-plugin's-own": "for (;;) kept.push({})",
    "in-finally": "const a = []; try { throw 1 } finally { for (;;) a.push({}) }",
    "in-to-json": "return {toJSON() { const a = []; for (;;) a.push({}) }}",
    "in-a-promise": "return (async () => { await null; const a = []; for (;;) a.push({}) })()",
    "in-a-getter": "({get x() { const a = []; for (;;) a.push({}) }}).x",
    "after-catching": "const a = []; for (;;) try { for (;;) a.push(new Array(1000).fill(a)) } catch (e) { if (a.length < 10) throw e; a.length--; throw e }",
    "thrown-on": "const a = []; try { for (;;) a.push({}) } catch (e) { throw e }",
    "held-while-throwing": "const a = []; try { for (;;) a.push({}) } finally { kept.push(a) }",
}

# Here the plugin catches the refusal and goes on with what it has.
RECOVERED = [
    Attack("freed", "let a = []; try { for (;;) a.push({}) } catch { a = null } return [1, 2].map(x => 2 * x)", (), [2, 4]),
    Attack("held", "try { for (;;) kept.push(new Uint8Array(1e5)) } catch { return 'full' }", (), "full"),
    Attack("again", "let n = 0; for (let i = 0; i < 20; i++) try { 'x'.repeat(2 ** 29) } catch { n++ } return n", (), 20),
    Attack("name", "try { 'x'.repeat(2 ** 29) } catch (e) { return [e.name, e.message] }", (), ["InternalError", "out of memory"]),
    Attack("buffer-refused", "try { new ArrayBuffer(2 ** 52) } catch (e) { return e.name }", (), "RangeError"),
    Attack("length-refused", "try { new Array(-1) } catch (e) { return e.name }", (), "RangeError"),
    Attack("bigint-refused", "try { 2n ** (2n ** 40n) } catch (e) { return e.name }", (), "RangeError"),
    Attack("string-refused", "try { 'x'.repeat(2 ** 31) } catch (e) { return e.name }", (), "RangeError"),
]  # fmt: skip

# Larger than any value of its kind may be.
TOO_LARGE = [
    Attack("string-doubling", "let s = 'x'; for (;;) s += s", (px.JSError,), "string too long"),
    Attack("buffer", "new ArrayBuffer(2 ** 32)", (px.JSError,), "RangeError"),
    Attack("bigint", "let n = 1n; for (;;) n <<= 1000000n", (px.JSError,), "RangeError"),
]

# Filled, freed and filled again: the process must not grow by what the plugin no longer has. It ends by its deadline.
CHURN = {
    "arrays": "for (;;) { const a = []; for (let i = 0; i < 1e5; i++) a.push({}) }",
    "buffers": "for (;;) new Uint8Array(2e7).fill(1)",
    "strings": "for (;;) 'x'.repeat(2e7).split('y')",
    "resizing": "const b = new ArrayBuffer(0, {maxByteLength: 2e7}); for (;;) { b.resize(2e7); new Uint8Array(b).fill(1); b.resize(0) }",
    "refused": "const a = []; for (;;) try { for (;;) a.push({}) } catch { a.length = 0 }",
    "cycles": "for (;;) { const a = {}; a.b = {a, c: new Array(100)} }",
}

TABLE = [
    *(Attack(name, code, (px.MemoryLimitExceeded,), limits=PATIENT) for name, code in GREEDY.items()),
    *RECOVERED,
    *TOO_LARGE,
    *loops({f"churn-{name}": code for name, code in CHURN.items()}, limits=PREPARING),
]


test_in_a_sandbox, test_in_a_pool = judged(TABLE)
