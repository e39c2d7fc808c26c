"""The host's memory: what a job allocated is given back, and nothing is kept of an instance that failed."""

from __future__ import annotations

import gc

import pytest

import parallel_exec as px

psutil = pytest.importorskip("psutil")

MIB = 1 << 20
SOURCE = """
function fill(n) { return new Uint8Array(n).fill(1).length }
function run(code) { return new Function(code)() }
function good(x) { return [x, [3, 1, 2].sort()] }
"""


def resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("return new Uint8Array(120e6).fill(1).length", None),
        ("const a = []; for (;;) a.push(new Uint8Array(1e6).fill(1))", px.MemoryLimitExceeded),
        ("const a = []; try { for (;;) a.push(new Uint8Array(1e6).fill(1)) } catch {} return 1", None),
        ("const a = new Uint8Array(120e6).fill(1); for (;;);", px.JobTimeout),
        ("const a = new Uint8Array(120e6).fill(1); new Array(1e9) + ''", px.JobTimeout),
    ],
)
def test_memory_that_one_job_blew_up_is_given_back(code: str, error: type[px.PexecError] | None) -> None:
    limits = px.Limits(time_s=0.2 if error is px.JobTimeout else 60.0, clock="cpu", memory_bytes=160 * MIB)
    sandboxes = [px.Sandbox(px.Plugin(SOURCE), limits=limits) for _ in range(2)]
    for sandbox in sandboxes:
        sandbox.call("good", 1)
    before = resident()
    for turn in range(6):
        sandbox = sandboxes[turn % 2]
        if error is None:
            sandbox.call("run", code)
        else:
            with pytest.raises(error):
                sandbox.call("run", code)
        assert sandbox.call("good", turn) == [turn, [1, 2, 3]]
        assert resident() - before < 64 * MIB
    for sandbox in sandboxes:
        sandbox.close()


def test_memory_that_documents_took_is_given_back() -> None:
    text = b'"' + b"x" * 60 * MIB + b'"'
    with px.Sandbox(px.Plugin(SOURCE), limits=px.Limits(memory_bytes=512 * MIB)) as sandbox:
        sandbox.call("good", 1)
        before = resident()
        for _ in range(5):
            assert sandbox.call_bytes("good", text).startswith(b'["xxx')
            assert sandbox.call("good", 1)[0] == 1
        assert resident() - before < 50 * MIB


def test_a_refusal_names_both_figures() -> None:
    refused = pytest.raises(px.MemoryLimitExceeded, match=r"asked for 9\d{7} bytes .*Limits.memory_bytes=16777216$")
    with refused, px.Sandbox(px.Plugin(SOURCE), limits=px.Limits(memory_bytes=16 * MIB)) as sandbox:
        sandbox.call("fill", 90_000_000)
