"""Modules that are made to do harm: each ends in an error of ours, in time, and the next job is right."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from typing import Any

import ormsgpack
import pytest

import parallel_exec as px
from parallel_exec._codec import message_pack
from tests.wasm.modules import GUEST, IMPORTS, module

CALL = '(func (export "__guest_call") (param i32 i32) (result i32) (i32.const 1))'
MEMORY = '(memory (export "memory") 1)'
# Takes and gives back a document of 2 MB.
WIDE = px.WasmPlugin(module(GUEST.replace('(export "memory") 2', '(export "memory") 32')))
WASI = '(import "wasi_unstable" "f" (func {}))'


def test_no_instruction_hides_behind_a_type_that_is_not_known() -> None:
    # A block of type (ref 32) is 02 64 20, and 20 is also local.get: the table.set that follows could pass for numbers.
    types = "".join(f"(type (func (param {'i32 ' * count})))" for count in range(33))
    hidden = f"""
    {types} {IMPORTS} {MEMORY} (table 40 funcref)
    (func $one (type 32)) (elem declare func $one)
    (func $hide (local {"i32 " * 32} funcref)
      (local.set 32 (ref.func $one))
      (drop (block (result (ref 32)) (table.set (i32.const 33) (local.get 32)) (ref.func $one))))
    (func (export "__guest_call") (param i32 i32) (result i32)
      (i32.store8 (i32.const 0) (ref.is_null (table.get (i32.const 33))))
      (call $hide)
      (call $response (i32.const 0) (i32.const 1)) (i32.const 1))
    """
    with pytest.raises(px.PluginError, match="function references required"):
        px.Sandbox(px.WasmPlugin(module(hidden)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (WASI.format("(param f64)") + MEMORY + CALL, r"wants the import wasi_unstable\.f"),
        (
            WASI.format("(param v128)") + MEMORY + CALL,
            r"its import wasi_unstable\.f takes or returns something other than numbers",
        ),
        (WASI.format("(result funcref)") + MEMORY + CALL, "its import .* something other than numbers"),
        (WASI.format("(param i32)") + WASI.format("(param i64)") + MEMORY + CALL, "one function as two kinds"),
        (
            MEMORY + '(func (export "__guest_call") (param v128))',
            "its __guest_call takes or returns something other than numbers",
        ),
        (
            MEMORY + CALL + '(global (export "pexec:global:9") v128 (v128.const i64x2 1 2))',
            "it exports 'pexec:global:9'",
        ),
        (MEMORY + CALL + '(func (export "pexec:start") (unreachable))', "it exports 'pexec:start'"),
        (MEMORY + CALL + '(func (export "_start") (result i32) (i32.const 1))', "_start takes parameters or returns"),
        (MEMORY + CALL + '(data (i32.const 65535) "ab")', "no instance of the module can be made: .*out of bounds"),
        (MEMORY + CALL + "(table 1 funcref) (elem (i32.const 1) 0)", "no instance .*out of bounds"),
        (MEMORY + CALL + "(table 1 funcref)" * 5, "no instance .*table count"),
        (MEMORY + CALL + "(table 100000000 funcref)", "no instance .*table minimum size"),
        (MEMORY + CALL + "(global (mut i32) (i32.const 1))" * 1001, "more than 1000 mutable globals"),
        (MEMORY + CALL + "".join(f'(export "{n}" (func 0))' for n in range(1001)), "has 1003 exports; at most 1000"),
        (WASI.format("") * 1001 + MEMORY + CALL, "has 1001 imports; at most 1000"),
        (MEMORY + CALL + "(type (struct (field (mut i32))))", "gc"),
        (MEMORY + CALL + "(tag)", "exceptions"),
        ('(memory (export "memory") 1 1 shared)' + CALL, "threads must be enabled"),
        (MEMORY + CALL + "(func (atomic.fence))", "threads support is not enabled"),
        ('(memory (export "memory") 1 (pagesize 1))' + CALL, "custom page sizes"),
        (MEMORY + CALL + "(table i64 1 funcref)", "memory64 must be enabled"),
        (MEMORY + CALL + "(type $f (func)) (type $c (cont $f))", "stack switching is disabled"),
        (MEMORY + CALL + "(func $s (call $s)) (start $s)", "its start function: the call stack is exhausted"),
        (
            MEMORY + CALL + f"(func (param i32) (br_table {'0 ' * 400_000} (local.get 0)))",
            "can be run: failed to compile",
        ),
    ],
)
def test_what_could_do_harm_is_no_plugin(fields: str, message: str) -> None:
    with pytest.raises(px.PluginError, match=rf"bad\.wasm: .*{message}"):
        px.Sandbox(px.WasmPlugin(module(fields), name="bad.wasm"))


def test_names_that_a_module_makes_up_are_shown_as_far_as_they_can_be() -> None:
    name = "\\1b[2J\\0a" + "x" * 90_000
    for fields in (f'(import "{name}" "{name}" (func))', f'(func (export "{name}")) (func (export "{name}"))'):
        with pytest.raises(px.PluginError) as caught:
            px.Sandbox(px.WasmPlugin(module(f"{fields} {MEMORY} {CALL}")))
        assert len(str(caught.value)) < 800
        assert str(caught.value).isprintable()


def test_a_function_may_be_imported_twice() -> None:
    twice = IMPORTS + IMPORTS.replace("(func $", "(func $again_") + MEMORY + CALL
    assert px.WasmPlugin(module(twice)).function("f")(1) is None


def test_calls_of_the_host_in_a_row_end_at_the_deadline() -> None:
    # Machine code looks at the deadline where it jumps back or begins a function, and this does neither.
    row = "(call $response (i32.const 0) (i32.const 50000000))" * 1000
    wasm = f"""{IMPORTS} (memory (export "memory") 800)
    (func (export "__guest_call") (param i32 i32) (result i32)
      (if (local.get 1) (then {row})) (i32.const 1))"""
    with px.Sandbox(px.WasmPlugin(module(wasm)), limits=px.Limits(time_s=0.05)) as sandbox:
        with pytest.raises(px.JobTimeout):
            sandbox.call("f", b"x", input="binary")
        assert sandbox.call("f", b"", input="binary") == b""


def test_calls_of_the_host_in_a_row_are_stopped() -> None:
    begun = threading.Event()
    row = "(call $response (i32.const 0) (i32.const 50000000))" * 2000
    wasm = f"""{IMPORTS} (memory (export "memory") 800) (data (i32.const 0) "begun")
    (func (export "__guest_call") (param i32 i32) (result i32)
      (drop (call $host_call (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                             (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 0)))
      {row} (i32.const 1))"""
    plugin = px.WasmPlugin(module(wasm), host={"begun": begun.set})
    with px.Sandbox(plugin, limits=px.Limits(time_s=600)) as sandbox:

        def stop() -> None:
            begun.wait()
            sandbox.stop()

        stopper = threading.Thread(target=stop)
        stopper.start()
        with pytest.raises(px.JobTimeout):
            sandbox.call("f", b"", input="binary")
        stopper.join()


def test_what_a_chain_makes_is_bounded_while_it_is_made() -> None:
    seen: list[int] = []
    nils = 30_000
    wasm = f"""{IMPORTS} (memory (export "memory") 20) (data (i32.const 0) "seen")
    (data (i32.const 16) "\\dd\\00\\00\\75\\30")
    (func (export "__guest_call") (param i32 i32) (result i32)
      (drop (call $host_call (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                             (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 0)))
      (memory.fill (i32.const 21) (i32.const 0xc0) (i32.const {nils}))
      (call $response (i32.const 16) (i32.const {nils + 5})) (i32.const 1))"""
    many = px.WasmPlugin(module(wasm), host={"seen": lambda: seen.append(1)}).function("f")
    with (
        px.Pool(1, backend="thread", limits=px.Limits(output_bytes=1 << 17)) as pool,
        pytest.raises(px.OutputTooLarge, match=r"Limits\.output_bytes"),
    ):
        pool.par_iter([[1] * 50]).flat_map(many).flat_map(many).collect()
    assert len(seen) < 10


def test_a_long_error_is_cut() -> None:
    wasm = f"""{IMPORTS} (memory (export "memory") 100)
    (func (export "__guest_call") (param i32 i32) (result i32)
      (call $error (i32.const 0) (i32.const 6000000)) (i32.const 0))"""
    with pytest.raises(px.WasmError) as caught:
        px.WasmPlugin(module(wasm)).function("f")(1)
    assert len(caught.value.message) == 64 << 10


def test_the_stack_holds_a_module_above_another() -> None:
    # The outer one calls the host as deep as it can, which has an inner one exhaust its stack.
    inner = px.WasmPlugin(module(GUEST)).function("recurse")

    def nested() -> str:
        with pytest.raises(px.WasmError, match="stack is exhausted"):
            inner(1)
        return "held"

    deep = f"""{IMPORTS} {MEMORY} (data (i32.const 0) "f")
    (func $down (param $left i32) (result i32)
      (if (result i32) (local.get $left)
        (then (i32.add (call $down (i32.sub (local.get $left) (i32.const 1))) (i32.const 0)))
        (else (call $host_call (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                               (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0)))))
    (func (export "__guest_call") (param i32 i32) (result i32)
      (call $request (i32.const 8) (i32.const 64))
      (drop (call $down (i32.load (i32.const 64))))
      (call $host_response (i32.const 128))
      (call $response (i32.const 128) (call $host_response_len))
      (i32.const 1))"""
    with px.Sandbox(px.WasmPlugin(module(deep), host={"f": nested})) as sandbox:
        reached, refused = 0, 1 << 20
        while refused - reached > 1:
            depth = (reached + refused) // 2
            try:
                answer = sandbox.call("f", struct.pack("<I", depth), input="binary")
            except px.WasmError as error:
                assert "stack is exhausted" in str(error)
                refused = depth
            else:
                assert ormsgpack.unpackb(answer) == "held"
                reached = depth
        assert reached > 1000


def colliding(count: int) -> Iterator[tuple[int, int]]:
    """Pairs of integers that are one hash as tuples (the constants are those of Objects/tupleobject.c)."""
    mask, first, second, fifth = (1 << 64) - 1, 11400714785074694791, 14029467366897019727, 2870177450012600261
    number, inverse = 0, pow(second, -1, 1 << 64)
    while count:
        number += 1
        mixed = (fifth + number * second) & mask
        mixed = (mixed << 31 | mixed >> 33) * first & mask
        other = (12345 - mixed) * inverse & mask
        other -= (other >> 63) << 64
        if abs(other) < (1 << 61) - 1:
            count -= 1
            yield number, other


@pytest.mark.parametrize("key", [[1, 2], list(range(20)), list(range(70000)), []])
def test_a_key_that_is_an_array_is_refused(key: Any) -> None:
    packed = ormsgpack.packb(
        [{"a": {1: "x" * 40, 2: b"y" * 300, 1 << 40: [-1, 2.5, None], False: {}}}, {tuple(key): 1}],
        option=ormsgpack.OPT_NON_STR_KEYS,
    )
    with pytest.raises(px.PluginError, match="the key of a map"):
        WIDE.function("echo")(packed)
    allowed = {1: [[1, 2]], 2.5: "x" * 300, b"b": b"y" * 70000, None: {-1: list(range(20))}, False: 1 << 60}
    assert WIDE.function("echo")(allowed) == allowed


def test_keys_of_one_hash_cost_nothing() -> None:
    keys = list(colliding(3))
    assert len(keys) == 3 and len({hash(key) for key in keys}) == 1
    packed = b"\x83" + b"".join(ormsgpack.packb(list(key)) + b"\1" for key in keys)
    with pytest.raises(px.PluginError, match="the key of a map"):
        px.WasmPlugin(module(GUEST)).function("echo")(packed)


def test_a_key_that_meets_all_others_costs_nothing() -> None:
    # Numbers lie in a dict's table where their hash, which is themselves, says. These fill all places at which the last
    # one is looked for, each time anew: 70,000 keys take 8 s, ten times as many hours.
    mask, place, perturbed = (1 << 17) - 1, 0, 1 << 40
    path = dict.fromkeys([0])
    while len(path) < 60_000:
        perturbed >>= 5
        place = (place * 5 + perturbed + 1) & mask
        path[place] = None
    keys = [*path, *[1 << 40] * 10_000]
    packed = b"\xdf" + struct.pack(">I", len(keys)) + b"".join(ormsgpack.packb(key) + b"\0" for key in keys)
    with pytest.raises(px.PluginError, match="must have texts for keys"):
        WIDE.function("echo")(packed)
    some = dict.fromkeys(range(20000))
    assert WIDE.function("echo")(some) == some


def test_a_result_of_very_many_arrays_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_pack, "_MOST_VALUES", 1000)
    echo = WIDE.function("echo")
    for item in (b"\x90", b"\x80", b"\x81\xa0\xc0", b"\x92\1\2"):
        with pytest.raises(px.OutputTooLarge, match=r"more than \d+ values in \d+ bytes .* output='bytes'"):
            echo(b"\xdd" + struct.pack(">I", 6000) + item * 6000)
        assert len(echo(b"\xdd" + struct.pack(">I", 300) + item * 300)) == 300
    # What only looks like it is not.
    for values in (
        ["\u2190" * 4000],
        [b"\x90" * 40_000],
        [bytes([144]) * 6] * 4000,
        [-1.2e-299] * 4000,
        [None] * 50_000,
    ):
        assert echo(values) == values


@pytest.mark.parametrize(
    "packed",
    [
        b"\x91" * 1_000_000,  # nested
        b"\x81\1" * 500_000,
        b"\x81\xa0" * 500_000,
        b"\xdd\xff\xff\xff\xff",  # cut short
        b"\xdf\xff\xff\xff\xff\xa0",
        b"\xc6\xff\xff\xff\xff",
        b"\x82\1\1",
        b"\xd6\xff\0\0\0\0",  # a timestamp, other extensions
        b"\xc7\x0c\xff" + bytes(12),
        b"\xc9\0\0\0\0\5",
        b"\xa1\xff",  # no UTF-8
        b"\xa3\xed\xa0\x80",
        b"\x81\xa1\xff\0",
        b"\xc1",
        b"\x81\xd6\xff\0\0\0\0\1",
    ],
    ids=lambda packed: f"{packed[:4].hex()}:{len(packed)}",
)
def test_what_is_no_message_pack_is_said_to_be_none(packed: bytes) -> None:
    with pytest.raises(px.PluginError, match="the result is not MessagePack"):
        WIDE.function("echo")(packed)


def test_of_keys_that_occur_twice_the_last_counts() -> None:
    assert WIDE.function("echo")(b"\x82\xa1a\1\xa1a\2") == {"a": 2}
    assert WIDE.function("echo")(b"\x83\1\1\1\2\xcb\x3f\xf0\0\0\0\0\0\0\3") == {1: 3}


def test_errors_of_one_thread_are_not_anothers() -> None:
    # What a linked function raises ends the call by a trap, and wasmtime's package knows one such error at a time.
    plugin = px.WasmPlugin(module(GUEST))
    with px.Pool(4, backend="thread") as pool:
        functions = {"outside": "do not lie in its memory", "trap": "unreachable"}
        futures = [(text, pool.submit(plugin.function(name), None)) for name, text in [*functions.items()] * 300]
        for text, future in futures:
            with pytest.raises(px.WasmError, match=text):
                future.result()
