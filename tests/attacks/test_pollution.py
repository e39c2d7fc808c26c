"""What a job leaves behind: in globals, prototypes, built-in objects, the engine's tables, half-done work. The next job's
answer does not show any of it.
"""

from __future__ import annotations

import parallel_exec as px
from tests.attacks.attack import PATIENT, Attack, judged

BODIES = {
    "global": "globalThis.leaked = 1",
    "global-var": "(0, eval)('var leaked = 1')",
    "global-let": "(0, eval)('let leaked = 1')",
    "global-function": "(0, eval)('function leaked() {}')",
    "global-undeclared": "leaked = 1",
    "global-getter": "Object.defineProperty(globalThis, 'leaked', {get: () => 1})",
    "global-fixed": "Object.defineProperty(globalThis, 'leaked', {value: 1})",
    "global-proxied": "Object.setPrototypeOf(globalThis, new Proxy({}, {has: () => true, get: () => 1}))",
    "global-functions-replaced": "good = () => 'mine'; attack = echo = null; Point = null",
    "plugin-state": "for (let i = 0; i < 1000; i++) kept.push(i); kept.length = 5; Object.freeze(kept)",
    "object-prototype": "Object.prototype.polluted = 1",
    "object-prototype-proto": "({}).__proto__.polluted = 1",
    "object-prototype-constructor": "({}).constructor.prototype.polluted = 1",
    "object-prototype-getter": "Object.defineProperty(Object.prototype, 'x', {get() { return 7 }, set() {}})",
    "object-prototype-index": "Object.prototype[0] = 'mine'; Object.prototype[1] = 'mine'",
    "object-prototype-to-json": "Object.prototype.toJSON = () => 'mine'",
    "json-proto-key": 'JSON.parse(\'{"__proto__": {"polluted": 1}}\'); Object.assign({}.__proto__, JSON.parse(\'{"polluted": 1}\'))',
    "array-prototype-index": "Array.prototype[0] = 'mine'; Array.prototype[5] = 'mine'",
    "array-prototype-methods": "for (const k of Object.getOwnPropertyNames(Array.prototype)) try { Array.prototype[k] = () => 'mine' } catch {}",
    "array-prototype-iterator": "Array.prototype[Symbol.iterator] = function* () { yield 'mine' }",
    "array-prototype-setter": "Object.defineProperty(Array.prototype, 0, {set() {}})",
    "array-prototype-gone": "Object.setPrototypeOf(Array.prototype, null)",
    "array-iterator": "Object.getPrototypeOf([][Symbol.iterator]()).next = () => ({done: true})",
    "map-prototype": "Map.prototype.values = () => ['mine']; Map.prototype.set = function () { return this }",
    "string-prototype": "String.prototype[Symbol.iterator] = function* () { yield 'mine' }; String.prototype.trim = null",
    "number-prototype": "Number.prototype.toString = () => 'mine'; Number.prototype.toJSON = () => 'mine'",
    "function-prototype": "Function.prototype.call = Function.prototype.apply = () => 'mine'",
    "function-prototype-has-instance": "Object.defineProperty(Function.prototype, 'prototype', {value: 1})",
    "regexp-prototype": "RegExp.prototype.exec = () => null; RegExp.prototype[Symbol.match] = () => null",
    "promise-prototype": "Promise.prototype.then = () => { throw 1 }; Promise.resolve = null",
    "error-prototype": "Error.prototype.toString = () => 'mine'; Error.prepareStackTrace = () => 'mine'; Error.stackTraceLimit = 0",
    "symbol-prototype": "Symbol.prototype.toString = () => 'mine'",
    "date": "Date = function () { return {toJSON: () => 'mine'} }; globalThis.Date.now = () => 1",
    "date-prototype": "Date.prototype.toJSON = Date.prototype.toISOString = () => 'mine'",
    "math": "Math.max = () => 'mine'; Math.random = () => 4; Math = null",
    "json": "JSON.parse = JSON.stringify = () => 'mine'; JSON = null",
    "json-raw": "JSON.stringify = new Proxy(JSON.stringify, {apply: () => '\"mine\"'})",
    "console": "console.log = () => { throw 1 }; console = null",
    "everything-gone": "for (const k of Reflect.ownKeys(globalThis)) try { delete globalThis[k] } catch {}",
    "everything-null": "for (const k of Reflect.ownKeys(globalThis)) try { globalThis[k] = null } catch {}",
    "everything-frozen": "for (const k of Reflect.ownKeys(globalThis)) try { Object.freeze(globalThis[k]); Object.freeze(globalThis[k].prototype) } catch {}",
    "everything-emptied": "for (const k of Reflect.ownKeys(globalThis)) try { const p = globalThis[k].prototype;"
    " for (const m of Reflect.ownKeys(p)) try { delete p[m] } catch {} } catch {}",
    "global-frozen": "Object.freeze(globalThis)",
    "class-changed": "Point = class { get double() { return 'mine' } }",
    "class-prototype": "Object.defineProperty(kept.constructor.prototype, 'push', {value: () => 'mine'})",
    "symbols": "for (let i = 0; i < 5000; i++) Symbol.for('shared' + i)",
    "symbol-for-state": "Symbol.for('counter').description; globalThis[Symbol.for('counter')] = 1; leaked = 1",
    "atoms": "const o = {}; for (let i = 0; i < 20000; i++) o['atom' + i] = 1",
    "shapes": "for (let i = 0; i < 5000; i++) { const o = {x: 1}; o['p' + i] = 1; o.list = 2 }",
    "regexp-state": "const r = /b+(c)/g; r.exec('abbc'); /x/.exec('x'); RegExp.lastMatch",
    "promise-pending": "new Promise(() => {}); (async () => { await new Promise(() => {}); leaked = 1 })()",
    "promise-jobs": "(async () => { for (let i = 0; i < 100; i++) await 0; leaked = 1 })()",
    "promise-rejected": "Promise.reject(new Error('unhandled'))",
    "generator-suspended": "const g = (function* () { try { yield 1 } finally { leaked = 1 } })(); g.next(); globalThis.leaked = g",
    "finalization": "const r = new FinalizationRegistry(() => { leaked = 1 }); r.register({}, 1); globalThis.leaked = r",
    "weak-ref": "globalThis.leaked = new WeakRef({})",
    "templates": "const t = s => s; globalThis.leaked = t`a${1}b`",
    "learnt-shapes": "JSON.parse('[' + '{\"x\":1,\"list\":[1]},'.repeat(500) + '1]'); JSON.stringify({list: 1, x: 2})",
    "learnt-odd-shapes": 'for (const s of [\'{"list":1,"x":1}\', \'{"x":{"x":1}}\', \'{"0":1,"x":2}\', \'{"x":1,"x":2}\']) JSON.parse(s)',
    "stack-traces": "Error.captureStackTrace({}); Error.stackTraceLimit = 1e9; (function f(n) { if (n) f(n - 1); else new Error().stack })(100)",
    "random": "for (let i = 0; i < 1000; i++) Math.random()",
    "big-heap": "globalThis.leaked = new Uint8Array(3e7).fill(255)",
    "fragmented": "const a = Array.from({length: 1e4}, (_, i) => 'x'.repeat(i % 300)); globalThis.leaked = a.filter((_, i) => i % 3)",
    "fifty-sorts": "globalThis.leaked = Array.from({length: 50}, () => Array.from({length: 500}, Math.random).sort())",
}
# The attack's own end is of no interest: it may have destroyed what its result needs.
ENDED = [Attack(name, f"{body}; return undefined", ()) for name, body in BODIES.items()]
THROWN = [
    Attack(f"and-throws-{name}", f"{BODIES[name]}; throw new Error('out')", (px.JSError,))
    for name in ("global", "object-prototype", "array-prototype-methods", "everything-null", "promise-jobs", "big-heap")
]
STOPPED = [
    Attack(f"and-spins-{name}", f"{BODIES[name]}; for (;;);", (px.JobTimeout,))
    for name in ("global", "object-prototype", "array-prototype-methods", "everything-null", "promise-jobs", "big-heap")
]
FILLED = [
    Attack(f"and-fills-{name}", f"{BODIES[name]}; const a = []; for (;;) a[a.length] = {{a}}", (px.MemoryLimitExceeded,), limits=PATIENT)
    for name in ("global", "object-prototype", "everything-frozen", "promise-jobs")
]  # fmt: skip


TABLE = [*ENDED, *THROWN, *STOPPED, *FILLED]
test_in_a_sandbox, test_in_a_pool = judged(TABLE)
