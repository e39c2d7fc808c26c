"""Limits: each ends the job with its own error, wherever it strikes, and the next job in the same sandbox is right."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

import parallel_exec as px

SandboxOf = Callable[..., px.Sandbox]
SOURCE = """
const kept = [];
function run(code) { return new Function(code)() }
function same(document) { return document }
function good(x) { kept.push(x); return [kept.length, 2 * x, [3, 1, 2].sort(), /b+/.exec("abbc")[0]] }
"""
GOOD = [1, 42, [1, 2, 3], "bb"]
MIB = 1 << 20


def assert_good(sandbox: px.Sandbox) -> None:
    for _ in range(2):
        assert sandbox.call("good", 21) == GOOD


def error_of(sandbox: px.Sandbox, function: str, document: Any) -> px.PexecError:
    with pytest.raises(px.PexecError) as caught:
        sandbox.call_bytes(function, document)
    error = caught.value
    assert str(error).startswith(f"plugin.js: {function}(): ")
    assert_good(sandbox)
    return error


ENDLESS = [
    "for (;;);",
    "for (;;) try { for (;;); } catch {}",
    "for (;;) try { throw 1 } catch {} finally { continue }",
    "try { for (;;); } catch { return 'caught' }",
    "try { for (;;); } finally { return 'finally' }",
    "/(a+)+$/.test('a'.repeat(50) + 'b')",
    "try { /(a+)+$/.test('a'.repeat(50) + 'b') } catch { return 'caught' }",
    "'b'.replace(/b/, () => { for (;;); })",
    "return {get x() { for (;;); }}",
    "return {toJSON() { for (;;); }}",
    "return [1, {a: {toJSON() { try { for (;;); } catch { return 1 } }}}]",
    "return new Proxy({}, {ownKeys() { for (;;); }})",
    "const a = []; a.length = 2 ** 32 - 1; return a",
    "return (async () => { await null; for (;;); })()",
    "return (async () => { for (;;) await null })()",
    "return (async () => { for (;;) try { await Promise.reject(1) } catch {} })()",
    "Promise.resolve().then(() => { for (;;); }); return new Promise(() => {})",
    "return (async () => ({then() { for (;;); }}))()",
    "for (const x of (function* () { for (;;) yield 1 })());",
    "[3, 1, 2].sort(() => { for (;;); })",
    "JSON.parse('[1]', () => { for (;;); })",
    "JSON.stringify({toJSON() { for (;;); }})",
    "JSON.stringify({a: 1}, () => { for (;;); })",
    "eval('for (;;);')",
    "new Array(2 ** 32 - 1).indexOf(1)",
    "for (const x of new Array(1e9));",
    "const s = new Set([1]); for (const x of s) { s.delete(x); s.add(x + 1) }",
    "console.log({toJSON() { for (;;); }})",
    "console.log({toString() { for (;;); }, toJSON() { throw 1 }}); for (;;);",
    "class A { static { for (;;); } }",
    "`${{toString() { for (;;); }}}`",
    "throw {toString() { for (;;); }}",
    "throw Object.defineProperty(new Error('x'), 'message', {get() { for (;;); }})",
    "Object.defineProperty(globalThis, 'slow', {get() { for (;;); }}); slow",
    "(function f() { try { f() } finally { for (;;); } })()",
    "(function f(n) { try { f() } catch {} for (;;); })()",
    "const a = []; try { for (;;) a.push(new Uint8Array(1e6)) } catch { for (;;); }",
]


@pytest.mark.parametrize("code", ENDLESS)
def test_time(sandbox_of: SandboxOf, code: str) -> None:
    sandbox = sandbox_of(SOURCE, time_s=0.05, memory_bytes=32 * MIB)
    error = error_of(sandbox, "run", code)
    assert isinstance(error, px.JobTimeout)
    assert "still running after Limits.time_s=0.05 s" in str(error)


def test_time_of_the_load() -> None:
    limits = px.Limits(time_s=0.05)
    for source in (
        "for (;;);",
        "export const f = 1; for (;;);",
        "export {}; await (async () => { for (;;) await null })()",
        "try { for (;;); } catch {}",
        "throw {toString() { for (;;); }}",
    ):
        with pytest.raises(px.JobTimeout):
            px.MemoryImage.capture(source, name="endless.js", limits=limits)
    with pytest.raises(px.PluginError, match=r"the warm-up with sample 0 fails: .*still running"):
        px.MemoryImage.capture(
            "const f = () => { for (;;); }", name="w.js", samples=[b"1"], function="f", limits=limits
        )


def test_time_is_counted_anew_for_each_job(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of(SOURCE, time_s=2.0)
    for _ in range(2000):
        assert sandbox.call("good", 21) == GOOD


def test_no_deadline(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of(SOURCE, time_s=None)
    assert sandbox.call("run", "let n = 0; for (let i = 0; i < 3e6; i++) n += i % 2; return n") == 1_500_000


GREEDY = [
    "const a = []; for (;;) a.push({})",
    "const a = []; for (;;) a.push(a.length + 0.5)",
    "const a = []; for (;;) a.push('x' + a.length)",
    "const a = []; for (;;) a.push(new Uint8Array(1e6).fill(1))",
    "const a = []; for (;;) a.push(() => a)",
    "const a = []; for (let i = 0;; i++) a.push(Symbol.for('s' + i))",
    "const o = {}; for (let i = 0;; i++) o['k' + i] = i",
    "const m = new Map(); for (let i = 0;; i++) m.set(i, {i})",
    "const a = []; for (;;) a.push('x'.repeat(10000).split(''))",
    "new Uint8Array(64e6)",
    "new Array(1e7).fill(1)",
    "'x'.repeat(2 ** 29)",
    "'x'.padStart(2 ** 29)",
    "[...'x'.repeat(1e7)]",
    "new Array(1e5).fill('x'.repeat(1e4)).join('')",
    "JSON.parse('[' + '1,'.repeat(3e6) + '1]')",
    "return new Array(3e6).fill('xyz' + 'x'.repeat(9))",
    "return {toJSON() { const a = []; for (;;) a.push({}) }}",
    "eval('[' + '1,'.repeat(3e6) + ']')",
    "new RegExp('a'.repeat(1e7))",
    "let f = () => 1; for (;;) f = f.bind()",
    "return (async () => { await null; const a = []; for (;;) a.push({}) })()",
    "const a = []; try { for (;;) a.push({}) } catch (e) { throw e }",
    "const a = []; try { for (;;) a.push({a}) } finally { a.length = 0 }",
    "const g = (function* () { const a = []; for (;;) { a.push({}); yield a } })(); for (const x of g);",
]


@pytest.mark.parametrize("code", GREEDY)
def test_memory(sandbox_of: SandboxOf, code: str) -> None:
    sandbox = sandbox_of(SOURCE, memory_bytes=16 * MIB)
    error = error_of(sandbox, "run", code)
    assert isinstance(error, px.MemoryLimitExceeded)
    assert "Limits.memory_bytes=16777216" in str(error)


RECOVERED = [
    ("const a = []; try { for (;;) a.push(new Uint8Array(1e6)) } catch { a.length = 0 } return 7", 7),
    ("const a = []; try { for (;;) a.push({}) } catch { a.length = 0 } return [1, 2].map(x => 2 * x)", [2, 4]),
    ("let n = 0; for (let i = 0; i < 5; i++) try { const a = []; for (;;) a.push({a}) } catch { n++ } return n", 5),
    ("try { 'x'.repeat(2 ** 29) } catch (e) { return [e.name, e.message] }", ["InternalError", "out of memory"]),
    ("try { new ArrayBuffer(1e9) } catch (e) { return e.message }", "out of memory"),
    ("try { new Array(1e8).fill(1) } catch {} return 'x'.repeat(1e6).length", 1_000_000),
    ("let k = ''; try { for (;;) k += 'x'.repeat(1e5) + k.length } catch {} k = ''; return k", ""),
]


@pytest.mark.parametrize(("code", "answer"), RECOVERED)
def test_memory_refused_and_recovered(sandbox_of: SandboxOf, code: str, answer: Any) -> None:
    sandbox = sandbox_of(SOURCE, memory_bytes=16 * MIB)
    for _ in range(3):
        assert sandbox.call("run", code) == answer
        assert_good(sandbox)


def test_memory_of_the_load() -> None:
    limits = px.Limits(memory_bytes=8 * MIB)
    for source in ("const a = []; for (;;) a.push({})", "export const a = new Uint8Array(1e7)", "//" + "x" * 9_000_000):
        with pytest.raises(px.MemoryLimitExceeded) as caught:
            px.MemoryImage.capture(source, name="greedy.js", limits=limits)
        assert caught.value.plugin == "greedy.js"


def test_memory_of_the_image() -> None:
    plugin = px.Plugin("const a = new Uint8Array(6e6).fill(1); function good() { return a.length }")
    with pytest.raises(px.MemoryLimitExceeded), px.Sandbox(plugin, limits=px.Limits(memory_bytes=4 * MIB)):
        pass
    with px.Sandbox(plugin, limits=px.Limits(memory_bytes=10 * MIB)) as sandbox:
        assert sandbox.call("good", 0) == 6_000_000


def test_memory_of_the_document(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of(SOURCE, memory_bytes=8 * MIB)
    for document in (b'"' + b"x" * 9 * MIB + b'"', b"[" + b"1," * 3 * MIB + b"1]", b'"' + b"x" * 5 * MIB + b'"'):
        assert isinstance(error_of(sandbox, "same", document), px.MemoryLimitExceeded)
    document = b'"' + b"x" * MIB + b'"'
    assert sandbox.call_bytes("same", document) == document


def test_memory_grown_by_one_job_is_not_missing_for_the_next(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of(SOURCE, memory_bytes=128 * MIB)
    for size in (1, 30, 60, 90, 2, 100, 1):
        assert sandbox.call("run", f"return new Uint8Array({size * 10**6}).fill(1).length") == size * 10**6
        assert sandbox.call("run", f"return new Uint8Array({size * 10**6}).indexOf(1)") == -1
        assert_good(sandbox)


def test_output(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of(SOURCE, output_bytes=100)
    assert sandbox.call("run", "return 'x'.repeat(98)") == "x" * 98
    for code in (
        "return 'x'.repeat(99)",
        "return 'x'.repeat(1e7)",
        "return new Array(1e6).fill(1)",
        "return {a: [{b: 'ä'.repeat(60)}]}",
        "return '\\n'.repeat(60)",
        "return {['k'.repeat(100)]: 1}",
        "return new Uint8Array(101)",
        "return {toJSON: () => 'x'.repeat(200)}",
    ):
        error = error_of(sandbox, "run", code)
        assert isinstance(error, px.OutputTooLarge)
        assert "exceeds Limits.output_bytes=100" in str(error)
    assert len(sandbox.call("run", "return new Uint8Array(100)")) == 100


def test_errors_are_no_way_around_the_output_limit(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of(SOURCE, output_bytes=1)
    for code in (
        "throw 'x'.repeat(1e6)",
        "throw Object.assign(Error(), {name: 'x'.repeat(1e6), stack: 'y'.repeat(1e6)})",
    ):
        with pytest.raises(px.JSError) as caught:
            sandbox.call("run", code)
        assert len(str(caught.value)) + len(caught.value.js_stack) < 50_000


def test_document(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of(SOURCE, document_bytes=100)
    assert sandbox.call("same", "x" * 98) == "x" * 98
    for document in ("x" * 99, b"[" + b" " * 99 + b"]", memoryview(b" " * 101), list(range(100))):
        error = error_of(sandbox, "same", document)
        assert isinstance(error, px.InvalidDocument)
        assert "exceeds Limits.document_bytes=100" in str(error)
        assert error.offset is None


LEVELS = {"debug": 10, "trace": 10, "log": 20, "info": 20, "warn": 30, "error": 40}


def console_of(sandbox_of: SandboxOf, code: str, **limits: Any) -> list[tuple[int, str]]:
    records: list[tuple[int, str]] = []
    sandbox = sandbox_of(SOURCE, on_console=lambda level, text: records.append((level, text)), **limits)
    sandbox.call("run", code)
    recorded = list(records)
    assert_good(sandbox)
    assert records == recorded  # the next job starts with an empty console
    return recorded


def test_console_levels_and_values(sandbox_of: SandboxOf) -> None:
    for method, level in LEVELS.items():
        assert console_of(sandbox_of, f"console.{method}('a', 1, null)") == [(level, "a 1 null")]
    values = "{a: [1, {b: 2}]}, [1], 'ä日\\ud83d\\ude00', undefined, Symbol('s'), 1n, -0, () => 1, new Map()"
    ((_level, text),) = console_of(sandbox_of, f"console.log({values})")
    assert text.startswith('{"a":[1,{"b":2}]} [1] ä日\U0001f600 undefined [symbol] 1 0 () => 1 ')
    ((_level, text),) = console_of(sandbox_of, "console.error(new TypeError('no'))")
    assert text.startswith("TypeError: no\n    at ")
    assert console_of(sandbox_of, "console.log('\\ud800')") == [(20, "\ufffd")]
    assert console_of(sandbox_of, "console.log(); console.log('')") == [(20, ""), (20, "")]


def test_console_bytes(sandbox_of: SandboxOf) -> None:
    flood = "for (let i = 0; i < 100000; i++) console.log('record', i)"
    records = console_of(sandbox_of, flood, console_bytes=1000)
    dropped = records.pop()
    assert sum(5 + len(text) for _level, text in records) <= 1000
    assert [text for _level, text in records] == [f"record {i}" for i in range(len(records))]
    assert dropped == (30, f"{100_000 - len(records)} more console records were dropped: Limits.console_bytes")
    assert console_of(sandbox_of, "console.log('x'.repeat(1e6)); console.log('y')", console_bytes=100) == [
        (20, "y"),
        (30, "1 more console records were dropped: Limits.console_bytes"),
    ]
    assert console_of(sandbox_of, "console.log('x')", console_bytes=0) == [
        (30, "1 more console records were dropped: Limits.console_bytes")
    ]


def test_the_console_of_a_failed_job_is_kept(sandbox_of: SandboxOf) -> None:
    for code in ("throw 1", "for (;;);", "return 'x'.repeat(1e6)", "const a = []; for (;;) a.push({})"):
        records: list[str] = []
        limits = {"time_s": 0.05, "memory_bytes": 16 * MIB, "output_bytes": 1000}
        sandbox = sandbox_of(SOURCE, on_console=lambda _level, text, to=records: to.append(text), **limits)
        with pytest.raises(px.PexecError):
            sandbox.call("run", f"console.log('before'); {code}")
        assert records == ["before"]


def test_the_console_reaches_logging(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG), px.Sandbox(px.Plugin(SOURCE)) as sandbox:
        sandbox.call("run", "console.log('100 %s'); console.warn('b'); console.debug('c')")
    assert [(record.name, record.levelno, record.getMessage()) for record in caplog.records] == [
        ("parallel_exec.console", logging.INFO, "100 %s"),
        ("parallel_exec.console", logging.WARNING, "b"),
        ("parallel_exec.console", logging.DEBUG, "c"),
    ]
    assert capfd.readouterr() == ("", "")


def test_a_callback_that_fails_or_calls_again_does_no_harm(sandbox_of: SandboxOf) -> None:
    def fail(_level: int, text: str) -> None:
        raise KeyError(text)

    sandbox = sandbox_of(SOURCE, on_console=fail)
    with pytest.raises(KeyError, match="oops"):
        sandbox.call("run", "console.log('oops')")
    assert_good(sandbox)

    answers: list[Any] = []
    again: px.Sandbox = sandbox_of(SOURCE, on_console=lambda *_: answers.append(again.call("good", 21)))
    assert again.call("run", "console.log(1); console.log(2); return 3") == 3
    assert answers == [GOOD, GOOD]


def test_chance_and_time_differ_between_jobs_unless_pinned(sandbox_of: SandboxOf) -> None:
    code = "return [Math.random(), Math.random(), Date.now(), new Date().toISOString(), performance.now() >= 0]"
    free = sandbox_of(SOURCE)
    draws = [tuple(free.call("run", code)[:2]) for _ in range(50)]
    assert len(set(draws)) == 50
    assert all(0 <= x < 1 for draw in draws for x in draw)
    times = [free.call("run", "return Date.now()") for _ in range(50)]
    assert times == sorted(times)
    assert times[-1] > 1.6e12
    pinned = {"seed": 5, "time": 1.5e9}
    texts = {sandbox_of(SOURCE, **pinned).call_bytes("run", code) for _ in range(3)}
    sandbox = sandbox_of(SOURCE, **pinned)
    texts |= {sandbox.call_bytes("run", code) for _ in range(3)}
    (text,) = texts
    assert json.loads(text)[2:4] == [1_500_000_000_000, "2017-07-14T02:40:00.000Z"]
    assert sandbox_of(SOURCE, seed=6, time=1.5e9).call_bytes("run", code) not in texts
    for seed in (0, -1, 2**64 - 1, -(2**63)):
        one, other = (sandbox_of(SOURCE, seed=seed).call("run", "return Math.random()") for _ in range(2))
        assert one == other
    for moment, iso in (
        (-1.5, "1969-12-31T23:59:58.500Z"),
        (0, "1970-01-01T00:00:00.000Z"),
        (0.001, "1970-01-01T00:00:00.001Z"),
    ):
        assert sandbox_of(SOURCE, time=moment).call("run", "return new Date().toISOString()") == iso


def test_two_sandboxes_of_one_image_draw_differently() -> None:
    image = px.Plugin(SOURCE).image()
    draws = set()
    for _ in range(20):
        with px.Sandbox(image) as sandbox:
            draws.add(sandbox.call("run", "return Math.random()"))
    assert len(draws) == 20


def test_a_seed_drawn_while_loading_is_not_frozen_in() -> None:
    image = px.Plugin("const m = new Map([[Math.random(), 1]]); const f = () => [Math.random(), m.size]").image()
    with px.Sandbox(image) as sandbox:
        assert len({tuple(sandbox.call("f", 0)) for _ in range(20)}) == 20


def test_the_time_zone_is_utc_and_the_host_does_not_show(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of(SOURCE)
    assert sandbox.call("run", "return new Date(0).getTimezoneOffset()") == 0
    names = sandbox.call("run", "return Object.getOwnPropertyNames(globalThis)")
    assert not {"process", "require", "std", "os", "fetch", "scriptArgs", "print", "navigator", "bjson"} & set(names)
