"""Loops in the engine's own code: one call of a built-in function that runs very long."""

from __future__ import annotations

import parallel_exec as px
from tests.attacks.attack import PREPARING, Attack, judged, loops

# These never end by themselves, whatever the machine's speed.
ENDLESS = {
    # an object may claim any length
    "index-of": "Array.prototype.indexOf.call({length: 2 ** 53 - 1}, 1)",
    "last-index-of": "Array.prototype.lastIndexOf.call({length: 2 ** 53 - 1}, 1)",
    "includes": "Array.prototype.includes.call({length: 2 ** 53 - 1}, 1)",
    "fill-frozen": "Array.prototype.fill.call(new Proxy({length: 2 ** 53 - 1}, {set: () => true}), 1)",
    "copy-within": "Array.prototype.copyWithin.call({length: 2 ** 53 - 1}, 1)",
    "reverse": "Array.prototype.reverse.call({length: 2 ** 53 - 1})",
    "join": "Array.prototype.join.call({length: 2 ** 53 - 1})",
    "to-string": "Array.prototype.toString.call({length: 2 ** 53 - 1, join: Array.prototype.join})",
    "to-locale-string": "Array.prototype.toLocaleString.call({length: 2 ** 53 - 1})",
    "slice": "Array.prototype.slice.call({length: 2 ** 32 - 1})",
    "splice": "Array.prototype.splice.call({length: 2 ** 53 - 1}, 0, 2 ** 32 - 1)",
    "shift": "Array.prototype.shift.call({length: 2 ** 53 - 1})",
    "unshift": "Array.prototype.unshift.call({length: 2 ** 53 - 2}, 1)",
    "concat": "Array.prototype.concat.call([], {length: 2 ** 53 - 1, [Symbol.isConcatSpreadable]: true})",
    "sort": "Array.prototype.sort.call({length: 2 ** 53 - 1})",
    "flat": "Array.prototype.flat.call({length: 2 ** 53 - 1})",
    "map-sparse": "Array.prototype.forEach.call({length: 2 ** 53 - 1}, () => 1)",
    "every-sparse": "Array.prototype.every.call({length: 2 ** 53 - 1}, () => 1)",
    "reduce-sparse": "Array.prototype.reduce.call({length: 2 ** 53 - 1, 0: 0}, () => 1)",
    "reduce-right-sparse": "Array.prototype.reduceRight.call({length: 2 ** 53 - 1}, () => 1, 0)",
    "find-last": "Array.prototype.findLast.call({length: 2 ** 53 - 1}, () => 0)",
    "raw": "String.raw({raw: {length: 2 ** 53 - 1}})",
    "sparse-join": "new Array(2 ** 32 - 1).join()",
    "sparse-plus": "new Array(1e9) + ''",
    "sparse-index-of": "new Array(2 ** 32 - 1).indexOf(1)",
    "sparse-sort": "new Array(2 ** 32 - 1).sort()",
    "sparse-reverse": "new Array(2 ** 32 - 1).reverse()",
    "sparse-concat": "new Array(2 ** 31).concat(new Array(2 ** 31 - 1))",
    "sparse-for-of": "for (const x of new Array(2 ** 32 - 1));",
    "sparse-set": "new Set(new Array(2 ** 32 - 1))",
    "sparse-length": "const a = []; for (;;) { a.length = 2 ** 32 - 1; a.length = 0 }",
    # strings
    "repeat": "for (;;) 'x'.repeat(1e7)",
    "pad-start": "for (;;) 'x'.padStart(1e7, 'ab')",
    "index-of-quadratic": "for (;;) 'a'.repeat(8e6).indexOf('a'.repeat(4e6) + 'b')",
    "last-index-of-quadratic": "for (;;) 'a'.repeat(8e6).lastIndexOf('b' + 'a'.repeat(4e6))",
    "includes-quadratic": "for (;;) 'a'.repeat(8e6).includes('a'.repeat(4e6) + 'b')",
    "split-quadratic": "for (;;) 'a'.repeat(8e6).split('a'.repeat(4e6) + 'b')",
    "replace-all-quadratic": "for (;;) 'a'.repeat(8e6).replaceAll('a'.repeat(4e6) + 'b', '')",
    "replace-quadratic": "for (;;) 'a'.repeat(8e6).replace('a'.repeat(4e6) + 'b', '')",
    "normalize": "for (;;) 'e\\u0301'.repeat(1e6).normalize()",
    "normalize-marks": "for (;;) ('e' + '\\u0301\\u0323'.repeat(1e6)).normalize('NFD')",
    "locale-compare": "const a = 'ä'.repeat(1e6); for (;;) a.localeCompare(a + 'x')",
    "to-upper": "for (;;) 'ß'.repeat(1e6).toUpperCase()",
    "encode": "for (;;) encodeURIComponent('ä'.repeat(1e5))",
    "decode": "const s = '%C3%A4'.repeat(1e5); for (;;) decodeURIComponent(s)",
    "flatten": "let s = 'x'; for (;;) { s = ('a' + s).slice(0, 1e5); s.codePointAt(5) }",
    "regexp-flags": "for (;;) /x/g[Symbol.replace]('y'.repeat(1e7), '')",
    "match-all": "for (;;) 'x'.repeat(1e5).match(/x/g)",
    "split-chars": "for (;;) 'x'.repeat(1e5).split('')",
    "symbols": "for (;;) Symbol('x'.repeat(1e6)).toString()",
    # numbers
    "bigint-power": "for (;;) 3n ** 600000n",
    "bigint-shift": "for (;;) 1n << 1000000n",
    "bigint-multiply": "const n = 1n << 500000n; for (;;) (n + 1n) * (n - 1n)",
    "bigint-divide": "const n = 7n ** 150000n; for (;;) n * n / (n - 3n)",
    "bigint-text": "for (;;) (7n ** 300000n).toString()",
    "bigint-parse": "for (;;) BigInt('9'.repeat(300000))",
    "number-parse": "for (;;) Number('9'.repeat(1e6))",
    "parse-int": "for (;;) parseInt('7'.repeat(1e6), 8)",
    "to-fixed": "for (;;) 1e20.toFixed(100)",
    # typed arrays and buffers
    "buffer-slice": "const b = new ArrayBuffer(1e7); for (;;) b.slice(1)",
    # parsing and compiling
    "parse-template": "for (;;) eval('`' + '${1}'.repeat(5e4) + '`')",
    "parse-comment": "for (;;) eval('/*' + 'x'.repeat(1e6) + '*/')",
    "regexp-compile": "for (;;) new RegExp('a|'.repeat(1e5))",
    "regexp-compile-nested": "for (;;) new RegExp('(?:a{1,1000}){1,1000}'.repeat(1000))",
    "regexp-compile-classes": "for (;;) new RegExp('[\\\\p{L}\\\\p{N}]'.repeat(1000), 'u')",
    "json-parse-reviver": "const s = '[' + '1,'.repeat(1e5) + '1]'; for (;;) JSON.parse(s, (k, v) => v)",
    "json-stringify-indent": "const a = new Array(1e5).fill('x'); for (;;) JSON.stringify(a, null, '          ')",
    # objects
    "proxy-chain": "let o = {}; for (let i = 0; i < 1000; i++) o = new Proxy(o, {}); for (;;) o.missing",
    "map-collisions": "const m = new Map(); for (let i = 0; ; i++) { m.set(i % 1e5, i); m.delete((i + 1) % 1e5) }",
    "date-parse": "for (;;) Date.parse('x'.repeat(1e6))",
    "error-stacks": "(function f(n) { if (n) return f(n - 1); for (;;) new Error('x').stack })(500)",
    "garbage": "for (;;) { const a = {}; a.a = a }",
}

