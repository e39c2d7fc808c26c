"""Named deployments: swaps under load, results that tell their version, and memory that is given back."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import parallel_exec as px
from parallel_exec.pool import JobFuture, Pool, PoolEvent
from parallel_exec.pool._scheduling import publisher
from parallel_exec.pool._workers import sandboxes
from tests.pool.conftest import BACKENDS, BackendName, Tools


def plugin(says: int, filler: int = 0) -> px.Plugin:
    source = f"const padding = new Array({filler}).fill(0.5); function f(x) {{ return [{says}, x] }}"
    return px.Plugin(source, name=f"p{says}.js")


def test_the_version_is_the_one_current_when_the_job_is_submitted(tools: Tools) -> None:
    with Pool(1, limits=px.Limits(time_s=1)) as pool:
        assert pool.deploy("d", plugin(1)).number == 1
        function = pool.deployment("d").function("f")
        blocker = pool.submit(tools.function("spin"), 1)
        before = [pool.submit(function, number) for number in range(20)]
        second = pool.deploy("d", plugin(2))
        after = [pool.submit(function, number) for number in range(20)]
        assert second == pool.deployment("d").version and str(second) == "d version 2 (p2.js)"
        assert repr(function) == "<DeployedFunction f() of d version 2 (p2.js)>"
        assert isinstance(blocker.exception(), px.JobTimeout) and blocker.version is None
        assert [future.result() for future in before] == [[1, number] for number in range(20)]
        assert [future.result() for future in after] == [[2, number] for number in range(20)]
        assert {future.version.number for future in before if future.version} == {1}
        assert {future.version for future in after} == {second}


@BACKENDS
def test_a_thousand_swaps_under_full_load_lose_and_mix_nothing(backend: BackendName) -> None:
    events: list[PoolEvent] = []
    plugins = [plugin(1), plugin(2)]
    waiting: deque[tuple[int, JobFuture]] = deque()
    numbers = itertools.count()
    seen = set()

    def check(number: int, future: JobFuture) -> None:
        version = future.version
        assert version is not None
        # Odd versions are of the first plugin, even ones of the second.
        assert future.result() == [2 - version.number % 2, number]
        seen.add(version.number)

    with Pool(2, backend=backend, on_event=events.append) as pool:
        pool.deploy("d", plugins[0])
        function = pool.deployment("d").function("f")
        for swap in range(1, 1001):
            for _ in range(6):
                number = next(numbers)
                waiting.append((number, pool.submit(function, number)))
            pool.deploy("d", plugins[swap % 2])
            while len(waiting) > 60:
                check(*waiting.popleft())
        for each in waiting:
            check(*each)
    assert seen == set(range(1, 1001))
    assert [event.kind for event in events].count("deployment swapped") == 1001


@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_takes_the_version_that_is_current_when_it_draws_a_document(pool: Pool, *, ordered: bool) -> None:
    plugins = [plugin(0), plugin(1)]
    pool.deploy("d", plugins[0])
    expected = []

    def documents() -> Iterator[int]:
        for number in range(300):
            expected.append(pool.deploy("d", plugins[number % 2]).number)
            yield number

    function = pool.deployment("d").function("f")
    results = list(pool.map(function, documents(), versions=True, ordered=ordered))
    assert len(results) == 300
    for version, (says, number) in results:
        assert version is not None
        assert (version.number, says) == (expected[number], number % 2)
    assert [version for version, _ in pool.map(plugins[0].function("f"), [1], versions=True)] == [None]


STAGES = """
const add = x => x + ADDED, odd = x => x % 2, twice = x => [x, x], join = (a, b) => [...[a].flat(), ...[b].flat()];
const push = (a, x) => [...a, x + ADDED], fail = x => { throw new Error(`version ${ADDED}`) };
"""


def test_stages_run_the_version_that_is_current_when_a_document_is_handed_over(pool: Pool) -> None:
    """The first trip's documents are handed over as they are drawn, the second's as the results of the first come."""
    stages = [px.Plugin(STAGES.replace("ADDED", str(added)), name=f"s{added}.js") for added in (0, 100)]
    for name in ("one", "two"):
        pool.deploy(name, stages[0])
    one, two = (pool.deployment(name).function for name in ("one", "two"))

    def documents() -> Iterator[int]:
        for number in range(20):
            pool.deploy("one", stages[number >= 10])
            yield number

    def with_stages(values: Iterable[int]) -> list[int]:
        return [each for value in values if value % 2 for each in (value, value)]

    drawn = [*range(10), *range(110, 120)]
    fused = pool.par_iter(documents()).map(one("add")).filter(one("odd")).flat_map(one("twice"))
    assert fused.collect() == with_stages(drawn)
    assert pool.par_iter(documents()).map(one("add")).flat_map(two("twice")).filter(two("odd")).sum() == sum(
        with_stages(drawn)
    )
    assert pool.par_iter(documents()).map(one("add")).reduce(two("join")) == drawn
    folded = pool.par_iter(range(4)).map(two("add")).fold([], two("push"))
    assert folded.collect() == [[0, 1, 2, 3]]
    pool.deploy("two", stages[1])
    assert folded.collect() == [[200, 201, 202, 203]]
    with pytest.raises(px.JSError, match=r"s100\.js: fail\(\): document 0: Error: version 100"):
        pool.par_iter([1]).map(two("add")).map(two("fail")).count()


def test_all_stages_of_a_trip_are_of_one_version(pool: Pool) -> None:
    """However fast versions are swapped, the stages of one never see values of another."""
    stages = [px.Plugin(f"const f = x => '{name}', g = x => x + '{name}'", name=name) for name in ("a", "b")]
    pool.deploy("d", stages[0])
    function = pool.deployment("d").function
    chain = pool.par_iter(range(20_000)).map(function("f")).map(function("g"))
    seen = set()
    for number, value in enumerate(chain):
        pool.deploy("d", stages[number % 2])
        seen.add(value)
        if number >= 200 and len(seen) > 1:  # how many are drawn ahead, with the first version, varies
            break
    assert seen == {"aa", "bb"}


def test_chains_take_functions_of_their_own_pool_only(pool: Pool, tools: Tools) -> None:
    pool.deploy("d", plugin(1))
    function = pool.deployment("d").function("f")
    with Pool(1, backend="thread") as other, pytest.raises(ValueError, match="another pool's"):
        other.par_iter([1]).map(function).collect()
    with pytest.raises(TypeError, match="Python function"):
        pool.par_iter([1]).for_each(tools.untyped(function))


def test_errors_tell_their_version_too(pool: Pool) -> None:
    pool.deploy("d", px.Plugin("function f(x) { throw new Error('old') }", name="old.js"))
    future = pool.submit(pool.deployment("d").function("f"), 1)
    assert isinstance(future.exception(), px.JSError) and future.version is not None and future.version.number == 1
    ((version, error),) = pool.map(pool.deployment("d").function("f"), [1], versions=True, errors="return")
    assert version == future.version and isinstance(error, px.JSError) and error.plugin == "old.js"


def test_a_plugin_that_does_not_load_is_not_deployed(pool: Pool) -> None:
    with pytest.raises(px.PluginError):
        pool.deploy("d", px.Plugin("function ("))
    with pytest.raises(LookupError, match="nothing is deployed as 'd'; there is none"):
        pool.deployment("d")
    pool.deploy("d", plugin(1))
    with pytest.raises(px.PluginError):
        pool.deploy("d", px.Plugin("throw new Error('top')"))
    assert pool.deployment("d").version.number == 1
    assert pool.submit(pool.deployment("d").function("f"), 5).result() == [1, 5]


def test_deployed_functions_have_limits_and_outputs_of_their_own(pool: Pool, tools: Tools) -> None:
    pool.deploy("d", px.Plugin("function f(x) { return 'x'.repeat(x) }", limits=px.Limits(output_bytes=1000)))
    deployment = pool.deployment("d")
    assert pool.submit(deployment.function("f", output="bytes"), 2).result() == b'"xx"'
    assert isinstance(pool.submit(deployment.function("f"), 2000).exception(), px.OutputTooLarge)
    tight = deployment.function("f", limits=px.Limits(output_bytes=10))
    assert isinstance(pool.submit(tight, 20).exception(), px.OutputTooLarge)
    with pytest.raises(ValueError, match="output must be"):
        deployment.function("f", output=tools.untyped("text"))


def test_a_deployment_belongs_to_its_pool(pool: Pool, tools: Tools) -> None:
    pool.deploy("d", plugin(1))
    with Pool(1) as other, pytest.raises(ValueError, match="another pool's"):
        other.submit(pool.deployment("d").function("f"), 1)
    with pytest.raises(TypeError, match="name must be a str"):
        pool.deploy(tools.untyped(1), plugin(1))
    with pytest.raises(TypeError, match="only a Plugin"):
        pool.deploy("d", tools.untyped("function f() {}"))
    other.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        other.deploy("d", plugin(1))


def opened() -> int:
    """Bytes of shared memory that this process holds open."""
    total = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            if "memfd:parallel_exec" in str(descriptor.readlink()):
                total += descriptor.stat().st_size
        except FileNotFoundError:
            continue
    return total


def test_the_memory_of_old_versions_is_given_back(tools: Tools) -> None:
    """Neither the parent nor a worker keeps more bytes of images, 2 MB each here, than they may."""
    most = publisher.KEPT_IMAGE_BYTES + (4 << 20)
    with Pool(1) as pool:
        assert pool.submit(tools.function("double"), 1).result() == 2
        base, (pid,) = opened(), tools.pids(pool)
        workers_base = sum(tools.mappings(pid))
        rounds = publisher.KEPT_IMAGE_BYTES // (2 << 20) + 15
        for number in range(rounds):
            pool.deploy("d", plugin(number, filler=200_000))
            assert pool.submit(pool.deployment("d").function("f"), 0).result() == [number, 0]
            assert opened() - base <= most
        assert opened() - base > 8 << 20  # the images are as large as this test assumes
        pool.submit(tools.function("double"), 1).result()
        tools.eventually(
            lambda: sum(tools.mappings(pid)) - workers_base <= most, "the worker has given old images back"
        )
        assert tools.pids(pool) == [pid]
        # What was given back can be deployed again.
        pool.deploy("d", plugin(0, filler=200_000))
        assert pool.submit(pool.deployment("d").function("f"), 0).result() == [0, 0]


def test_the_sandboxes_that_a_worker_keeps_are_bounded_in_bytes(tools: Tools) -> None:
    with Pool(1) as pool:
        assert pool.submit(tools.function("double"), 1).result() == 2
        (pid,) = tools.pids(pool)
        before = tools.private_bytes(pid)
        each = 4 << 20  # at least, with an array of half a million numbers
        large = plugin(1, filler=500_000)
        for number in range(2 * sandboxes.KEPT_SANDBOX_BYTES // each):  # one image, each time another sandbox
            limits = px.Limits(console_bytes=number)
            assert pool.submit(large.function("f", limits=limits), number).result() == [1, number]
        assert tools.pids(pool) == [pid]
        assert tools.private_bytes(pid) - before < sandboxes.KEPT_SANDBOX_BYTES + (24 << 20)


def test_the_memory_of_many_functions_is_given_back() -> None:
    with Pool(2) as pool:
        base = opened()
        rounds = publisher.KEPT_IMAGE_BYTES // (2 << 20) + 15
        for number in range(rounds):
            assert pool.submit(plugin(number, filler=200_000).function("f"), 0).result() == [number, 0]
        assert opened() - base <= publisher.KEPT_IMAGE_BYTES + (4 << 20)


def test_a_deployment_that_is_taken_away_still_runs_what_it_was_given() -> None:
    with Pool(1) as pool:
        pool.deploy("d", plugin(1))
        function = pool.deployment("d").function("f")
        before = pool.submit(function, 0)
        assert str(pool.undeploy("d")) == "d version 1 (p1.js)"
        assert before.result() == [1, 0] and pool.submit(function, 1).result() == [1, 1]
        with pytest.raises(LookupError, match="nothing is deployed as 'd'"):
            pool.deployment("d")
        with pytest.raises(LookupError, match="nothing is deployed as 'd'"):
            pool.undeploy("d")
        assert pool.deploy("d", plugin(2)).number == 2
        assert pool.submit(pool.deployment("d").function("f"), 2).result() == [2, 2]


def test_the_memory_of_what_was_taken_away_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "KEPT_IMAGE_BYTES", 0)
    with Pool(1) as pool:
        base = opened()
        for number in range(20):
            pool.deploy(f"d{number}", plugin(number))
            assert pool.submit(pool.deployment(f"d{number}").function("f"), 0).result() == [number, 0]
            pool.undeploy(f"d{number}")
        assert 0 < opened() - base < 2 << 20  # only the last one's is kept
