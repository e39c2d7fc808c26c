"""Looking for a way out: host objects, modules, threads, clocks, and what they would reveal about the machine."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

import parallel_exec as px
from tests.attacks.attack import CALM, PATIENT, PLUGIN, Attack, judged
from tests.sandbox.inside import instance_of

# Names that other hosts define: none exists.
HOST_NAMES = [
    "process",
    "require",
    "module",
    "exports",
    "global",
    "window",
    "self",
    "document",
    "navigator",
    "location",
    "fetch",
    "XMLHttpRequest",
    "WebSocket",
    "Worker",
    "SharedWorker",
    "importScripts",
    "postMessage",
    "setTimeout",
    "setInterval",
    "setImmediate",
    "Atomics",
    "std",
    "os",
    "bjson",
    "print",
    "load",
    "read",
    "readFile",
    "writeFile",
    "scriptArgs",
    "quit",
    "gc",
    "alert",
    "prompt",
    "Deno",
    "Bun",
    "java",
    "Java",
    "Packages",
    "Intl",
    "WebAssembly",
    "crypto",
    "localStorage",
    "__host",
    "__dirname",
    "__filename",
    "structuredClone",
    "host_call",
    "mailbox",
    "ShadowRealm",
    "AbortController",
    "Event",
    "URL",
    "TextDecoder",
]

VALUES = {
    "host-names": (f"return {json.dumps(HOST_NAMES)}.filter(name => name in globalThis)", []),
    "constructor-walk": ("return (() => 1).constructor.constructor('return typeof process + typeof require + typeof std')()", "undefinedundefinedundefined"),
    "this-of-a-function": ("return (function () { return this })() === globalThis", True),
    "global-prototype": ("return [Object.getPrototypeOf(globalThis) === Object.prototype, Object.prototype.toString.call(globalThis)]", [True, "[object global]"]),
    "realm": ("return Reflect.construct(Function, ['return this'], Object)() === globalThis", True),
    "arguments-callee": ("return (function () { return [typeof arguments.callee.caller] })()[0]", "undefined"),
    "caller": ("try { return String((function f() { return f.caller })()) } catch (e) { return e.name }", ""),
    "error-stack-frames": ("return new Error().stack.split('\\n').filter(line => line.includes('.py') || line.includes('/')).length", 0),
    "native-source": ("return Function.prototype.toString.call(Math.sin).includes('[native code]')", True),
    "prepare-stack": ("Error.prepareStackTrace = (e, frames) => frames.map(f => { try { return typeof f.getThis?.() + typeof f.getFunction?.()?.constructor } catch { return 'none' } }); const s = new Error().stack; return Array.isArray(s) || typeof s === 'string'", True),
    "import-of-itself": ("return import('attacks.js').then(m => Object.keys(m), e => e.name)", "ReferenceError"),
    "import-meta": ("try { return typeof new Function('return import.meta') } catch (e) { return e.name }", "SyntaxError"),
    "shared-array-buffer": ("return new SharedArrayBuffer(8).constructor.name", "SharedArrayBuffer"),
    "intl": ("return typeof Intl", "undefined"),
    "locale": ("return [(1234.5).toLocaleString(), ['b', 'ä', 'a'].sort((x, y) => x.localeCompare(y)).join(), 'I'.toLocaleLowerCase('tr')]", ["1234.5", "a,b,ä", "i"]),
    "time-zone": ("return [new Date(0).getTimezoneOffset(), new Date(2020, 6, 1).toISOString(), String(new Date(0)).includes('GMT+0000')]", [0, "2020-07-01T00:00:00.000Z", True]),
    "date-parse-local": ("return Date.parse('2020-07-01T00:00')", 1593561600000),
    "date-limits": ("return [new Date(8.64e15 + 1).getTime(), String(new Date(NaN)), new Date(-1e15).getFullYear()]", [None, "Invalid Date", -29719]),
    "weak-ref-held": ("let o = {}; const w = new WeakRef(o); return w.deref() === o", True),
    "registry": ("const r = new FinalizationRegistry(() => { throw 1 }); for (let i = 0; i < 1000; i++) r.register({}, i); return r.unregister({})", False),
    "clock-stands-still": ("const a = Date.now(), p = performance.now(); for (let i = 0; i < 1e5; i++); return [Date.now() - a, performance.now() - p]", [0, 0]),
    "performance": ("return [performance.now(), Math.floor(performance.timeOrigin) === Date.now()]", [0, True]),
    "no-counter-thread": ("return typeof Worker + typeof SharedWorker", "undefinedundefined"),
    "random-is-no-clock": ("return Math.random() >= 0", True),
}  # fmt: skip

IMPORTS = [
    *("std", "os", "qjs:std", "qjs:os", "bjson", "fs", "node:fs", "child_process", "./attacks.js", "/etc/passwd", "file:///etc/passwd"),
    *("http://example.org/x.js", "data:text/javascript,1", "wasi_snapshot_preview1", "", ".", "..", "\\0", "a".ljust(5000, "a")),
]  # fmt: skip
TABLE = [Attack(name, code, (), says) for name, (code, says) in VALUES.items()]
TABLE += [
    Attack(f"import-{number}", f"return import({json.dumps(name)})", (px.JSError,), "ReferenceError")
    for number, name in enumerate(IMPORTS)
]
TABLE += [
    Attack("import-object", "return import({toString() { throw new Error('mine') }})", (px.JSError,), "mine"),
    Attack("import-endless", "return import({toString() { for (;;); }})", (px.JobTimeout,)),
    Attack("import-many", "const f = () => import('x').catch(f); return f()", (px.MemoryLimitExceeded,), limits=PATIENT),
    Attack("import-json", "return import('x', {with: {type: 'json'}})", (px.JSError,)),
    Attack("atomics-wait", "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)", (px.JSError,), "ReferenceError"),
    Attack("wait-for-the-clock", "const end = Date.now() + 100; while (Date.now() < end);", (px.JobTimeout,)),
    Attack("wait-for-performance", "const end = performance.now() + 1; while (performance.now() < end);", (px.JobTimeout,)),
    Attack("wait-for-a-finalizer", "let done = false; const r = new FinalizationRegistry(() => { done = true });"
           " return (async () => { while (!done) { r.register({}, 1); await 0 } return 1 })()", (), 1),
    Attack("wait-for-a-weak-ref", "const w = new WeakRef({}); return (async () => { const a = []; while (w.deref()) { a.push({}); await 0 } return 'collected' })()", (), "collected"),
]  # fmt: skip

# Everything that can be reached from the global object, by properties, prototypes and accessors.
WALK = """
const seen = new Set(), queue = [globalThis], paths = new Map([[globalThis, 'globalThis']]), odd = [];
const add = (value, path) => {
    if ((typeof value === 'object' && value !== null || typeof value === 'function') && !seen.has(value)) {
        seen.add(value); queue.push(value); paths.set(value, path);
    }
};
add(globalThis, 'globalThis');
for (let value; (value = queue.shift());) {
    const path = paths.get(value);
    add(Object.getPrototypeOf(value), path + '.__proto__');
    for (const key of Reflect.ownKeys(value)) {
        const { value: inner, get, set } = Object.getOwnPropertyDescriptor(value, key), at = path + '.' + String(key);
        add(inner, at); add(get, at); add(set, at);
    }
    if (typeof value === 'function' && /process|require|python|wasm|host/i.test(value.name)) odd.push(path);
}
return [seen.size > 500, odd];
"""
TABLE.append(Attack("walk", WALK, (), [True, []]))


test_in_a_sandbox, test_in_a_pool = judged(TABLE)


def test_static_imports_fail_when_the_plugin_is_loaded() -> None:
    for name in IMPORTS:
        source = f"import * as x from {json.dumps(name)}; export const f = () => 1"
        with px.Sandbox(PLUGIN, limits=CALM), pytest.raises(px.PluginError):
            px.Sandbox(px.Plugin(source, name="import.mjs"), limits=CALM)


def test_the_clock_tells_no_more_than_when_the_job_began() -> None:
    with px.Sandbox(PLUGIN, limits=CALM) as sandbox:
        before = time.time() * 1000
        told = sandbox.call("attack", "return [Date.now(), new Date().getTime(), performance.timeOrigin]")
        after = time.time() * 1000
        assert all(before - 2 <= moment <= after + 2 for moment in told)


def test_nothing_of_the_host_is_in_its_memory() -> None:
    secret = os.urandom(8).hex()
    os.environ["PEXEC_TEST_SECRET"] = secret
    try:
        with px.Sandbox(PLUGIN, limits=CALM) as sandbox:
            sandbox.call("good", 1)
            instance = instance_of(sandbox)
            assert instance is not None
            memory = instance.read(0, instance.size())
    finally:
        del os.environ["PEXEC_TEST_SECRET"]
    for text in (secret, str(Path.cwd()), os.environ.get("HOME", "/nowhere"), str(Path(px.__file__).parent)):
        assert text.encode() not in memory or len(text) < 4


def test_the_module_imports_nothing() -> None:
    from parallel_exec.sandbox import Engine

    assert Engine.shared().module.imports == []
