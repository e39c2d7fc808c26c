"""Plugins that are WebAssembly modules: what they are given and give, what they cannot do, and what is wrong."""

from __future__ import annotations

import logging
import pickle
import signal
import threading
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ormsgpack
import pytest

import parallel_exec as px
from parallel_exec.plugins import _base as any_plugin
from tests.wasm.modules import GUEST, IMPORTS, module

WASM = module(GUEST)
PLUGIN = px.WasmPlugin(WASM, name="guest.wasm")
COUNTED_ONCE = bytes([1, 8, 1, 42, 1])


@pytest.fixture
def sandbox() -> Iterator[px.Sandbox]:
    with px.Sandbox(PLUGIN) as made:
        yield made


# Payloads


@pytest.mark.parametrize("value", [None, 3, "text", b"bytes within", [1, {"a": [2.5, b"\0"]}], {1: True}], ids=repr)
def test_values_go_in_and_out_in_message_pack(value: Any) -> None:
    assert PLUGIN.function("echo")([value]) == [value]


def test_bytes_are_message_pack_already() -> None:
    packed = ormsgpack.packb({"a": 1})
    for document in (packed, bytearray(packed), memoryview(packed)):
        assert PLUGIN.function("echo")(document) == {"a": 1}
    assert PLUGIN.function("echo", output="bytes")(packed) == packed


def test_binary_input_gives_bytes() -> None:
    echo = PLUGIN.function("echo", input="binary")
    assert echo(b"\xc1\x00") == b"\xc1\x00"
    numbers = array("d", [1.5, 2.5])
    assert array("d", echo(numbers)) == numbers
    assert echo(b"") == b""


def test_numpy_output_is_of_bytes() -> None:
    assert PLUGIN.function("echo", input="binary", output="numpy")(b"\1\2") == pytest.approx(np.array([1, 2]))
    with pytest.raises(px.PluginError, match="returned MessagePack"):
        PLUGIN.function("echo", output="numpy")(1)


def test_json_input_is_message_pack_for_the_module() -> None:
    echo = PLUGIN.function("echo", input="json", output="bytes")
    assert echo(b'{"a": [1, 2.5, "x"]}') == b'{"a":[1,2.5,"x"]}'
    assert PLUGIN.function("echo", input="json")({"a": None}) == {"a": None}
    with pytest.raises(px.InvalidDocument, match="not JSON"):
        echo(b"{")


def test_no_response_is_none(sandbox: px.Sandbox) -> None:
    assert sandbox.call("nothing", 1) is None
    assert sandbox.call("nothing", b"", input="binary") == b""


def test_a_result_that_is_not_message_pack_is_said_to_be_none(sandbox: px.Sandbox) -> None:
    with pytest.raises(px.PluginError, match="the result is not MessagePack"):
        sandbox.call("echo", b"\xc1")
    assert sandbox.call_bytes("echo", b"\xc1") == b"\xc1"


def test_what_cannot_be_encoded_is_an_invalid_document(sandbox: px.Sandbox) -> None:
    with pytest.raises(px.InvalidDocument, match="no MessagePack encoding"):
        sandbox.call("echo", object())


def test_plugins_and_functions_are_pickled() -> None:
    again = pickle.loads(pickle.dumps(PLUGIN.function("echo", output="bytes")))
    assert again == PLUGIN.function("echo", output="bytes")
    assert again([1]) == ormsgpack.packb([1])


def test_a_module_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "guest.wasm").write_bytes(WASM)
    assert px.WasmPlugin.from_file(tmp_path / "guest.wasm", abi="wapc") == PLUGIN
    with pytest.raises(px.PluginError, match=r"missing\.wasm: cannot read the plugin"):
        px.WasmPlugin.from_file(tmp_path / "missing.wasm")


