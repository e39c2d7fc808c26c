"""Nothing of a job is left: linear memory and globals are the image's, byte for byte, whatever the job has done."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import parallel_exec as px
from tests.sandbox.hostile import programs
from tests.sandbox.inside import instance_of

# `run` runs its document as a script, so one image serves all hostile programs. `probe` uses much of the engine.
SOURCE = """
let state = {list: [], count: 0};
const table = new Map([["kept", new Set([1, 2])]]);
function run(code) { return (0, eval)(code) }
function probe(document) {
    state.list.push(document);
    const words = JSON.parse('["b", "a", "c"]').sort().map(word => `${word}${state.list.length}`);
    const error = (() => { try { null.x } catch (error) { return String(error) } })();
    const found = /(?<year>\\d+)-/.exec("2024-05").groups.year;
    return {
        words, error, found, again: document.again ?? null, random: Math.random(), now: new Date().toISOString(),
        keys: Object.keys({b: 1, a: 2, 1: 3}), globals: Object.getOwnPropertyNames(globalThis).length,
        sum: [...new Uint8Array([250, 10])].reduce((a, b) => a + b), big: String(2n ** 70n), size: table.size,
        prototype: Object.getOwnPropertyNames(Object.prototype).join(), text: JSON.stringify({document}),
    };
}
"""
PLUGIN = px.Plugin(SOURCE, name="reset.js")
LIMITS = px.Limits(memory_bytes=48 << 20, output_bytes=1 << 20, console_bytes=4096, seed=7, time=1.7e9)


def expected_memory(image: px.MemoryImage, size: int) -> bytes:
    memory = bytearray(size)
    for address, content in image.runs:
        memory[address : address + len(content)] = content
    return bytes(memory)


def assert_reset(sandbox: px.Sandbox, image: px.MemoryImage) -> None:
    """The instance is the image again, or it was dropped."""
    instance = instance_of(sandbox)
    if instance is None:
        event("the instance was dropped")
        return
    size = instance.size()
    assert size >= image.memory_size
    memory, expected = bytes(instance.view[:size]), expected_memory(image, size)
    if memory != expected:
        wrong = [i for i in range(0, size, 16) if memory[i : i + 16] != expected[i : i + 16]]
        raise AssertionError(f"{len(wrong)} places differ from the image, from {wrong[0]:#x} to {wrong[-1]:#x}")
    assert instance.globals() == image.globals


def run(sandbox: px.Sandbox, code: str) -> str:
    """Run a program; what becomes of it does not matter, as long as it is not a trap."""
    try:
        sandbox.call_bytes("run", code)
    except px.JSError as error:
        assert "the engine stopped" not in str(error), code
        assert "stack is exhausted" not in str(error), code
        return "JSError"
    except px.PexecError as error:
        return type(error).__name__
    return "OK"


def quiet(*_record: object) -> None:
    pass


@pytest.fixture(scope="module")
def image() -> px.MemoryImage:
    return PLUGIN.image()


@pytest.fixture(scope="module")
def sandbox(image: px.MemoryImage) -> px.Sandbox:
    return px.Sandbox(image, limits=LIMITS, on_console=quiet)


@pytest.fixture(scope="module")
def answer(image: px.MemoryImage) -> bytes:
    with px.Sandbox(image, limits=LIMITS) as fresh:
        return fresh.call_bytes("probe", {"again": 1})


@settings(max_examples=125, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(programs, min_size=1, max_size=4))
def test_hostile_jobs_leave_nothing(sandbox: px.Sandbox, image: px.MemoryImage, answer: bytes, jobs: list[str]) -> None:
    for code in jobs:
        event(run(sandbox, code))
        assert_reset(sandbox, image)
    assert sandbox.call_bytes("probe", {"again": 1}) == answer
    assert_reset(sandbox, image)


# Deep uses of the shadow stack, of which only the used part is reset. Many go deep without checking the depth.
STACK_USERS = [
    "(function f() { return f() + 1 })()",
    "let it = [1, 2].values(); for (let i = 0; i < N; i++) it = it.take(2); it.next()",
    "let it = [1, 2].values(); for (let i = 0; i < N; i++) it = it.drop(0); it.next()",
    "let it = [1, 2].values(); for (let i = 0; i < N; i++) it = it.map(x => x); it.next()",
    "let it = [1, 2].values(); for (let i = 0; i < N; i++) it = it.take(2); it.return()",
    "let it = [1]; for (let i = 0; i < N; i++) it = Iterator.concat(it); it.next()",
    "let it = [1]; for (let i = 0; i < N; i++) it = Iterator.from({next: () => ({done: true}), it}); it.next()",
    "let f = () => 1; for (let i = 0; i < N; i++) f = f.bind(null, i); f()",
    "let p = {a: 1}; for (let i = 0; i < N; i++) p = new Proxy(p, {}); p.a; p.b = 1; delete p.a; 'x' in p",
    "let p = {a: 1}; for (let i = 0; i < N; i++) p = new Proxy(p, {}); Object.keys(p)",
    "let p = {a: 1}; for (let i = 0; i < N; i++) p = new Proxy(p, {}); Object.getPrototypeOf(p)",
    "let p = {a: 1}; for (let i = 0; i < N; i++) p = new Proxy(p, {}); Object.isExtensible(p)",
    "let p = {a: 1}; for (let i = 0; i < N; i++) p = new Proxy(p, {}); Object.freeze(p)",
    "let p = {a: 1}; for (let i = 0; i < N; i++) p = new Proxy(p, {}); Object.defineProperty(p, 'b', {value: 1})",
    "let p = [1]; for (let i = 0; i < N; i++) p = new Proxy(p, {}); Array.isArray(p); p instanceof Array",
    "let p = () => 1; for (let i = 0; i < N; i++) p = new Proxy(p, {}); p()",
    "let p = function () {}; for (let i = 0; i < N; i++) p = new Proxy(p, {}); new p(); Reflect.construct(Map, [], p)",
    "let o = {}; for (let i = 0; i < N; i++) o = Object.create(o); o.x; for (const k in o); o instanceof Map",
    "let o = null; for (let i = 0; i < N; i++) o = {o}; JSON.stringify(o); JSON.stringify(o, null, 1)",
    "let o = null; for (let i = 0; i < N; i++) o = [o]; String(o); o.flat(Infinity)",
    "JSON.parse('['.repeat(N) + ']'.repeat(N), (k, v) => v)",
    "new RegExp('('.repeat(N) + ')'.repeat(N)).test('a')",
    "new RegExp('(?:a|'.repeat(N) + ')'.repeat(N)).test('aaa')",
    "/^(?:(a+)+|b)*$/.test('ab'.repeat(N))",
    "try { eval('('.repeat(N) + '1' + ')'.repeat(N)) } catch {}",
    "try { eval('['.repeat(N)) } catch {}",
    "try { eval('- '.repeat(N) + '1') } catch {}",
    "try { eval('x=>'.repeat(N) + '1') } catch {}",
    "try { eval('{'.repeat(N) + '}'.repeat(N)) } catch {}",
    "try { eval('`${'.repeat(N) + '1' + '}`'.repeat(N)) } catch {}",
    "let s = ''; for (let i = 0; i < 100 * N; i++) s = i + s; s.at(5)",
    "let n = 3n ** BigInt(10 * N); String(n).length; n.toString(36); n * n / (n - 1n); BigInt(String(n))",
    "Array.from({length: 30 * N}, (_, i) => (i * 7919) % 1009).sort((a, b) => a - b)",
    "Array.from({length: 30 * N}, (_, i) => 'k' + (i * 7919) % 1009).sort()",
    "new Float64Array(30 * N).map((_, i) => (i * 7919) % 1009).sort()",
    "'\\u1100\\u1161\\u0345'.repeat(N).normalize('NFD').normalize('NFKC').localeCompare('a')",
    "(1e21 + 0.1).toString(7); (1 / 3).toFixed(100); (1e308).toString(2); (5e-324).toPrecision(100); (25).toString(36)",
    "Date.parse('Thu, 01 Jan 1970 00:00:00 GMT' + '('.repeat(N)); new Date(1e15).toString(); Date.parse('x'.repeat(N))",
    "parseFloat('1' + '0'.repeat(N) + 'e-' + N); Number('0.' + '1'.repeat(N)); Number('0x' + 'f'.repeat(N))",
    "encodeURIComponent('ä'.repeat(N)); escape('ä'.repeat(N)); 'ß'.repeat(N).toUpperCase()",
    "Math.max.apply(null, new Array(N).fill(1)); String.fromCharCode(...new Array(N).fill(65))",
    "(function () { return arguments.length }).apply(null, new Array(10 * N).fill(1))",
    "let g = (function* g(n) { if (n) yield* g(n - 1); yield n })(N); try { for (const x of g); } catch {}",
    "(async function f(n) { return n ? 1 + await f(n - 1) : 0 })(N)",
    "Function(...Array.from({length: 40 * N}, (_, i) => 'a' + i), 'return 1')()",
    "Function(Array.from({length: 40 * N}, (_, i) => `let a${i} = 1.5`).join(';'))()",
    "Function('return [' + '1,'.repeat(40 * N) + ']')(); Function('return f(' + '1,'.repeat(40 * N) + ')')",
    "Math.max.bind(null, ...new Array(40 * N).fill(1.5))()",
    "new (class A extends Array { constructor() { super(); try { new A() } catch {} } })()",
    "console.log(Array.from({length: N}, () => [{}])); console.log(new Error('x'.repeat(N)))",
    "new Error('x'.repeat(10 * N)).stack; (function f() { try { f() } catch (e) { e.stack } })()",
    "Intl = undefined; new Map(Array.from({length: 10 * N}, (_, i) => [i, i])); Object.groupBy([1, 2], x => x)",
    "Atomics.add(new Int32Array(new SharedArrayBuffer(8)), 0, 1); structuredClone",
    "queueMicrotask(() => { (function f() { f() })() })",
    "performance.now(); new DOMException('x', 'y'); btoa('x'.repeat(N)); atob('eHh4')",
]


@pytest.mark.parametrize("code", STACK_USERS)
def test_all_of_the_stack_is_reset(image: px.MemoryImage, answer: bytes, code: str) -> None:
    with px.Sandbox(image, limits=LIMITS, on_console=quiet) as sandbox:
        for depth in (5, 50, 400):
            outcome = run(sandbox, code.replace("N", str(depth)))
            assert outcome in ("OK", "JSError")
            assert_reset(sandbox, image)
        assert sandbox.call_bytes("probe", {"again": 1}) == answer
