"""WebAssembly modules in pools: of processes and of threads, in maps, chains, deployments and event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import parallel_exec as px
from tests.wasm.modules import ARITHMETIC, GUEST, module

GUEST_PLUGIN = px.WasmPlugin(module(GUEST), name="guest.wasm")
NUMBERS = px.WasmPlugin(module(ARITHMETIC), name="numbers.wasm")


@pytest.fixture(scope="module", params=["process", "thread"])
def pool(request: pytest.FixtureRequest) -> Iterator[px.Pool]:
    with px.Pool(2, backend=request.param, limits=px.Limits(time_s=2.0)) as made:
        yield made


def test_jobs_are_submitted_and_mapped(pool: px.Pool) -> None:
    echo = GUEST_PLUGIN.function("echo")
    assert pool.submit(echo, {"a": b"bytes"}).result() == {"a": b"bytes"}
    documents = [{"n": n, "text": "x" * (n % 50)} for n in range(300)]
    assert list(pool.map(echo, documents)) == documents
    assert list(pool.map(GUEST_PLUGIN.function("echo", input="binary"), [b"\xc1", b""])) == [b"\xc1", b""]
    large = bytes(range(256)) * 4000
    roomy = px.WasmPlugin(module(GUEST.replace('(export "memory") 2', '(export "memory") 32')))
    assert pool.submit(roomy.function("echo", input="binary"), large).result() == large


def test_each_job_begins_with_the_image(pool: px.Pool) -> None:
    count = GUEST_PLUGIN.function("count", input="binary")
    assert set(pool.map(count, [b""] * 100)) == {bytes([1, 8, 1, 42, 1])}


def test_errors_say_which_document(pool: px.Pool) -> None:
    with pytest.raises(px.WasmError, match=r"guest.wasm: fail\(\): document 0: it is done"):
        list(pool.map(GUEST_PLUGIN.function("fail"), [1, 2]))
    outcomes = list(pool.map(GUEST_PLUGIN.function("trap"), [1, 2], errors="return"))
    assert [(type(error), error.trapped, error.document) for error in outcomes] == [
        (px.WasmError, True, 0),
        (px.WasmError, True, 1),
    ]
    with pytest.raises(px.PluginError, match="is not MessagePack"):
        pool.submit(GUEST_PLUGIN.function("echo"), b"\xc1").result()
    with pytest.raises(px.PluginError, match="not a WebAssembly module"):
        pool.submit(px.WasmPlugin(b"").function("f"), 1).result()


def test_limits_hold(pool: px.Pool) -> None:
    loop = GUEST_PLUGIN.function("loop", limits=px.Limits(time_s=0.05))
    assert [type(error) for error in pool.map(loop, [1, 2, 3], errors="return")] == [px.JobTimeout] * 3
    memory = GUEST_PLUGIN.function("memory", limits=px.Limits(memory_bytes=8 << 20))
    with pytest.raises(px.MemoryLimitExceeded):
        pool.submit(memory, None).result()
    with pytest.raises(px.FuelExhausted):
        pool.submit(GUEST_PLUGIN.function("loop", limits=px.Limits(fuel=10_000)), None).result()


def test_deployments_swap_modules_and_javascript(pool: px.Pool) -> None:
    versions = [
        pool.deploy("double", NUMBERS),
        pool.deploy("double", px.Plugin("const double = x => 2 * x + 0.5")),
        pool.deploy("double", NUMBERS),
    ]
    assert [version.number for version in versions] == [1, 2, 3]
    pool.deploy("double", px.Plugin("const double = x => 2 * x + 0.5"))
    double = pool.deployment("double").function("double")
    before = pool.submit(double, 4)
    pool.deploy("double", NUMBERS)
    after = pool.submit(double, 4)
    assert (before.result(), after.result()) == (8.5, 8)
    assert after.version is not None and after.version.plugin == NUMBERS
    assert pool.deployment("double").function("double").input == "msgpack"


def test_a_module_is_swapped_while_jobs_run(pool: px.Pool) -> None:
    other = px.WasmPlugin(module(GUEST.replace("(i64.const 7)", "(i64.const 20)")), name="guest.wasm")
    pool.deploy("swapped", GUEST_PLUGIN)
    count = pool.deployment("swapped").function("count", input="binary")
    futures = []
    for number in range(200):
        futures += [pool.submit(count, b"") for _ in range(3)]
        pool.deploy("swapped", (other, GUEST_PLUGIN)[number % 2])
    for future in futures:
        answer = future.result()
        assert future.version is not None
        assert answer == bytes([1, 21 if future.version.plugin == other else 8, 1, 42, 1])


@pytest.mark.parametrize("given", ["msgpack", "json"])
def test_chains_run_in_workers(pool: px.Pool, given: Any) -> None:
    double, even, twice, add = (NUMBERS.function(name, input=given) for name in ("double", "even", "twice", "add"))
    assert pool.par_iter([1, 2, 3]).map(double).collect() == [2, 4, 6]
    assert pool.par_iter(range(6)).filter(even).map(double).collect() == [0, 4, 8]
    assert pool.par_iter([1, 2]).flat_map(twice).collect() == [1, 1, 2, 2]
    assert pool.par_iter(range(10)).map(double).sum() == 90
    assert pool.par_iter(range(10)).filter(even).count() == 5
    assert (pool.par_iter([3, 1, 2]).map(double).min(), pool.par_iter([3, 1, 2]).max()) == (2, 3)
    assert pool.par_iter(range(10)).flat_map(twice).reduce(add) == 90
    assert pool.par_iter(range(4)).map(double).fold(1, add).collect() == [13]
    assert pool.par_iter([]).reduce(add) is None


def test_chains_cross_from_one_language_to_the_other(pool: px.Pool) -> None:
    script = px.Plugin("const next = x => x + 1")
    chain = pool.par_iter([1, 2]).map(NUMBERS.function("double")).map(script.function("next"))
    assert chain.map(NUMBERS.function("double")).collect() == [6, 10]


def test_chains_fail_where_a_function_does(pool: px.Pool) -> None:
    with pytest.raises(px.WasmError, match=r"numbers.wasm: unknown\(\): document 0: unknown"):
        pool.par_iter([1, 2]).map(NUMBERS.function("double")).map(NUMBERS.function("unknown")).collect()
    with pytest.raises(px.WasmError, match=r"double\(\): document 0: flat_map needs an array"):
        pool.par_iter([1]).flat_map(NUMBERS.function("double")).collect()
    with pytest.raises(px.WasmError, match="not a finite number"):
        pool.par_iter(["text"]).map(GUEST_PLUGIN.function("echo")).sum()


def test_the_first_function_of_a_chain_can_take_bytes(pool: px.Pool) -> None:
    double = NUMBERS.function("double", input="binary")
    assert pool.par_iter([b"\1", b"\2"]).map(double).collect() == [2, 4]


@pytest.mark.parametrize("backend", ["process", "thread"])
def test_a_job_that_nobody_waits_for_is_stopped(backend: Any) -> None:
    loop = GUEST_PLUGIN.function("loop")
    patient = px.Pool(1, backend=backend, limits=px.Limits(time_s=600))

    async def cancelled() -> None:
        task = asyncio.create_task(patient.acall(loop, None))
        while not patient.stats().in_flight:  # noqa: ASYNC110 - the pool has no event to wait for
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await patient.acall(GUEST_PLUGIN.function("echo"), 1) == 1  # its only worker is free again

    with patient:
        asyncio.run(cancelled())


def test_two_domains_never_share_a_process() -> None:
    plugins = [px.WasmPlugin(module(GUEST), domain=domain) for domain in ("a", "b")]
    with px.Pool(1, isolation="process") as pool:
        for _ in range(2):
            for plugin in plugins:
                assert pool.submit(plugin.function("echo"), 1).result() == 1


def test_host_functions_are_imported_by_workers() -> None:
    import posixpath

    plugin = px.WasmPlugin(module(GUEST), host={"base": posixpath.basename})
    with px.Pool(1) as pool:
        assert pool.submit(plugin.function("hbase"), "a/b").result() == "b"
        with pytest.raises(px.PluginError, match="cannot be sent"):
            pool.submit(px.WasmPlugin(module(GUEST), host={"f": lambda x: x}).function("hf"), 1).result()
