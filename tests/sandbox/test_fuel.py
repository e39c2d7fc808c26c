"""Fuel: a budget of instructions that is the same in every run, whatever ran before and wherever."""

from __future__ import annotations

import subprocess
import sys

import pytest

import parallel_exec as px

SOURCE = """
const kept = new Map([["a", 1], [{}, 2]]);
function run(code) { return new Function(code)() }
function work(n) {
    const list = Array.from({length: n}, (_, i) => ({id: i, key: "k" + i % 7, value: i / 3}));
    for (const item of list) kept.set(item.key, (kept.get(item.key) ?? 0) + item.value);
    const text = [Math.random(), "x".repeat(n).match(/x+/)[0], JSON.stringify(list).length];
    return [...kept].sort().map(String).concat(text);
}
"""
PLUGIN = px.Plugin(SOURCE)
BUDGET = px.Limits(fuel=1 << 40)
DOCUMENTS = [1, 10, 500, 20_000]

PROGRAM = f"""
import parallel_exec as px
with px.Sandbox(px.Plugin({SOURCE!r}), limits=px.Limits(fuel=1 << 40)) as sandbox:
    for document in {DOCUMENTS!r}:
        sandbox.call("work", document)
        print(sandbox.last_job.fuel)
"""


def counts(sandbox: px.Sandbox) -> list[int | None]:
    found = []
    for document in DOCUMENTS:
        sandbox.call("work", document)
        found.append(sandbox.last_job.fuel)
    return found


def test_the_count_is_the_same_in_every_instance_state_and_process() -> None:
    with px.Sandbox(PLUGIN, limits=BUDGET) as sandbox:
        first = counts(sandbox)
        assert all(count is not None and count > 1000 for count in first)
        assert len(set(first)) == len(DOCUMENTS)
        # After jobs that grew the memory, that failed, and that ended the instance.
        sandbox.call("run", "return new Uint8Array(3e7).fill(1).length")
        with pytest.raises(px.JSError):
            sandbox.call("run", "throw 1")
        assert counts(sandbox) == first
        sandbox.call("run", "try { new Uint8Array(1e9) } catch {}")
        assert counts(sandbox) == first
    with px.Sandbox(px.MemoryImage.capture(SOURCE, name="plugin.js"), limits=BUDGET) as other:
        other.call("run", "return new Uint8Array(2e7).fill(1).length")
        assert counts(other)[::-1] == first[::-1]
    output = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout
    assert [int(line) for line in output.split()] == first


def test_a_budget_that_is_used_up() -> None:
    with px.Sandbox(PLUGIN, limits=BUDGET) as sandbox:
        sandbox.call("work", 500)
        needed = sandbox.last_job.fuel
    assert needed is not None
    with px.Sandbox(PLUGIN, limits=px.Limits(fuel=needed)) as sandbox:
        expected = sandbox.call("work", 500)
        assert sandbox.last_job.fuel == needed
        for code in (
            "for (;;);",
            "for (;;) try { for (;;); } catch {}",
            "new Array(1e9) + ''",
            "/(a+)+$/.test('a'.repeat(50) + 'b')",
        ):
            with pytest.raises(px.FuelExhausted) as caught:
                sandbox.call("run", code)
            assert str(caught.value) == f"plugin.js: run(): used up Limits.fuel={needed} instructions"
            assert sandbox.last_job.fuel == needed
            assert sandbox.call("work", 500) == expected
    with px.Sandbox(PLUGIN, limits=px.Limits(fuel=needed * 99 // 100)) as sandbox, pytest.raises(px.FuelExhausted):
        sandbox.call("work", 500)


def test_a_load_has_the_budget_too() -> None:
    with pytest.raises(px.FuelExhausted, match=r"endless.js: used up Limits.fuel=100000000 "):
        px.MemoryImage.capture("for (;;);", name="endless.js", limits=px.Limits(fuel=10**8))


def test_fuel_with_an_epoch_and_a_deadline() -> None:
    limits = px.Limits(fuel=1 << 40, interrupt="epoch", time_s=0.1)
    with px.Sandbox(PLUGIN, limits=limits) as sandbox:
        with pytest.raises(px.JobTimeout):
            sandbox.call("run", "for (;;);")
        assert sandbox.call("run", "return 1") == 1
        assert (sandbox.last_job.fuel or 0) > 0


def test_no_count_without_a_budget() -> None:
    with px.Sandbox(PLUGIN) as sandbox:
        sandbox.call("run", "return 1")
        assert sandbox.last_job.fuel is None
        small = sandbox.last_job.memory_bytes
        sandbox.call("run", "return new Uint8Array(1e7).fill(1).length")
        assert sandbox.last_job.memory_bytes - small >= 9_000_000
