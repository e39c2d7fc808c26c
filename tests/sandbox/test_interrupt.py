"""Whatever takes long is stopped, also where the engine itself never looks at the deadline, with either way to stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

import parallel_exec as px

MIB = 1 << 20
SOURCE = """
function run(code) { return new Function(code)() }
function good(x) { return [x, [3, 1, 2].sort(), /b+/.exec("abbc")[0]] }
"""
# Between a deadline of 0.1 s and this lie the slowest single steps (a fill of 512 MiB) on a slow, busy machine.
SOON_S = 8.0

LONG = [
    "const b = 3n ** 300000n; for (;;) b * b",
    "for (;;) 7n ** 300000n",
    "for (;;) (7n ** 300000n).toString()",
    "for (;;) BigInt('9'.repeat(300000))",
    "const s = 'ab'.repeat(150000); for (;;) s.indexOf('abb')",
    "'a'.repeat(1e7).indexOf('a'.repeat(5e6) + 'b')",
    "'a'.repeat(1e7).lastIndexOf('a'.repeat(5e6) + 'b')",
    "for (;;) 'x'.repeat(5e7)",
    "for (;;) 'x'.padStart(5e7)",
    "'\\u0301\\u0316'.repeat(1e6).normalize('NFD')",
    "'a'.repeat(1e6).replaceAll('a', () => 'b'.repeat(1000))",
    "/^(a*)\\1x/.test('a'.repeat(1e6))",
    "new RegExp('(?:a?){1000}'.repeat(100) + 'b').test('a'.repeat(1000))",
    "new Array(1e9) + ''",
    *(
        f"Array.prototype.{method}.call({{length: 2 ** 53 - 1}}, {arguments})"
        for method, arguments in [
            ("indexOf", "1"), ("lastIndexOf", "1"), ("includes", "1"), ("fill", "1"), ("copyWithin", "1, 5"),
            ("reverse", ""), ("forEach", "() => 1"), ("every", "() => 1"), ("shift", ""), ("sort", ""), ("flat", ""),
            ("join", ""), ("splice", "0, 1"), ("findLast", "() => false"),
        ]
    ),
    "let a = [1]; for (let i = 0; i < 40; i++) a = [a, a]; a.flat(Infinity)",
    "const t = new Float64Array(2e6); for (let i = 0; i < 2e6; i++) t[i] = i * 7919 % 2e6; for (;;) t.toSorted()",
    "const t = new Uint8Array(1e8); for (;;) t.fill(1)",
    "const t = new Uint8Array(1e8); for (;;) t.copyWithin(1, 0)",
    "let o = {}; for (let i = 0; i < 3e5; i++) o = Object.create(o); for (;;) o.x",
    "for (;;) eval('[' + '1,'.repeat(1e5) + ']')",
    "eval('[' + '1,'.repeat(2e7) + ']')",
    "new Function('a;'.repeat(1e7))",
    "eval('let ' + Array.from({length: 60000}, (_, i) => 'v' + i) + ';' + 'v1;v59999;'.repeat(1e6))",
    "for (;;) decodeURIComponent('%41'.repeat(1e6))",
    "for (;;) new Array(3e6).toSpliced(0, 1)",
    "throw Object.assign(new Error('x'), {get message() { for (;;); }})",
    "throw new Proxy({}, {get() { for (;;); }})",
    "throw {toString() { for (;;); }}",
]  # fmt: skip


@pytest.fixture(scope="module", params=["polled", "epoch"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[px.Sandbox]:
    # CPU time: the good job has this limit, too, and the machine may be busy.
    limits = px.Limits(time_s=0.1, clock="cpu", memory_bytes=512 * MIB, interrupt=request.param)
    with px.Sandbox(px.Plugin(SOURCE), limits=limits) as sandbox:
        yield sandbox


@pytest.mark.parametrize("code", LONG)
def test_what_takes_long_is_stopped(sandbox: px.Sandbox, code: str) -> None:
    started = time.monotonic()
    with pytest.raises(px.JobTimeout, match=r"still running after Limits.time_s=0.1 s of CPU time"):
        sandbox.call("run", code)
    assert time.monotonic() - started < SOON_S
    assert sandbox.call("good", 1) == [1, [1, 2, 3], "bb"]


@pytest.mark.parametrize("interrupt", ["polled", "epoch"])
def test_a_load_that_takes_long_is_stopped(interrupt: Any) -> None:
    limits = px.Limits(time_s=0.2, memory_bytes=512 * MIB, interrupt=interrupt)
    for source in (
        "const b = 3n ** 300000n; for (;;) b * b",
        "[" + "1," * 20_000_000 + "]",
        "export {}; await 0; Array.prototype.indexOf.call({length: 2 ** 53 - 1}, 1)",
    ):
        started = time.monotonic()
        with pytest.raises(px.JobTimeout):
            px.MemoryImage.capture(source, name="long.js", limits=limits)
        assert time.monotonic() - started < SOON_S


def test_the_console_of_a_job_stopped_in_a_native_loop_is_kept() -> None:
    lines: list[str] = []
    limits = px.Limits(time_s=0.1)
    with px.Sandbox(px.Plugin(SOURCE), limits=limits, on_console=lambda _level, text: lines.append(text)) as sandbox:
        with pytest.raises(px.JobTimeout):
            sandbox.call("run", "console.log('before'); Array.prototype.indexOf.call({length: 2 ** 53 - 1}, 1)")
        assert lines == ["before"]


def test_epochs_of_many_sandboxes_do_not_mix() -> None:
    hasty = px.Limits(time_s=0.05, interrupt="epoch")
    calm = px.Limits(time_s=60.0, interrupt="epoch")
    plugin = px.Plugin(SOURCE)
    with px.Sandbox(plugin, limits=hasty) as one, px.Sandbox(plugin, limits=calm) as other:
        for _ in range(5):
            with pytest.raises(px.JobTimeout):
                one.call("run", "for (;;);")
            assert other.call("run", "let n = 0; for (let i = 0; i < 3e5; i++) n += i % 2; return n") == 150_000
            assert one.call("good", 2)[0] == 2


SPIN = "let n = 0; for (let i = 0; i < 2e5; i++) n += i % 2; return n"


def test_time_that_others_take_does_not_count_as_cpu_time() -> None:
    def sleep(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    def spin(seconds: float) -> float:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass
        return seconds

    host = {"sleep": sleep, "spin": spin}
    source = SOURCE + "const wait = s => sleep(s), burn = s => spin(s)"
    with px.Sandbox(px.Plugin(source, host=host), limits=px.Limits(time_s=0.3, clock="cpu")) as sandbox:
        assert sandbox.call("wait", 0.8) == 0.8
        assert sandbox.call("burn", 0.8) == 0.8
        with pytest.raises(px.JobTimeout, match=r"time_s=0.3 s of CPU time"):
            sandbox.call("run", "for (;;);")
        assert sandbox.call("run", SPIN) == 100_000


def test_cpu_time_that_a_job_takes_counts() -> None:
    for interrupt in ("polled", "epoch"):
        limits = px.Limits(time_s=0.1, clock="cpu", interrupt=interrupt)
        with px.Sandbox(px.Plugin(SOURCE), limits=limits) as sandbox:
            used = time.thread_time()
            with pytest.raises(px.JobTimeout):
                sandbox.call("run", "for (;;);")
            assert time.thread_time() - used >= 0.1
            assert sandbox.call("good", 1)[0] == 1
