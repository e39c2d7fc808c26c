"""A pool's start, round trip and throughput."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from parallel_exec import Plugin
from parallel_exec._cpus import usable_cpus
from parallel_exec.pool import Pool

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

pytest.importorskip("pytest_benchmark", reason="pip install pytest-benchmark, or the extra 'bench'")

JOBS = 200


@pytest.fixture(scope="module")
def pool(plugin: Plugin, identity: Plugin, document: bytes) -> Iterator[Pool]:
    with Pool(usable_cpus()) as pool:
        # Each worker has both plugins before anything is timed.
        list(pool.map(plugin.function("calculate"), itertools.repeat(document, 8 * usable_cpus())))
        list(pool.map(identity.function("identity"), range(8 * usable_cpus())))
        yield pool


@pytest.mark.benchmark(group="pool start")
def test_start_and_first_result(benchmark: BenchmarkFixture, identity: Plugin) -> None:
    function = identity.function("identity")

    def start() -> Any:
        with Pool(1) as pool:
            return pool.submit(function, 1).result()

    benchmark.pedantic(start, rounds=5)


@pytest.mark.benchmark(group="pool round trip")
def test_round_trip_tiny(benchmark: BenchmarkFixture, pool: Pool, identity: Plugin) -> None:
    function = identity.function("identity", output="bytes")
    benchmark(lambda: pool.submit(function, b"1").result())


@pytest.mark.benchmark(group="pool round trip")
def test_round_trip(benchmark: BenchmarkFixture, pool: Pool, plugin: Plugin, document: bytes) -> None:
    function = plugin.function("calculate", output="bytes")
    benchmark(lambda: pool.submit(function, document).result())


@pytest.mark.benchmark(group=f"pool throughput, {JOBS} jobs")
def test_throughput_tiny(benchmark: BenchmarkFixture, pool: Pool, identity: Plugin) -> None:
    function = identity.function("identity", output="bytes")
    benchmark(lambda: list(pool.map(function, itertools.repeat(b"1", JOBS))))


@pytest.mark.benchmark(group=f"pool throughput, {JOBS} jobs")
def test_throughput(benchmark: BenchmarkFixture, pool: Pool, plugin: Plugin, document: bytes) -> None:
    function = plugin.function("calculate", output="bytes")
    benchmark(lambda: list(pool.map(function, itertools.repeat(document, JOBS))))
