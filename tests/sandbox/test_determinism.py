"""With Limits(seed=..., time=...), a plugin gives the same bytes in every sandbox, worker, process and run."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

import parallel_exec as px

SOURCE = r"""
const loaded = [Math.random(), Date.now(), performance.timeOrigin, new Date().toString()], early = new Map([[{}, 1], ['k', 2], [loaded[0], 3]]);
const hex = buffer => [...new Uint8Array(buffer)].map(b => b.toString(16).padStart(2, '0')).join('');
function nans() {
    const made = [0 / 0, -(0 / 0), Infinity - Infinity, 0 * Infinity, Math.sqrt(-1), Math.acos(2), Math.log(-1), NaN, -NaN, NaN ** 2, 5 % 0,
        Number('x'), parseFloat('y'), +undefined, Math.max(NaN, 1), Math.min(), new Date(NaN).getTime(), Math.fround(NaN), [NaN].at(0),
        Math.hypot(NaN, 1), Math.pow(-8, 1 / 3), Math.atan2(NaN, 1), Math.sign(NaN), JSON.parse('[1]')[1] - 1, Number(BigInt(1)) - {}];
    const f64 = new Float64Array(made), f32 = new Float32Array(made), view = new DataView(new ArrayBuffer(8));
    // With bits of the plugin's own choice, through every way of copying.
    const own = new Uint8Array([1, 2, 3, 4, 5, 6, 0xf7, 0xff, 9, 8, 7, 6, 5, 4, 0xf3, 0x7f]), read = new Float64Array(own.buffer);
    view.setFloat64(0, read[0]);
    return [hex(f64.buffer), hex(f32.buffer), hex(view.buffer), hex(Float64Array.from(read).buffer), hex(read.map(x => -x).buffer),
        hex(read.slice().sort().buffer), hex(new Float32Array(read).buffer), hex(new Float32Array(own.buffer).map(x => x + 1).buffer),
        hex(new Float16Array([NaN, -NaN, 1e9, 1e-9]).buffer), hex(new Float64Array([read[0] + read[1], read[1] + read[0]]).buffer),
        hex(new Float64Array(new Array(3)).buffer), hex(new Float64Array(2).fill(NaN).buffer)];
}
function maths() {
    const found = [];
    for (const name of Object.getOwnPropertyNames(Math).sort())
        if (typeof Math[name] === 'function' && name !== 'random' && name !== 'sumPrecise')
            for (const x of [-2.5, -0, 0.1, 1 / 3, 0.5, 1, 2, 10.75, 1e-300, 1e22, 4294967295.5]) found.push(Math[name](x, 0.3));
    return [hex(new Float64Array(found).buffer), found.map(String).join()];
}
function probe(document) {
    const numbers = Array.from({length: 200}, () => Math.random()), set = new Set(numbers.map(x => Math.floor(x * 50)));
    const stable = numbers.map((x, i) => [Math.floor(x * 5), i]).sort((a, b) => a[0] - b[0]).join(';');
    const weak = new WeakMap(), keys = numbers.slice(0, 9).map(x => ({x})), date = new Date();
    keys.forEach((k, i) => weak.set(k, i));
    console.log(numbers[0]);
    return {
        loaded, early: [...early.values()], numbers, set: [...set], stable, weak: keys.map(k => weak.get(k)), nans: nans(), maths: maths(),
        grouped: Object.groupBy(numbers, x => 'g' + Math.floor(x * 7)), map: [...Map.groupBy(numbers, x => Math.floor(x * 7)).keys()],
        dates: [Date.now(), +date, String(date), date.toJSON(), date.toLocaleString(), date.toLocaleDateString('de'), date.toUTCString(),
            date.getTimezoneOffset(), Date(), new Date(2020, 1, 30, 25).toISOString(), Date.UTC(2020), Date.parse('Tue, 1 Feb 2022 10:00 GMT')],
        performance: [performance.now(), performance.timeOrigin],
        text: ['z', 'ä', 'a', 'Z', 'ß', '日'].sort().join() + ['z', 'ä', 'a', 'Z'].sort((a, b) => a.localeCompare(b)).join(),
        upper: 'ǆ ß ﬁ İ'.toUpperCase() + 'ÀÉ'.normalize('NFD'), regexp: /(?<y>\p{L}+)|\d/gu.exec('1 日本x').index,
        json: JSON.stringify({a: [0.1, 1e21, 1e-7, 123456789012345680000, -0], b: document, c: new Date()}),
        shown: [0.1 + 0.2, 5e-324, 1.7976931348623157e308, 2 ** 53, 1 / 3].flatMap(x => [String(x), x.toFixed(3), x.toPrecision(17), x.toString(7)]),
        bigints: [(7n ** 99n).toString(36), String(-(2n ** 200n) / 3n)], keys: Object.keys({b: 1, a: 1, 2: 1, 1: 1, [Symbol.iterator]: 1}),
        names: Reflect.ownKeys(globalThis).map(String), stack: (() => { try { undefined.x } catch (e) { return e.stack + e.message } })(),
        deep: (function f(n) { try { return f(n + 1) } catch (e) { return n } })(0), symbols: Object.getOwnPropertySymbols({[Symbol('s')]: 1}).map(String),
        functions: [probe.toString().length, (() => 1).name, class A {}.name], iteration: Object.entries({...numbers.slice(0, 3), x: 1}),
        order: [...new Set([3, 'a', 1, {}, NaN, -0])].map(String), timers: typeof setTimeout, memory: (() => { try { new ArrayBuffer(2 ** 40) } catch (e) { return e.message } })(),
    };
}
async function later(document) { return [await Promise.race([new Promise(r => r(1)), 2]), await Promise.all([3, (async () => Math.random())()])] }
function bytes() { return new Float64Array([Math.random(), 0 / 0, Math.sin(1e6), Date.now()]) }
function fails() { throw new RangeError('at ' + Math.random() + ' ' + Date.now()) }
"""
CANONICAL_NAN = bytes.fromhex("000000000000f87f")
PINNED = px.Limits(seed=2024, time=1_700_000_000.25)
PLUGIN = px.Plugin(SOURCE, name="determinism.js")
DOCUMENT = {"b": [1.5, "ä", None], "a": {"c": True}}

RUN = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_determinism import answers
print(answers())
"""