# Nor do these, but making what they loop over takes a while.
PREPARED = {
    "flatten-rope": "let s = ''; for (let i = 0; i < 1e6; i++) s = s + 'a'; for (;;) (s + 'b').charCodeAt(1e6)",
    "compare": "const a = 'x'.repeat(1e7), b = a + 'y'; for (;;) a === b.slice(0, 1e7)",
    "typed-sort-again": "const a = new Float64Array(1e6); for (let i = 0; i < 1e6; i++) a[i] = Math.sin(i); for (;;) a.toSorted()",
    "typed-fill": "const a = new Uint8Array(3e7); for (;;) a.fill(1)",
    "typed-index-of": "const a = new Uint8Array(3e7); for (;;) a.indexOf(1)",
    "typed-copy-within": "const a = new Uint8Array(3e7); for (;;) a.copyWithin(1, 0)",
    "typed-reverse": "const a = new Uint8Array(3e7); for (;;) a.reverse()",
    "json-parse": "const s = '[' + '1,'.repeat(1e6) + '1]'; for (;;) JSON.parse(s)",
    "json-stringify": "const a = new Array(5e5).fill('x'); for (;;) JSON.stringify(a)",
    "array-sort": "const a = Array.from({length: 3e5}, (_, i) => 'k' + i * 7919 % 1e6); for (;;) a.slice().sort()",
    "many-keys": "const o = {}; for (let i = 0; i < 2e5; i++) o['k' + i] = i; for (;;) Object.keys(o)",
    "many-keys-deleted": "const o = {}; for (let i = 0; i < 1e5; i++) o['k' + i] = i; for (;;) for (const k in o) { delete o[k]; o[k] = 1 }",
    "freeze": "const a = new Array(1e6).fill(1); for (;;) Object.freeze([...a.slice(0, 1e5)])",
    "assign": "const o = {}; for (let i = 0; i < 1e5; i++) o['k' + i] = i; for (;;) Object.assign({}, o)",
    "prototype-chain": "let o = {}; for (let i = 0; i < 2e5; i++) o = Object.create(o); for (;;) o.missing",
    "structured": "const a = new Array(1e5).fill(0).map((_, i) => ({i})); for (;;) JSON.parse(JSON.stringify(a))",
}

