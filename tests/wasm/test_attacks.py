"""What a module's code can do while it runs: each attack ends as it should, in a sandbox and in a pool, and neither the
same module's next job nor another plugin's sees anything of it.

An attack is a function body that runs where the document is not empty; where it is, the module says what it finds of
memory, globals and memory's size.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

import parallel_exec as px
from tests.wasm.modules import ARITHMETIC, IMPORTS, module

PAGES = 3
# CPU time, for a busy machine may well keep a job waiting; what never ends needs but little of it.
CALM = px.Limits(time_s=20.0, clock="cpu", grace_s=30.0, memory_bytes=16 << 20, output_bytes=1 << 20, console_bytes=100)
HURRIED = px.Limits(time_s=0.03, clock="cpu", grace_s=30.0, memory_bytes=16 << 20, console_bytes=100)

FOUND = bytes([41, 7, 5, PAGES])
TEMPLATE = """
(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
{imports}
(memory (export "memory") 1)
(table $table 4 funcref) (elem (i32.const 0) $down $other)
(type $call (func (param i32) (result i32))) (type $plain (func))
(global $count (mut i32) (i32.const 0)) (global $wide (mut i64) (i64.const 5))
(func $other)
(func $down (type $call) (i32.add (call $down (local.get 0)) (i32.const 1)))
(func $around (type $call) (i32.add (call_indirect (type $call) (local.get 0) (i32.const 0)) (i32.const 1)))
(func $host (param $at i32) (param $length i32) (result i32)
  (call $host_call (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                   (i32.const 16) (i32.const 5) (local.get $at) (local.get $length)))
(data (i32.const 16) "final")
(func $spoil
  (global.set $count (i32.const 99)) (global.set $wide (i64.const 99))
  (memory.fill (i32.const 0) (i32.const 255) (i32.const {size})))
(func (export "wapc_init")
  (i32.store8 (i32.const 8) (i32.const 41)) (global.set $count (i32.const 7)) (drop (memory.grow (i32.const 2))))
(func $attack (param $length i32) (result i32) (local $n i32)
  {body})
(func (export "__guest_call") (param i32 i32) (result i32)
  (if (local.get 1) (then (return (call $attack (local.get 1)))))
  (i32.store8 (i32.const 0) (i32.load8_u (i32.const 8)))
  (i32.store8 (i32.const 1) (global.get $count))
  (i32.store8 (i32.const 2) (i32.wrap_i64 (global.get $wide)))
  (i32.store8 (i32.const 3) (memory.size))
  (call $response (i32.const 0) (i32.const 4))
  (i32.const 1))
"""


class Attack(NamedTuple):
    """What is run, the error that it must end with, None for a value, and what that says."""

    name: str
    body: str
    error: type[px.PexecError] | None
    says: str = ""
    limits: px.Limits = CALM

    @property
    def plugin(self) -> px.WasmPlugin:
        fields = TEMPLATE.format(imports=IMPORTS, body=self.body, size=PAGES << 16)
        return px.WasmPlugin(module(fields), f"{self.name}.wasm", host={"final": posixpath.basename})

    def judge(self, end: Any) -> None:
        if self.error is None:
            assert end == self.says.encode()
        else:
            assert type(end) is self.error, repr(end)
            assert self.says in str(end)
            assert f"{self.name}.wasm: f():" in str(end)


def trap(name: str, body: str, says: str) -> Attack:
    return Attack(name, f"(call $spoil) {body} (i32.const 1)", px.WasmError, says)


def endless(name: str, body: str) -> Attack:
    return Attack(name, f"(loop $again {body} (br $again)) (i32.const 1)", px.JobTimeout, limits=HURRIED)


def strays(name: str, call: str) -> Attack:
    """A pointer out of memory."""
    return trap(f"stray-{name}", call, "which do not lie in its memory")


HOST_CALL = """(drop (call $host_call (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
    {operation} (i32.const 0) (i32.const 0)))"""
ANSWER = "(call $response (i32.const 0) (i32.const 9)) (call $response (i32.const 16) (i32.const 5))"
ERROR = "(call $error (i32.const 0) (i32.const 4))"
ATTACKS = [
    trap("unreachable", "(unreachable)", "unreachable"),
    trap("zero", "(drop (i32.div_u (i32.const 1) (local.get $n)))", "divide by zero"),
    trap("overflow", "(drop (i32.div_s (i32.const 0x80000000) (i32.sub (local.get $n) (i32.const 1))))", "overflow"),
    trap("nan", "(drop (i32.trunc_f32_s (f32.const nan)))", "invalid conversion"),
    trap("load", "(drop (i32.load offset=0xffffffff (local.get $n)))", "out of bounds memory access"),
    trap("store", "(i64.store (i32.const -1) (i64.const 1))", "out of bounds memory access"),
    trap("fill", "(memory.fill (i32.const 1) (i32.const 1) (i32.const -1))", "out of bounds memory access"),
    trap("copy", "(memory.copy (i32.const 1) (i32.const 2) (i32.const -1))", "out of bounds memory access"),
    trap("null", "(call_indirect (type $plain) (i32.const 3))", "uninitialized element"),
    trap("no-element", "(call_indirect (type $plain) (i32.const 4))", "table access"),
    trap("type", "(call_indirect (type $plain) (i32.const 0))", "indirect call type mismatch"),
    trap("deep", "(drop (call $down (i32.const 0)))", "stack is exhausted"),
    trap("deep-indirect", "(drop (call $around (i32.const 0)))", "stack is exhausted"),
    trap("exit", "(call $exit (i32.const 0))", "proc_exit(0)"),
    strays("request", "(call $request (i32.const -1) (i32.const -1))"),
    strays("request-end", f"(call $request (i32.const {PAGES << 16}) (i32.const 0))"),
    strays("response", "(call $response (i32.const -1) (i32.const 2))"),
    strays("error", "(call $error (i32.const -1) (i32.const -1))"),
    strays("console", "(call $log (i32.const -1) (i32.const 2))"),
    strays("operation", HOST_CALL.format(operation="(i32.const -1) (i32.const -1)")),
    strays("operation-end", HOST_CALL.format(operation=f"(i32.const {(PAGES << 16) - 8}) (i32.const 9)")),
    strays("payload", "(i32.store (i32.const 16) (local.get $n)) (drop (call $host (i32.const -1) (i32.const 9)))"),
    Attack("large", "(call $response (i32.const 0) (i32.const -1)) (i32.const 1)", px.OutputTooLarge),
    Attack("no-reason", f"(call $spoil) {ANSWER} (i32.const 0)", px.WasmError, "does not say why"),
    Attack("odd-reason", f"(call $spoil) {ERROR} (i32.const 0)", px.WasmError, "\ufffd" * 4),
    Attack("error-and-answer", f"{ERROR} {ANSWER} (i32.const 1)", None, "final"),
    Attack("answer-and-spoil", f"{ANSWER} (call $spoil) (i32.const -1)", None, "final"),
    Attack(
        "host-payload",
        """(drop (call $host (i32.const 40) (i32.const 9))) (call $host_error (i32.const 64))
        (call $error (i32.const 64) (call $host_error_len)) (i32.const 0)""",
        px.WasmError,
        "final: TypeError",
    ),
    Attack(
        "memory",
        """(call $spoil) (loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
        (unreachable)""",
        px.MemoryLimitExceeded,
        "Limits.memory_bytes",
    ),
    Attack("memory-failure", "(drop (memory.grow (i32.const 65535))) (i32.const 0)", px.MemoryLimitExceeded),
    Attack(
        "memory-filled",
        """(drop (memory.grow (i32.const 65535))) (drop (memory.grow (i32.const 252)))
        (memory.fill (i32.const 0) (i32.const 9) (i32.const 16000000)) (i32.const 1)""",
        None,
    ),
    Attack(
        "console",
        """(loop $again (call $log (i32.const 16) (i32.const 5))
          (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 5000))))
        (i32.const 1)""",
        None,
    ),
    endless("loop", ""),
    endless("loop-request", "(call $request (i32.const 0) (i32.const 64))"),
    endless("loop-response", "(call $response (i32.const 0) (i32.const 100000))"),
    endless("loop-error", "(call $error (i32.const 0) (i32.const 100000))"),
    endless("loop-console", "(call $log (i32.const 0) (i32.const 100000))"),
    endless("loop-stray-console", "(call $log (i32.const -1) (i32.const -1))"),
    endless("loop-host", "(drop (call $host (i32.const 0) (i32.const 0)))"),
    endless("loop-grow", "(drop (memory.grow (i32.const 0)))"),
    endless("loop-grow-all", "(drop (memory.grow (i32.const 1)))"),
    endless("loop-fill", f"(memory.fill (i32.const 0) (i32.const 1) (i32.const {PAGES << 16}))"),
    endless("loop-copy", "(memory.copy (i32.const 0) (i32.const 1) (i32.const 100000))"),
    endless("loop-indirect", "(call_indirect (type $plain) (i32.const 1))"),
]
GOOD = px.WasmPlugin(module(ARITHMETIC), name="good.wasm")
SCRIPT = px.Plugin("let n = 0; const next = x => [++n, x]")

attacks = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)


@pytest.fixture(scope="module")
def pool() -> Iterator[px.Pool]:
    with px.Pool(2) as made:
        yield made


@attacks
def test_in_a_sandbox(attack: Attack) -> None:
    with px.Sandbox(attack.plugin, limits=attack.limits, on_console=lambda *_: None) as sandbox:
        for _ in range(2):
            try:
                end = sandbox.call("f", b"x", input="binary")
            except px.PexecError as error:
                end = error
            attack.judge(end)
            assert sandbox.call("f", b"", input="binary") == FOUND


@attacks
def test_in_a_pool(pool: px.Pool, attack: Attack) -> None:
    function = attack.plugin.function("f", input="binary", limits=attack.limits)
    ends = pool.map(function, [b"x", b"", b"", b"x", b"", b""] * 2, errors="return")
    beside = pool.map(GOOD.function("double"), range(20))
    for number, end in enumerate(ends):
        if number % 3:
            assert end == FOUND
        else:
            attack.judge(_without_document(end))
    assert list(beside) == [2 * n for n in range(20)]
    assert list(pool.map(SCRIPT.function("next"), [1, 2, 3])) == [[1, 1], [1, 2], [1, 3]]
    assert pool.stats().restarts == 0


def _without_document(end: Any) -> Any:
    if isinstance(end, px.PexecError):
        end.document = None
    return end