def answers(limits: px.Limits = PINNED) -> str:
    """Run everything in a sandbox and return a digest of all that it gives."""
    told: list[tuple[int, str]] = []
    with px.Sandbox(PLUGIN.capture(limits), limits=limits, on_console=lambda *record: told.append(record)) as sandbox:
        found = [sandbox.call_bytes("probe", DOCUMENT), sandbox.call_bytes("later", 0), sandbox.call_bytes("bytes", 0)]
        with pytest.raises(px.JSError) as caught:
            sandbox.call("fails", 0)
    found += [str(caught.value).encode(), caught.value.js_stack.encode(), repr(told).encode()]
    return hashlib.sha256(b"\0".join(found)).hexdigest()


def test_in_sandboxes() -> None:
    (first,) = {answers() for _ in range(5)}
    assert answers(px.Limits(seed=2025, time=PINNED.time)) != first
    assert answers(px.Limits(seed=2024, time=1_700_000_000.5)) != first
    assert answers(px.Limits(seed=2024, time=1_700_000_000.25, memory_bytes=64 << 20)) == first


def test_in_one_sandbox_again_and_again() -> None:
    with px.Sandbox(PLUGIN, limits=PINNED) as sandbox:
        texts = set()
        for _ in range(20):
            texts.add(sandbox.call_bytes("probe", DOCUMENT))
            with pytest.raises(px.JSError):
                sandbox.call("fails", 0)
        assert len(texts) == 1


def test_in_other_processes() -> None:
    root = Path(px.__file__).resolve().parent.parent
    for seed in ("0", "1"):  # of Python's hashes
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root), "TZ": "Asia/Tokyo", "LC_ALL": "de_DE.UTF-8"}
        import os

        process = subprocess.run(
            [sys.executable, "-c", RUN], env={**os.environ, **environment}, capture_output=True, text=True, check=True
        )
        assert process.stdout.strip() == answers()


def test_in_workers() -> None:
    texts, arrays = set(), set()
    for workers in (1, 2, 2):
        with px.Pool(workers, limits=PINNED) as pool:
            probe, numbers = PLUGIN.function("probe", output="bytes"), PLUGIN.function("bytes")
            texts |= set(pool.map(probe, [DOCUMENT] * 20))
            arrays |= set(pool.map(numbers, range(20)))
    with px.Sandbox(PLUGIN, limits=PINNED) as sandbox:
        assert texts == {sandbox.call_bytes("probe", DOCUMENT)}
        assert arrays == {sandbox.call("bytes", 0)}


def test_images_are_the_same() -> None:
    assert len({PLUGIN.capture(PINNED).to_bytes() for _ in range(3)}) == 1


def test_every_nan_is_canonical() -> None:
    """So that no result depends on the machine's own NaNs (0/0 is negative on x86 and positive on ARM)."""
    with px.Sandbox(PLUGIN, limits=PINNED) as sandbox:
        double, single, view, *_rest, half, added, holes, filled = sandbox.call("probe", DOCUMENT)["nans"]
        made = bytes.fromhex(double)
        nans = [made[i : i + 8] for i in range(0, len(made), 8)]
        infinite = (0).to_bytes(6, "little") + b"\xf0\x7f"  # Math.min() without arguments
        assert set(nans) == {CANONICAL_NAN, infinite} and nans.count(infinite) == 1
        floats = {bytes.fromhex(single)[i : i + 4] for i in range(0, len(made) // 2, 4)}
        assert floats == {bytes.fromhex("0000c07f"), bytes.fromhex("0000807f")}
        assert bytes.fromhex(view) == CANONICAL_NAN[::-1]
        assert half[:4] == half[4:8]
        assert {added, holes[:32], filled} == {CANONICAL_NAN.hex() * 2}
        assert sandbox.call("bytes", 0)[8:16] == CANONICAL_NAN
