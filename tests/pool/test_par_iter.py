"""Chains of stages give what plain Python gives, in order, in bounded memory, and say where they failed."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import parallel_exec as px
from parallel_exec.pool import Pool
from parallel_exec.pool._mapping import MOST_AHEAD
from tests.pool.conftest import BACKENDS, BackendName, Tools

SOURCE = """
const inc = x => x + 1, triple = async x => 3 * x, odd = x => x % 2, small = x => x < 50 ? 'yes' : '';
const some = x => Array.from({length: Math.abs(x) % 4}, (_, i) => x + i), none = x => [];
const add = (a, b) => a + b, most = (a, b) => a > b ? a : b, join = (a, b) => [...a, ...b], push = (a, x) => [...a, x];
const same = x => x, list = x => [x], nothing = x => undefined, text = x => String(x);
let calls = 0;
const count = x => { globalThis.last = x; Array.prototype.seen = x; return ++calls };
const fail = x => { if (x === 7) throw new RangeError('seven'); return x }, fails = x => [fail(x)];
const add7 = (a, x) => a + fail(x);
const spin = x => { while (x === 7); return x };
"""
A = px.Plugin(SOURCE, name="a.js")
B = px.Plugin(SOURCE, name="b.js")

STAGES: dict[str, tuple[str, Callable[[Iterable[Any]], Iterator[Any]]]] = {
    "inc": ("map", lambda values: (x + 1 for x in values)),
    "triple": ("map", lambda values: (3 * x for x in values)),
    "odd": ("filter", lambda values: (x for x in values if x % 2)),
    "small": ("filter", lambda values: (x for x in values if x < 50)),
    "some": ("flat_map", lambda values: (x + i for x in values for i in range(abs(x) % 4))),
    "none": ("flat_map", lambda values: iter(())),
}
CHAINS = st.lists(
    st.tuples(st.sampled_from([A, A, B]), st.sampled_from([*[s for s in STAGES if s != "none"] * 3, "none"])),
    max_size=6,
)


@pytest.fixture(scope="module", params=["process", "thread"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(2, limits=px.Limits(time_s=5.0), backend=request.param) as pool:
        yield pool


def chained(pool: Pool, documents: Iterable[Any], chain: list[tuple[px.Plugin, str]], **options: Any) -> Any:
    stages = pool.par_iter(documents, **options)
    for plugin, name in chain:
        stages = getattr(stages, STAGES[name][0])(plugin.function(name))
    return stages


def expected(documents: Iterable[int], chain: list[tuple[px.Plugin, str]]) -> list[int]:
    values: Iterator[int] = iter(documents)
    for _, name in chain:
        values = STAGES[name][1](values)
    return list(values)


@given(st.lists(st.integers(-100, 100), max_size=100), CHAINS)
@settings(max_examples=60)
def test_random_chains_give_what_python_gives(pool: Pool, documents: list[int], chain: list[Any]) -> None:
    values = expected(documents, chain)
    stages = chained(pool, documents, chain)
    assert stages.collect() == list(stages) == values
    seen: list[int] = []
    stages.for_each(seen.append)
    assert seen == values
    assert stages.count() == len(values)
    assert stages.sum() == sum(values)
    for name, function in (("min", min), ("max", max)):
        if values:
            assert getattr(stages, name)() == function(values)
        else:
            with pytest.raises(ValueError, match="no values"):
                getattr(stages, name)()


@given(st.lists(st.integers(-100, 100), max_size=200), CHAINS, st.sampled_from([A, B]))
@settings(max_examples=30)
def test_folds_and_reductions_of_random_chains_give_what_python_gives(
    pool: Pool, documents: list[int], chain: list[Any], last: px.Plugin
) -> None:
    values = expected(documents, chain)
    stages = chained(pool, documents, chain)
    add, most, join, push = (last.function(name) for name in ("add", "most", "join", "push"))
    assert stages.reduce(add) == (sum(values) if values else None)
    assert stages.reduce(most) == max(values, default=None)
    # Concatenation is associative and does not commute: the tree keeps the order.
    assert (stages.map(last.function("list")).reduce(join) or []) == values
    groups = stages.fold([], push).collect()
    assert list(itertools.chain(*groups)) == values
    assert bool(groups) == bool(documents)
    assert stages.fold(0, add).map(last.function("inc")).sum() == sum(values) + len(groups)


def test_a_reduction_of_many_is_a_tree(pool: Pool) -> None:
    depth = px.Plugin("const leaf = x => 0, node = (a, b) => 1 + Math.max(a, b)", name="depth.js")
    numbers = pool.par_iter(range(5000)).map(depth.function("leaf"))
    assert numbers.reduce(depth.function("node")) < 200
    big = pool.par_iter([b'"' + b"x" * (1 << 20) + b'"'] * 5).reduce(A.function("add"))
    assert big == "x" * (5 << 20)


def test_filters_keep_what_javascript_takes_for_true(pool: Pool) -> None:
    falsy, truthy = [0, -0.0, "", None, False], ["0", [], {}, -1, 0.5, True, " "]
    for same in (A.function("same"), B.function("same")):
        assert pool.par_iter(falsy + truthy).map(A.function("same")).filter(same).collect() == truthy
    assert pool.par_iter([1, 2]).map(A.function("nothing")).collect() == [None, None]
    assert pool.par_iter([1, 2]).filter(A.function("nothing")).count() == 0


def test_documents_without_a_stage_are_json_values(pool: Pool) -> None:
    assert pool.par_iter([b"[1, 2.50]", "b", {"c": None}]).collect() == [[1, 2.5], "b", {"c": None}]
    assert pool.par_iter([]).sum() == pool.par_iter([]).count() == 0
    with pytest.raises(px.InvalidDocument) as caught:
        pool.par_iter([b"1", b"[2"]).reduce(A.function("add"))
    assert caught.value.document == 1


def test_nothing_leaks_from_document_to_document(pool: Pool) -> None:
    for count in (A.function("count"), B.function("count")):
        stages = pool.par_iter(range(200)).map(A.function("same")).map(count)
        assert stages.collect() == [1] * 200
        assert stages.fold([], A.function("push")).reduce(A.function("join")) == [1] * 200
    assert pool.par_iter([3, 3]).flat_map(A.function("some")).map(A.function("count")).collect() == [1, 2, 3] * 2


def test_typed_arrays_stay_what_they_are_between_stages_of_a_plugin(pool: Pool) -> None:
    plugin = px.Plugin("const twice = v => v.map(x => 2 * x), total = v => v.reduce((a, b) => a + b)")
    twice = plugin.function("twice", input="binary")
    documents = [b"\x01\x02", b"\x03"]
    assert pool.par_iter(documents).map(twice).map(plugin.function("total")).collect() == [6, 6]
    assert pool.par_iter(documents).map(twice).collect() == [{"0": 2, "1": 4}, {"0": 6}]  # as JSON.stringify has it
    with pytest.raises(ValueError, match="only the first stage"):
        pool.par_iter(documents).map(twice).map(twice)


def test_long_chains_are_cut_into_trips(pool: Pool) -> None:
    name = "n" * 200
    plugin = px.Plugin(f"const {name} = x => x + 1, k = x => x + 1")
    stages = pool.par_iter(range(10))
    for _ in range(5):
        stages = stages.map(plugin.function(name)).map(plugin.function("k"))
    for _ in range(200):
        stages = stages.map(plugin.function("k"))
    assert stages.collect() == list(range(210, 220))


FAILURES = {
    "map": lambda chain: chain.map(A.function("fail")).collect(),
    "filter": lambda chain: chain.filter(A.function("fail")).collect(),
    "flat_map": lambda chain: chain.flat_map(A.function("fails")).collect(),
    "then a stage": lambda chain: chain.map(A.function("fail")).map(A.function("inc")).count(),
    "then a plugin": lambda chain: chain.map(A.function("fail")).map(B.function("inc")).sum(),
    "after a plugin": lambda chain: chain.map(B.function("same")).map(A.function("fail")).for_each(print),
    "fold": lambda chain: chain.fold(0, A.function("add7")).sum(),
    "fold of another": lambda chain: chain.map(B.function("same")).fold(0, A.function("add7")).collect(),
    "before a fold": lambda chain: chain.map(A.function("fail")).fold(0, B.function("add")).collect(),
    "reduce": lambda chain: chain.map(B.function("same")).reduce(A.function("add7")),
    "before a reduce": lambda chain: chain.map(A.function("fail")).reduce(B.function("add")),
}


@pytest.mark.parametrize("at", [7, 77])
@pytest.mark.parametrize("how", FAILURES)
def test_errors_name_the_function_and_the_document(pool: Pool, how: str, at: int) -> None:
    documents = [7 if number == at else 0 for number in range(100)]
    with pytest.raises(px.JSError, match="RangeError: seven") as caught:
        FAILURES[how](pool.par_iter(documents))
    error = caught.value
    assert error.plugin == "a.js" and error.document == at
    assert error.function in ("fail", "fails", "add7")
    assert str(error).startswith(f"a.js: {error.function}(): document {at}: ")


def test_stages_that_return_what_they_must_not_are_named(pool: Pool) -> None:
    chain = pool.par_iter([1, 2, 3]).map(A.function("same"))
    with pytest.raises(px.JSError, match=r"same\(\): document 0: TypeError: flat_map needs an array.* number"):
        chain.flat_map(A.function("same")).collect()
    with pytest.raises(px.JSError, match=r"same\(\): document 0: TypeError: flat_map needs an array.* null"):
        pool.par_iter([None]).flat_map(A.function("same")).collect()
    for name in ("sum", "min", "max"):
        with pytest.raises(px.JSError, match=rf"{name}\(\): document 1: TypeError: the value is no number but string"):
            getattr(pool.par_iter([1, "2"]).map(A.function("same")), name)()
    with pytest.raises(px.JSError, match="NaN or infinite"):
        pool.par_iter([1]).map(px.Plugin("const f = x => 1 / 0").function("f")).sum()
    with pytest.raises(px.PluginError, match=r"a\.js: missing\(\): document 0: .*no function 'missing'"):
        chain.map(A.function("missing")).collect()


def test_errors_can_stand_in_place_of_values(pool: Pool) -> None:
    for then in (A, B):
        documents = [b"1", b"7", b"[", b"2", {3}]
        chain = pool.par_iter(documents, errors="return").map(A.function("fail")).map(then.function("inc"))
        one, seven, broken, two, no_json = chain
        assert (one, two) == (2, 3)
        assert isinstance(seven, px.JSError) and (seven.document, seven.function) == (1, "fail")
        assert isinstance(broken, px.InvalidDocument) and broken.document == 2
        assert isinstance(no_json, px.InvalidDocument) and no_json.document == 4
        for reduction in (chain.sum, chain.count, chain.max, lambda chain=chain: chain.reduce(A.function("add"))):
            with pytest.raises(ValueError, match="no place for errors"):
                reduction()


@BACKENDS
def test_a_stage_that_runs_for_ever_is_named(backend: BackendName) -> None:
    with Pool(1, limits=px.Limits(time_s=0.2), backend=backend) as pool:
        for same in (A.function("same"), B.function("same")):
            chain = pool.par_iter([1, 2, 7]).map(same).filter(A.function("spin")).map(A.function("inc"))
            with pytest.raises(px.JobTimeout, match=r"a\.js: spin\(\): document 2: "):
                chain.collect()


def test_a_worker_that_dies_in_a_group_names_its_documents() -> None:
    plugin = px.Plugin("const same = x => x, die = (a, x) => leave(3)", name="die.js", host={"leave": os._exit})
    with Pool(1) as pool, pytest.raises(px.WorkerCrashed, match=r"die\(\): document 0: .*code 3") as caught:
        pool.par_iter(range(8)).map(plugin.function("same")).fold(0, plugin.function("die")).collect()
    assert caught.value.__notes__ == ["in one job with the values of the documents from 0 to 7 on"]


@pytest.mark.parametrize("plugins", [(A, A), (A, B)], ids=["fused", "apart"])
def test_endless_documents_are_drawn_as_they_are_needed(pool: Pool, plugins: tuple[px.Plugin, px.Plugin]) -> None:
    drawn = itertools.count()
    one, two = plugins
    values = iter(pool.par_iter(drawn).map(one.function("inc")).filter(two.function("odd")))
    assert list(itertools.islice(values, 1000)) == list(range(1, 2000, 2))
    assert next(drawn) < 2000 + 4 * (2 * MOST_AHEAD)
    values.close()
    ahead = next(drawn)
    assert pool.par_iter([1]).map(one.function("inc")).collect() == [2]
    assert next(drawn) == ahead + 1

    seen: list[int] = []

    def stop(value: int) -> None:
        seen.append(value)
        if len(seen) == 50:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        pool.par_iter(itertools.count(), buffersize=8).map(one.function("inc")).map(two.function("inc")).for_each(stop)
    assert seen == list(range(2, 52))


def test_what_is_in_flight_is_cancelled_when_iteration_ends(tools: Tools) -> None:
    with Pool(1) as pool:
        values = iter(pool.par_iter(range(100)).map(A.function("inc")).map(B.function("inc")))
        assert next(values) == 2
        values.close()
        tools.eventually(lambda: tools.idle(pool), "no job is left")


def test_nothing_happens_before_values_are_asked_for(pool: Pool) -> None:
    documents = iter(range(10))
    chain = pool.par_iter(documents).map(A.function("inc"))
    iter(chain)
    assert next(documents) == 0
    assert chain.collect() == list(range(2, 11))


def test_anything_but_a_function_of_a_plugin_is_refused(pool: Pool, tools: Tools) -> None:
    chain = pool.par_iter([1])
    stages: list[Callable[[Any], Any]] = [
        chain.map, chain.filter, chain.flat_map, chain.reduce, functools.partial(chain.fold, 0)
    ]  # fmt: skip
    for stage in stages:
        with pytest.raises(TypeError, match=r"\(\) runs functions of plugins in the pool's workers, not <built-in"):
            stage(abs)
        with pytest.raises(ValueError, match="leave out output="):
            stage(A.function("inc", output="bytes"))
    with pytest.raises(TypeError, match="Python function"):
        chain.for_each(A.function("inc"))
    with pytest.raises(px.InvalidDocument, match="no JSON encoding"):
        chain.fold({1}, A.function("add"))
    with pytest.raises(ValueError, match="errors must be"):
        pool.par_iter([1], errors=tools.untyped("ignore"))
    with pytest.raises(ValueError, match="buffersize must be"):
        pool.par_iter([1], buffersize=0)
