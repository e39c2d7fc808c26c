"""A sandbox's start, jobs and reset; an image's capture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from parallel_exec import Limits, MemoryImage, Plugin, Sandbox
from parallel_exec.measure.strategies import STRATEGIES, Work
from parallel_exec.sandbox._js.driver import Driver

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

pytest.importorskip("pytest_benchmark", reason="pip install pytest-benchmark, or the extra 'bench'")


@pytest.mark.benchmark(group="capture")
def test_capture_an_image(benchmark: BenchmarkFixture, plugin: Plugin) -> None:
    benchmark(MemoryImage.capture, plugin.source, name=plugin.name)


@pytest.mark.benchmark(group="capture")
def test_from_source_to_first_result(benchmark: BenchmarkFixture, plugin: Plugin, document: bytes) -> None:
    def first_result() -> bytes:
        image = MemoryImage.capture(plugin.source, name=plugin.name)
        with Sandbox(image) as sandbox:
            return sandbox.call_bytes("calculate", document)

    benchmark(first_result)


@pytest.mark.benchmark(group="capture")
def test_image_to_bytes_and_back(benchmark: BenchmarkFixture, image: MemoryImage) -> None:
    benchmark(lambda: MemoryImage.from_bytes(image.to_bytes()))


@pytest.mark.benchmark(group="start")
def test_start_a_sandbox(benchmark: BenchmarkFixture, image: MemoryImage) -> None:
    benchmark(lambda: Sandbox(image).close())


@pytest.mark.benchmark(group="job")
def test_job_and_reset(benchmark: BenchmarkFixture, image: MemoryImage, document: bytes) -> None:
    with Sandbox(image) as sandbox:
        benchmark(sandbox.call_bytes, "calculate", document)


@pytest.mark.benchmark(group="job")
def test_job_without_its_reset(benchmark: BenchmarkFixture, image: MemoryImage, document: bytes) -> None:
    """Run the job of the test above in a warm sandbox, without timing the reset."""
    with Driver.open(Limits()) as driver:
        image.fill(driver.instance)

        def reset() -> None:
            image.plan.apply(driver.instance, driver.instance.size())

        def job() -> bytes:
            driver.put(document, name="calculate")
            driver.call("engine_job")
            return driver.output()

        benchmark.pedantic(job, setup=reset, rounds=1000, warmup_rounds=20)


@pytest.mark.benchmark(group="job")
def test_job_in_a_new_instance_of_the_baked_module(
    benchmark: BenchmarkFixture, plugin: Plugin, document: bytes
) -> None:
    work = Work(plugin=plugin, function="calculate", document=document, limits=Limits())
    with STRATEGIES["parser"](work) as strategy:
        strategy.prepare()
        benchmark(strategy.run)


@pytest.mark.benchmark(group="job")
def test_job_with_python_values(benchmark: BenchmarkFixture, image: MemoryImage, document: bytes) -> None:
    import orjson

    value = orjson.loads(document)
    with Sandbox(image) as sandbox:
        benchmark(sandbox.call, "calculate", value)


@pytest.mark.benchmark(group="tiny job")
def test_tiny_job_and_reset(benchmark: BenchmarkFixture, identity: Plugin) -> None:
    with Sandbox(identity) as sandbox:
        benchmark(sandbox.call_bytes, "identity", b'{"a":1}')


@pytest.mark.benchmark(group="reset")
def test_reset(benchmark: BenchmarkFixture, image: MemoryImage, document: bytes) -> None:
    """Reset everything that a job on the shipped document touches."""
    with Driver.open(Limits()) as driver:
        image.fill(driver.instance)
        driver.put(document, name="calculate")
        reply = driver.call("engine_job")
        benchmark(image.plan.apply, driver.instance, reply.high_water, reply.stack_low)