# These take all memory; those below the engine refuses at once.
GREEDY = {
    "fill": "Array.prototype.fill.call({length: 2 ** 53 - 1}, 1)",
    "array-from-length-32": "Array.from({length: 2 ** 32 - 1})",
    "sparse-json": "JSON.stringify(Object.assign([], {length: 2 ** 32 - 1}))",
    "sparse-fill": "new Array(2 ** 32 - 1).fill()",
    "sparse-spread": "[...new Array(2 ** 32 - 1)]",
    "repeat-large": "'x'.repeat(2 ** 30 - 25)",
    "pad-end": "'x'.padEnd(2 ** 29)",
    "typed-sort": "new Float64Array(4e6).map(Math.random).sort()",
    "typed-join": "for (;;) new Uint8Array(3e7).join('')",
    "parse": "for (;;) eval('1+'.repeat(2e6) + '1')",
}
REFUSED = {
    "flat-infinity": "const a = [1]; a.push(a); a.flat(Infinity)",
    "array-from-length": "Array.from({length: 2 ** 53 - 1})",
    "to-sorted": "Array.prototype.toSorted.call({length: 2 ** 32 - 1})",
    "to-reversed": "Array.prototype.toReversed.call({length: 2 ** 32 - 1})",
    "with": "Array.prototype.with.call({length: 2 ** 32 - 1}, 0, 1)",
    "apply": "(() => 1).apply(null, {length: 2 ** 32 - 1})",
    "construct": "Reflect.construct(Array, {length: 2 ** 32 - 1})",
    "typed-from-length": "Uint8Array.from({length: 2 ** 53 - 1})",
    "typed-set": "new Uint8Array(1).set({length: 2 ** 53 - 1})",
    "bigint-powers": "let n = 3n; for (;;) n *= n",
    "bigint-too-large": "1n << 10000000n",
    "bigint-as": "BigInt.asUintN(2 ** 53 - 1, -1n)",
    "parse-nested": "new Function('(' + '['.repeat(1e5))",
}
TABLE = [
    *loops(ENDLESS),
    *loops(PREPARED, limits=PREPARING),
    *(Attack(name, code, (px.MemoryLimitExceeded,)) for name, code in GREEDY.items()),
    *(Attack(name, code, (px.JSError,), "RangeError") for name, code in REFUSED.items()),
    Attack("sparse-result", "return Object.assign([], {length: 2 ** 32 - 1})", (px.OutputTooLarge,)),
]
test_in_a_sandbox, test_in_a_pool = judged(TABLE)
