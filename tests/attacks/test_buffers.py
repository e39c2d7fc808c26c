"""Detached, resized and shared buffers: nothing outside of them is ever read or written."""

from __future__ import annotations

import parallel_exec as px
from tests.attacks.attack import CALM, PLUGIN, Attack, judged

VALUES = {
    "detached-length": ("const b = new ArrayBuffer(8); b.transfer(); return [b.byteLength, b.detached]", [0, True]),
    "detached-view": ("const b = new ArrayBuffer(8), v = new Uint8Array(b); b.transfer(); v[0] = 1; return [v.length, v[0] === undefined]", [0, True]),
    "detached-data-view": ("const b = new ArrayBuffer(8), v = new DataView(b); b.transfer(); try { v.getInt8(0) } catch (e) { return e.name }", "TypeError"),
    "detached-result": ("const b = new ArrayBuffer(8), v = new Uint8Array(b); b.transfer(); return [v, b]", [{}, {}]),
    "detached-while-filling": ("const b = new ArrayBuffer(64), v = new Uint8Array(b); try { v.fill({valueOf() { b.transfer(); return 1 }}) } catch (e) { return e.name } return v.length", None),
    "detached-while-setting": ("const b = new ArrayBuffer(64), v = new Uint8Array(b); v[0] = {valueOf() { b.transfer(); return 1 }}; return v.length", 0),
    "detached-while-sorting": ("const b = new ArrayBuffer(64), v = new Uint8Array(b); v.sort(() => { b.detached || b.transfer(); return 1 }); return v.length", 0),
    "detached-while-mapping": ("const b = new ArrayBuffer(8), v = new Uint8Array(b); return [...v.map((x, i) => { i || b.transfer(); return 7 })]", [7] * 8),
    "detached-while-copying": ("const b = new ArrayBuffer(64), v = new Uint8Array(b); try { v.copyWithin(0, {valueOf() { b.transfer(); return 8 }}) } catch (e) { return e.name } return v.length", None),
    "detached-while-slicing": ("const b = new ArrayBuffer(64); try { b.slice({valueOf() { b.transfer(); return 0 }}) } catch (e) { return e.name }", "TypeError"),
    "detached-while-subarray": ("const b = new ArrayBuffer(64), v = new Uint8Array(b); try { return v.subarray({valueOf() { b.transfer(); return 0 }}).length } catch (e) { return e.name }", None),
    "detached-while-joining": ("const b = new ArrayBuffer(4), v = new Uint8Array(b); return v.join({toString() { b.transfer(); return '-' }})", "---"),
    "detached-while-searching": ("const b = new ArrayBuffer(64), v = new Uint8Array(b); return v.includes(undefined, {valueOf() { b.transfer(); return 0 }})", True),
    "detached-while-constructing": ("const b = new ArrayBuffer(64); try { new Uint8Array(b, {valueOf() { b.transfer(); return 0 }}) } catch (e) { return e.name }", "TypeError"),
    "detached-while-set": ("const b = new ArrayBuffer(4), v = new Uint8Array(b); v.set({length: 4, get 0() { b.transfer(); return 1 }, 1: 2}); return v.length", 0),
    "detached-while-dataview-set": ("const b = new ArrayBuffer(8), v = new DataView(b); try { v.setFloat64(0, {valueOf() { b.transfer(); return 1 }}) } catch (e) { return e.name }", "TypeError"),
    "shrunk-view": ("const b = new ArrayBuffer(8, {maxByteLength: 16}), v = new Uint8Array(b, 4, 4); b.resize(6); return [v.length, v.byteOffset, v[0] === undefined]", [0, 0, True]),
    "shrunk-tracking": ("const b = new ArrayBuffer(8, {maxByteLength: 16}), v = new Uint8Array(b); b.resize(2); const n = v.length; b.resize(16); return [n, v.length]", [2, 16]),
    "shrunk-while-filling": ("const b = new ArrayBuffer(64, {maxByteLength: 64}), v = new Uint8Array(b); v.fill({valueOf() { b.resize(3); return 1 }}); return [...v]", None),
    "shrunk-while-sorting": ("const b = new ArrayBuffer(64, {maxByteLength: 64}), v = new Uint8Array(b); v.sort(() => { b.resize(1); return 1 }); return v.length", 1),
    "shrunk-while-copying": ("const b = new ArrayBuffer(64, {maxByteLength: 64}), v = new Uint8Array(b); v.copyWithin(0, {valueOf() { b.resize(4); return 2 }}); return v.length", 4),
    "shrunk-while-slicing": ("const b = new ArrayBuffer(64, {maxByteLength: 64}), v = new Uint8Array(b).fill(1); return v.slice({valueOf() { b.resize(4); return 0 }}).length", 64),
    "shrunk-while-with": ("const b = new ArrayBuffer(8, {maxByteLength: 8}), v = new Uint8Array(b); try { return v.with(7, {valueOf() { b.resize(1); return 1 }}).length } catch (e) { return e.name }", None),
    "shrunk-while-iterating": ("const b = new ArrayBuffer(8, {maxByteLength: 8}), v = new Uint8Array(b), a = []; try { for (const x of v) { a.push(x); b.resize(2) } } catch (e) { a.push(e.name) } return a", [0, 0]),
    "grown-while-iterating": ("const b = new ArrayBuffer(1, {maxByteLength: 8}), v = new Uint8Array(b); let n = 0; for (const x of v) { n++; if (b.byteLength < 8) b.resize(b.byteLength + 1) } return n", 8),
    "regrown-is-zero": ("const b = new ArrayBuffer(8, {maxByteLength: 8}), v = new Uint8Array(b).fill(255); b.resize(0); b.resize(8); return [...v]", [0] * 8),
    "transferred-grown-is-zero": ("const b = new ArrayBuffer(4); new Uint8Array(b).fill(255); return [...new Uint8Array(b.transfer(8))]", [255] * 4 + [0] * 4),
    "species-detached": ("class B extends ArrayBuffer { static get [Symbol.species]() { return function (n) { const b = new ArrayBuffer(n); b.transfer(); return b } } } try { new B(8).slice(0) } catch (e) { return e.name }", "TypeError"),
    "species-small": ("class V extends Uint8Array { static get [Symbol.species]() { return class { constructor() { return new Uint8Array(1) } } } } try { new V(8).map(x => x) } catch (e) { return e.name }", "TypeError"),
    "overlapping-set": ("const b = new ArrayBuffer(64), v = new Uint8Array(b), f = new Float64Array(b); f[0] = 1; v.set(new Uint8Array(b, 0, 56), 8); return [f[1], f[7]]", [1, 0]),
    "offset-out": ("try { new Uint8Array(new ArrayBuffer(8), 16) } catch (e) { return e.name }", "RangeError"),
    "offset-odd": ("try { new Float64Array(new ArrayBuffer(16), 4) } catch (e) { return e.name }", "RangeError"),
    "offset-negative": ("try { new DataView(new ArrayBuffer(8), -1) } catch (e) { return e.name }", "RangeError"),
    "dataview-out": ("const v = new DataView(new ArrayBuffer(8)); return [8, 7, 2 ** 32, 2 ** 53 - 1, -1].map(n => { try { v.getFloat64(n); return 'read' } catch (e) { return e.name } })", ["RangeError"] * 5),
    "index-out": ("const v = new Uint8Array(8); return [8, -1, 2 ** 32, 2 ** 53, 1.5].map(n => { v[n] = 1; return v[n] === undefined })", [True] * 5),
    "sab-length": ("return new SharedArrayBuffer(8).byteLength", 8),
    "sab-grow": ("try { new SharedArrayBuffer(1, {maxByteLength: 8}) } catch (e) { return e.name }", "TypeError"),
    "sab-result": ("const b = new SharedArrayBuffer(3); new Uint8Array(b).fill(7); return b", b"\7\7\7"),
    "huge-max": ("try { return new ArrayBuffer(0, {maxByteLength: 2 ** 40}).byteLength } catch (e) { return e.name }", "RangeError"),
    "document-binary": ("return new Uint8Array(5).fill(1)", b"\1" * 5),
    "fresh-memory-is-zero": ("return new Uint8Array(new ArrayBuffer(1e6)).indexOf(255)", -1),
    "fresh-after-free-is-zero": ("for (let i = 0; i < 20; i++) new Uint8Array(1e6).fill(255); return new Uint8Array(1e6).indexOf(255)", -1),
}  # fmt: skip
FAILING = [
    Attack("resize-over-max", "new ArrayBuffer(1, {maxByteLength: 2}).resize(3)", (px.JSError,), "RangeError"),
    Attack("resize-fixed", "new ArrayBuffer(1).resize(1)", (px.JSError,), "TypeError"),
    Attack("transfer-twice", "const b = new ArrayBuffer(1); b.transfer(); b.transfer()", (px.JSError,), "TypeError"),
    Attack("length-negative", "new Uint8Array(-1)", (px.JSError,), "RangeError"),
    Attack("length-huge", "new Float64Array(2 ** 53)", (px.JSError,), "RangeError"),
]
TABLE = [Attack(name, code, (), "" if says is None else says) for name, (code, says) in VALUES.items()] + FAILING


