"""Catching the interrupt, or the refusal of memory, and going on: there is no such way. What is caught is stopped again."""

from __future__ import annotations

import parallel_exec as px
from tests.attacks.attack import PATIENT, PREPARING, Attack, judged, loops

STOPPED = {
    "catch-returns": "try { for (;;); } catch { return 'caught' }",
    "finally-returns": "try { for (;;); } finally { return 'finally' }",
    "catch-goes-on": "for (;;) try { for (;;); } catch {}",
    "finally-goes-on": "for (;;) try { for (;;); } finally { continue }",
    "label-out-of-finally": "a: try { for (;;); } finally { break a } return 'out'",
    "nested": "try { try { try { for (;;); } catch { return 1 } } finally { return 2 } } catch { return 3 }",
    "catch-in-callee": "const f = () => { try { for (;;); } catch { return 1 } }; return f() + f()",
    "generator-catches": "const g = (function* () { for (;;) try { for (;;); } catch { yield 1 } })(); return [...g]",
    "generator-finally": "const g = (function* () { try { for (;;) yield 1 } finally { for (;;); } })(); for (const x of g);",
    "iterator-return": "for (const x of {[Symbol.iterator]: () => ({next: () => ({}), return() { for (;;); }})}) for (;;);",
    "async-catches": "return (async () => { try { for (;;); } catch { return 'caught' } })()",
    "async-finally": "return (async () => { try { for (;;); } finally { return 'finally' } })()",
    "then-catches": "return Promise.resolve().then(() => { for (;;); }).catch(() => 'caught')",
    "then-finally": "return Promise.resolve().then(() => { for (;;); }).finally(() => 'finally')",
    "then-both": "return Promise.resolve().then(() => { for (;;); }).then(() => 1, () => 2)",
    "executor": "return new Promise(() => { for (;;); }).catch(() => 'caught')",
    "all-settled": "return Promise.allSettled([(async () => { for (;;); })()])",
    "any": "return Promise.any([(async () => { for (;;); })(), 1])",
    "race": "return Promise.race([(async () => { await 0; for (;;); })(), new Promise(() => {})])",
    "async-iterator": "return (async () => { for await (const x of (async function* () { try { for (;;); } catch { yield 1 } })()) return x })()",
    "from-async": "return Array.fromAsync([1], () => { for (;;); }).catch(() => 'caught')",
    "async-catches-and-finally": "return (async () => { try { await 0; for (;;); } catch { return 1 } finally { return 2 } })()",
    "thenable": "return {then(resolve) { resolve(1) }, toJSON() { try { for (;;); } catch { return 1 } }}",
    "sort": "try { [2, 1].sort(() => { for (;;); }) } catch {} return 'caught'",
    "replace": "try { 'x'.replace(/x/, () => { for (;;); }) } catch {} return 'caught'",
    "regexp": "try { /(a+)+$/.test('a'.repeat(50) + 'b') } catch { return 'caught' }",
    "regexps": "for (;;) try { /(a+)+$/.test('a'.repeat(50) + 'b') } catch {}",
    "json-parse": "try { JSON.parse('[1]', () => { for (;;); }) } catch { return 'caught' }",
    "json-stringify": "try { JSON.stringify({toJSON() { for (;;); }}) } catch { return 'caught' }",
    "console": "try { console.log({toJSON() { for (;;); }}) } catch { return 'caught' }",
    "console-twice": "console.log({toString() { for (;;); }, toJSON() { throw 1 }}); for (;;);",
    "eval": "try { eval('for (;;);') } catch { return 'caught' }",
    "proxy": "try { new Proxy({}, {get() { for (;;); }}).x } catch { return 'caught' }",
    "getter": "try { ({get x() { for (;;); }}).x } catch { return 'caught' }",
    "spread": "try { [...(function* () { for (;;); })()] } catch { return 'caught' }",
    "destructuring": "try { const [a] = (function* () { for (;;); })() } catch { return 'caught' }",
    "disposable": "const s = new DisposableStack(); s.defer(() => { for (;;); }); try { s.dispose() } catch { return 'caught' }",
    "static-block": "try { class A { static { for (;;); } } } catch { return 'caught' }",
    "recursion": "(function f() { try { f() } finally { for (;;); } })()",
    "recursion-catches": "(function f() { try { f() } catch {} for (;;); })()",
    "rethrown-as-another": "try { for (;;); } catch (e) { throw new Error('mine') }",
    "thrown-in-finally": "try { for (;;); } finally { throw new Error('mine') }",
    "error-to-string": "throw {toString() { try { for (;;); } catch { return 'caught' } }}",
    "error-message": "throw Object.defineProperty(new Error(), 'message', {get() { try { for (;;); } catch { return 'caught' } }})",
    "result": "return {toJSON() { try { for (;;); } catch { return 'caught' } }}",
    "results": "return [1, 2, 3].map(() => ({get x() { try { for (;;); } catch { return 'caught' } }}))",
    "weak-callbacks": "const r = new FinalizationRegistry(() => { for (;;); }); for (;;) r.register({}, 1)",
    "handler-everywhere": "const h = {get: () => new Proxy(() => {}, h), apply() { try { for (;;); } catch { return new Proxy(() => {}, h) } }};"
    " return new Proxy(() => {}, h).a.b.c()",
}
MEMORY_THEN_TIME = {
    "memory-then-time": "const a = []; try { for (;;) a.push(new Uint8Array(1e6)) } catch { for (;;); }",
    "memory-again-and-again": "const a = []; for (;;) try { for (;;) a.push({}) } catch { a.length = 0 }",
}
UNCATCHABLE_MEMORY = [
    Attack(name, body, (px.MemoryLimitExceeded,), limits=PATIENT)
    for name, body in {
        "memory-rethrown": "const a = []; try { for (;;) a.push({}) } catch (e) { throw e }",
        "memory-in-finally": "const a = []; try { for (;;) a.push({}) } finally { for (;;) a.push({}) }",
        "memory-in-catch": "const a = []; try { for (;;) a.push({}) } catch { for (;;) a.push({}) }",
        "memory-while-reporting": "const a = []; try { for (;;) a.push({}) } catch { throw new Error('x'.repeat(1e6) + a.length) }",
        "memory-while-writing": "const a = []; try { for (;;) a.push('x'.repeat(100) + a.length) } catch { return a }",
        "memory-in-a-promise": "return (async () => { const a = []; try { for (;;) a.push({}) } finally { await null; for (;;) a.push({}) } })()",
    }.items()
]
TABLE = [*loops(STOPPED), *loops(MEMORY_THEN_TIME, limits=PREPARING), *UNCATCHABLE_MEMORY]


test_in_a_sandbox, test_in_a_pool = judged(TABLE)