def test_javascript_is_given_no_message_pack() -> None:
    plugin = px.Plugin("const f = x => x")
    with pytest.raises(ValueError, match="input must be 'json' or 'binary'; got 'msgpack'"):
        plugin.function("f", input="msgpack")
    with px.Sandbox(plugin) as sandbox, pytest.raises(px.InvalidDocument, match="not MessagePack"):
        sandbox.call("f", 1, input="msgpack")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"wasm": "text"}, "WasmPlugin.wasm must be bytes"),
        ({"wasm": b"", "name": 3}, "WasmPlugin.name must be a str"),
        ({"wasm": b"", "abi": "extism"}, "WasmPlugin.abi must be 'wapc'; got 'extism'"),
        ({"wasm": b"", "limits": 3}, "WasmPlugin.limits must be a Limits"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        px.WasmPlugin(**arguments)


# Each job from the image


def test_no_job_sees_another(sandbox: px.Sandbox) -> None:
    for _ in range(3):
        assert sandbox.call("count", b"", input="binary") == COUNTED_ONCE
    for failing in ("trap", "fail", "outside"):
        with pytest.raises(px.WasmError):
            sandbox.call(failing, None)
        assert sandbox.call("count", b"", input="binary") == COUNTED_ONCE


def test_memory_that_a_job_has_grown_is_not_there_for_the_next(sandbox: px.Sandbox) -> None:
    assert [sandbox.call("page", b"", input="binary") for _ in range(3)] == [b"\3"] * 3
    assert sandbox.call("count", b"", input="binary") == COUNTED_ONCE


def test_a_large_memory_begins_anew_too() -> None:
    large = px.WasmPlugin(module(GUEST.replace('(export "memory") 2', '(export "memory") 256')))
    with px.Sandbox(large) as sandbox:
        assert [sandbox.call("count", b"", input="binary") for _ in range(3)] == [COUNTED_ONCE] * 3


def test_answers_and_errors_of_one_job_are_not_the_nexts(sandbox: px.Sandbox) -> None:
    for name in ("echo", "nothing", "fail", "nothing", "trap", "nothing"):
        try:
            assert sandbox.call(name, "secret") == ("secret" if name == "echo" else None)
        except px.WasmError as error:
            assert name in ("fail", "trap"), repr(error)
    for name in ("fail", "silent"):
        with pytest.raises(px.WasmError, match="it is done" if name == "fail" else "does not say why"):
            sandbox.call(name, None)


def test_one_module_runs_under_several_limits_at_once() -> None:
    ends: Counter[str] = Counter()

    def run(name: str, limits: px.Limits, times: int) -> None:
        with px.Sandbox(PLUGIN, limits=limits) as sandbox:
            for _ in range(times):
                try:
                    ends[repr(sandbox.call(name, b"", input="binary"))] += 1
                except px.PexecError as error:
                    ends[type(error).__name__] += 1

    calm = px.Limits(time_s=60)
    threads = [
        threading.Thread(target=run, args=arguments)
        for arguments in (
            ("loop", px.Limits(time_s=0.02), 5),
            ("count", calm, 500),
            ("count", px.Limits(time_s=60, fuel=10_000), 500),
            ("loop", px.Limits(time_s=60, fuel=100_000), 5),
            ("memory", px.Limits(time_s=60, memory_bytes=8 << 20), 5),
            ("memory", calm, 5),
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == {
        "JobTimeout": 5,
        repr(COUNTED_ONCE): 1000,
        "FuelExhausted": 5,
        "MemoryLimitExceeded": 5,
        "b''": 5,
    }


def test_a_start_function_runs_once_before_all_jobs() -> None:
    begun = GUEST + "(func $begin (i32.store (i32.const 512) (i32.add (i32.load (i32.const 512)) (i32.const 5)))"
    begun = begun.replace('(func (export "wapc_init")', '(func (export "unused")') + ") (start $begin)"
    with px.Sandbox(px.WasmPlugin(module(begun))) as sandbox:
        for _ in range(2):
            assert sandbox.call("count", b"", input="binary") == bytes([1, 8, 1, 6, 1])
        with pytest.raises(px.WasmError):
            sandbox.call("trap", None)  # and so takes another instance
        assert sandbox.call("count", b"", input="binary") == bytes([1, 8, 1, 6, 1])


# Limits


@pytest.mark.parametrize("interrupt", ["polled", "epoch"])
def test_a_loop_ends_at_its_deadline(interrupt: Any) -> None:
    with px.Sandbox(PLUGIN, limits=px.Limits(time_s=0.05, interrupt=interrupt)) as sandbox:
        for _ in range(2):
            with pytest.raises(px.JobTimeout, match=r"guest.wasm: loop\(\): still running after Limits.time_s=0.05"):
                sandbox.call("loop", None)
            assert sandbox.call("echo", 1) == 1


def test_a_loop_ends_at_its_cpu_time() -> None:
    with px.Sandbox(PLUGIN, limits=px.Limits(time_s=0.05, clock="cpu")) as sandbox, pytest.raises(px.JobTimeout):
        sandbox.call("loop", None)


def test_fuel_is_counted_and_ends() -> None:
    with px.Sandbox(PLUGIN, limits=px.Limits(fuel=10_000)) as sandbox:
        used = []
        for _ in range(3):
            sandbox.call("echo", 1)
            used.append(sandbox.last_job.fuel)
        assert used[0] == used[1] == used[2]
        assert used[0] is not None and 0 < used[0] < 1000
        with pytest.raises(px.FuelExhausted):
            sandbox.call("loop", None)


def test_memory_that_is_refused_is_told_as_such() -> None:
    with px.Sandbox(PLUGIN, limits=px.Limits(memory_bytes=8 << 20)) as sandbox:
        with pytest.raises(px.MemoryLimitExceeded, match=f"asked for {258 << 16} bytes"):
            sandbox.call("memory", None)
        with pytest.raises(px.WasmError, match="unreachable"):
            sandbox.call("trap", None)  # and nothing of that is left
    with px.Sandbox(PLUGIN) as sandbox:
        assert sandbox.call("memory", None) is None


def test_a_memory_larger_than_the_limit_is_refused() -> None:
    large = px.WasmPlugin(module(GUEST.replace('(export "memory") 2', '(export "memory") 256')))
    with pytest.raises(px.MemoryLimitExceeded):
        px.Sandbox(large, limits=px.Limits(memory_bytes=8 << 20))


def test_documents_and_results_are_bounded() -> None:
    with px.Sandbox(PLUGIN, limits=px.Limits(output_bytes=1000, document_bytes=2000)) as sandbox:
        assert sandbox.call("echo", bytes(1000), input="binary") == bytes(1000)
        with pytest.raises(px.OutputTooLarge, match="1001 bytes"):
            sandbox.call("echo", bytes(1001), input="binary")
        with pytest.raises(px.OutputTooLarge, match="131072 bytes"):
            sandbox.call("big", b"", input="binary")
        with pytest.raises(px.InvalidDocument, match="2001 bytes"):
            sandbox.call("echo", bytes(2001), input="binary")


def test_deep_recursion_is_an_error(sandbox: px.Sandbox) -> None:
    with pytest.raises(px.WasmError, match="stack is exhausted"):
        sandbox.call("recurse", None)
    assert sandbox.call("echo", 1) == 1


# Failures


def test_a_guest_error_is_an_error(sandbox: px.Sandbox) -> None:
    with pytest.raises(px.WasmError, match=r"guest.wasm: fail\(\): it is done") as caught:
        sandbox.call("fail", None)
    assert (caught.value.message, caught.value.trapped) == ("it is done", False)
    with pytest.raises(px.WasmError, match="does not say why"):
        sandbox.call("silent", None)
    with pytest.raises(px.WasmError, match=r"unknown\(\): unknown"):
        sandbox.call("unknown", None)


def test_a_trap_is_an_error(sandbox: px.Sandbox) -> None:
    with pytest.raises(px.WasmError, match="unreachable") as caught:
        sandbox.call("trap", None)
    assert caught.value.trapped
    with pytest.raises(px.WasmError, match=r"64 bytes at 4294967280, which do not lie in its memory"):
        sandbox.call("outside", None)
    with pytest.raises(px.WasmError, match="which do not lie in its memory"):
        sandbox.call("echo", bytes(200_000), input="binary")  # has no room in its two pages
    assert sandbox.call("echo", 1) == 1


# The console


def test_the_console_is_logged_and_bounded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "parallel_exec.console")
    records: list[tuple[int, str]] = []
    limits = px.Limits(console_bytes=25)
    with px.Sandbox(PLUGIN, limits=limits, on_console=lambda *record: records.append(record)) as sandbox:
        sandbox.call("write", b"caf\xc3\xa9", input="binary")
        assert records == [(logging.INFO, "café")] * 2
        records.clear()
        sandbox.call("write", b"a line of text", input="binary")
        assert records == [
            (logging.INFO, "a line of text"),
            (logging.WARNING, "1 more console records were dropped: Limits.console_bytes"),
        ]
    PLUGIN.function("write", input="binary")(b"hello")
    assert [record.getMessage() for record in caplog.records] == ["hello"] * 2


# Host functions


def test_host_functions_are_called() -> None:
    plugin = px.WasmPlugin(WASM, host={"price": {"tea": [1.5, b"\0"]}.__getitem__, "none": lambda: "nothing"})
    assert plugin.function("hprice")("tea") == [1.5, b"\0"]
    assert plugin.function("hnone", input="binary")(b"") == ormsgpack.packb("nothing")


def test_a_host_function_that_fails_is_an_error_in_the_guest(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "parallel_exec.host")
    plugin = px.WasmPlugin(WASM, host={"price": {}.__getitem__, "odd": lambda _: object()})
    with px.Sandbox(plugin) as sandbox:
        with pytest.raises(px.WasmError, match="price: KeyError: 'tea'"):
            sandbox.call("hprice", "tea")
        with pytest.raises(px.WasmError, match="absent: TypeError: there is no such host function"):
            sandbox.call("habsent", "tea")
        with pytest.raises(px.WasmError, match="odd: InvalidDocument"):
            sandbox.call("hodd", "tea")


def test_an_interruption_in_a_host_function_ends_the_job() -> None:
    def interrupted(_value: object) -> None:
        raise KeyboardInterrupt

    with px.Sandbox(px.WasmPlugin(WASM, host={"stop": interrupted})) as sandbox:
        with pytest.raises(KeyboardInterrupt):
            sandbox.call("hstop", 1)
        assert sandbox.call("count", b"", input="binary") == COUNTED_ONCE


@pytest.mark.parametrize("calls", ["(drop (call $host_response_len))", ""], ids=["calling", "computing"])
def test_an_interruption_between_host_calls_ends_the_job(calls: str) -> None:
    # It comes while the module computes, and Python sees it where the module calls next: before any `try`.
    begun = threading.Event()
    wasm = f"""{IMPORTS} (memory (export "memory") 1) (data (i32.const 0) "begun")
    (func (export "__guest_call") (param i32 i32) (result i32) (local i32 i32)
      (drop (call $host_call (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                             (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 0)))
      (loop $many
        (local.set 2 (i32.const 0x1000000))
        (loop $compute (br_if $compute (local.tee 2 (i32.sub (local.get 2) (i32.const 1)))))
        {calls}
        (br_if $many (i32.lt_u (local.tee 3 (i32.add (local.get 3) (i32.const 1))) (i32.const 20))))
      (i32.const 1))"""

    def interrupt() -> None:
        begun.wait()
        signal.raise_signal(signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with px.Sandbox(px.WasmPlugin(module(wasm), host={"begun": begun.set})) as sandbox:
        with pytest.raises(KeyboardInterrupt):
            sandbox.call("f", b"", input="binary")
        interrupter.join()


def test_a_sandbox_that_runs_a_host_function_cannot_be_used_by_it() -> None:
    used: list[px.Sandbox] = []
    plugin = px.WasmPlugin(WASM, host={"again": lambda value: used[0].call("echo", value)})
    with px.Sandbox(plugin) as sandbox:
        used.append(sandbox)
        with pytest.raises(px.WasmError, match="use another sandbox here"):
            sandbox.call("hagain", 1)


def test_images_are_kept_as_far_as_they_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (px.WasmPlugin(WASM, name=name) for name in ("first.wasm", "second.wasm"))
    image = first.image()
    second.image()
    assert first.image() is image
    monkeypatch.setattr(any_plugin, "_KEPT_BYTES", 1)
    px.WasmPlugin(WASM, name="third.wasm").image()
    assert first.image() is not image


# What is no plugin

CALL = '(func (export "__guest_call") (param i32 i32) (result i32) (i32.const 1))'
MEMORY = '(memory (export "memory") 1)'


@pytest.mark.parametrize(
    ("wasm", "message"),
    [
        (b"", "not a WebAssembly module"),
        (b"const f = 1", "not a WebAssembly module: it begins with 'const f = 1'; Plugin.from_file reads JavaScript"),
        (WASM[:-7], "not a WebAssembly module"),
        (b"\0asm\x0d\0\1\0", "not a WebAssembly module"),
        (module(""), "must have one memory"),
        (module(MEMORY), "does not export the function __guest_call"),
        (module(f"(memory 1) {CALL}"), "does not export a memory as 'memory'"),
        (module(MEMORY + '(func (export "__guest_call"))'), r"__guest_call is \(\) -> \(\)"),
        (module(f'(import "env" "now" (func (result i64))) {MEMORY} {CALL}'), r"env\.now \(\(\) -> \(i64\)\)"),
        (module(f'(import "wapc" "__guest_request" (func)) {MEMORY} {CALL}'), r"wapc\.__guest_request \(\(\) -> \(\)"),
        (module(f'(import "wapc" "other" (func)) {MEMORY} {CALL}'), r"wapc\.other"),
        (module(f'(import "env" "memory" (memory 1)) {CALL}'), "imports a memory"),
        (module(f'(import "env" "g" (global i32)) {MEMORY} {CALL}'), r"env\.g \(global\)"),
        (module(f'(memory (export "memory") i64 1) {CALL}'), "memory64 must be enabled"),
        (module(f'(memory (export "memory") 0) {CALL}'), "no page"),
        (module(f"{MEMORY} (memory 1) {CALL}"), "multiple memories"),
        (module(f"{MEMORY} (global (mut funcref) (ref.null func)) {CALL}"), "is not a number"),
        (
            module(f"{MEMORY} (table 2 funcref) (func (table.set (i32.const 0) (ref.null func))) {CALL}"),
            r"has table\.set",
        ),
        (module(f'{MEMORY} (data $d "x") (func (data.drop $d)) {CALL}'), r"has data\.drop"),
        (module(f'{MEMORY} (func (export "wapc_init") (unreachable)) {CALL}'), "fails in wapc_init: .*unreachable"),
        (module(f'{MEMORY} (func (export "wapc_init") (param i32)) {CALL}'), "wapc_init takes parameters"),
        (module(f"{MEMORY} (func $s (unreachable)) (start $s) {CALL}"), "fails in its start function: .*unreachable"),
        (
            module(f'{IMPORTS} {MEMORY} (func (export "_start") (call $log (i32.const -1) (i32.const 9))) {CALL}'),
            "fails in _start: it names 9 bytes",
        ),
    ],
)
def test_what_is_no_plugin_is_said_to_be_none(wasm: bytes, message: str) -> None:
    plugin = px.WasmPlugin(wasm, name="bad.wasm")
    with pytest.raises(px.PluginError, match=rf"bad\.wasm: (?:f\(\): )?.*{message}"):
        plugin.function("f")(1)


def test_an_initialisation_is_limited() -> None:
    looping = px.WasmPlugin(module(f"{MEMORY} (func $s (loop (br 0))) (start $s) {CALL}"))
    with pytest.raises(px.JobTimeout):
        px.Sandbox(looping, limits=px.Limits(time_s=0.05))
    with pytest.raises(px.FuelExhausted):
        px.Sandbox(looping, limits=px.Limits(fuel=1000))


# WASI

PROGRAM = f"""
(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
(import "wapc" "__guest_response" (func $response (param i32 i32)))
{MEMORY}
(global $status (mut i32) (i32.const 0))
(func (export "_start") (call $exit (global.get $status)))
(func (export "__guest_call") (param i32 i32) (result i32)
  (if (i32.eqz (local.get 1)) (then (call $exit (i32.const 3))))
  (i32.store8 (i32.const 0) (call $fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))
  (i32.store8 (i32.const 1) (call $clock (i32.const 0) (i64.const 0) (i32.const 8)))
  (call $response (i32.const 0) (i32.const 2))
  (i32.const 1))
"""


def test_wasi_refuses() -> None:
    with px.Sandbox(px.WasmPlugin(module(PROGRAM))) as sandbox:
        assert sandbox.call("f", b"x", input="binary") == bytes([52, 52])  # ENOSYS
        with pytest.raises(px.WasmError, match=r"it calls proc_exit\(3\)"):
            sandbox.call("f", b"", input="binary")
        assert sandbox.call("f", b"x", input="binary") == bytes([52, 52])


def test_a_program_that_has_ended_is_initialised_on() -> None:
    both = PROGRAM.replace(
        "(global $status",
        '(func (export "wapc_init") (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 0)'
        " (i32.const 0))) (i32.store (i32.const 64) (i32.const 1))) (global $status",
    )
    with px.Sandbox(px.WasmPlugin(module(both))) as sandbox:
        assert sandbox.call("f", b"x", input="binary") == bytes([52, 52])


def test_a_program_that_fails_is_no_plugin() -> None:
    failing = PROGRAM.replace("(global $status (mut i32) (i32.const 0))", "(global $status (mut i32) (i32.const 2))")
    with pytest.raises(px.PluginError, match=r"fails in _start: it calls proc_exit\(2\)"):
        px.Sandbox(px.WasmPlugin(module(failing)))