test_in_a_sandbox, test_in_a_pool = judged(TABLE)


def test_a_document_that_the_plugin_detaches() -> None:
    source = "function f(v) { const b = v.buffer; b.transfer(0); return [v.length, b.byteLength] } function g(v) { return v }"
    with px.Sandbox(px.Plugin(source), limits=CALM) as sandbox:
        for size in (0, 1, 1000, 1_000_000):
            assert sandbox.call("f", b"x" * size, input="binary") == [0, 0]
            assert sandbox.call("g", b"x" * size, input="binary") == b"x" * size


def test_a_result_that_was_detached_or_resized_has_no_bytes() -> None:
    for code, expected in (
        ("const b = new ArrayBuffer(8), v = new Uint8Array(b); b.transfer(); return v", b""),
        ("const b = new ArrayBuffer(8); b.transfer(); return b", b""),
        ("const b = new ArrayBuffer(8, {maxByteLength: 8}), v = new Uint8Array(b, 4); b.resize(2); return v", b""),
        ("const b = new ArrayBuffer(8, {maxByteLength: 8}), v = new Uint8Array(b); b.resize(2); return v", b"\0\0"),
        ("const b = new ArrayBuffer(2, {maxByteLength: 8}), v = new Uint8Array(b); b.resize(8); return v", b"\0" * 8),
    ):
        with px.Sandbox(PLUGIN, limits=CALM) as sandbox:
            assert sandbox.call("attack", code) == expected
