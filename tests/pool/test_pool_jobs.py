"""Jobs through a pool: results, errors, order, laziness, large documents, several plugins."""

from __future__ import annotations

import itertools
import logging
import pickle
from array import array
from collections.abc import Iterator
from concurrent.futures import Future, as_completed, wait
from queue import SimpleQueue
from typing import Any

import pytest

import parallel_exec as px
from parallel_exec.pool import Pool
from parallel_exec.pool._mapping import MOST_AHEAD
from tests.pool.conftest import BACKENDS, BackendName, Tools


def test_submit_gives_a_future_of_the_value(pool: Pool, tools: Tools) -> None:
    future = pool.submit(tools.function("double"), 21)
    assert future.result() == 42
    assert future.done() and not future.running() and future.exception() is None


@pytest.mark.parametrize(
    "document", [b'{"a":[1,2]}', bytearray(b'{"a":[1,2]}'), memoryview(b'{"a":[1,2]}'), {"a": [1, 2]}], ids=type
)
def test_bytes_are_json_text_and_anything_else_is_a_value(pool: Pool, tools: Tools, document: Any) -> None:
    assert pool.submit(tools.function("echo"), document).result() == {"a": [1, 2]}
    assert pool.submit(tools.plugin.function("echo", output="bytes"), document).result() == b'{"a":[1,2]}'


def test_a_str_is_a_value_and_undefined_is_none(pool: Pool, tools: Tools) -> None:
    assert pool.submit(tools.function("echo"), "[1]").result() == "[1]"
    assert pool.submit(px.Plugin("function f() {}").function("f"), 1).result() is None


def test_typed_arrays_go_in_and_come_out(pool: Pool) -> None:
    plugin = px.Plugin("const scale = v => v.map(x => 2 * x); const sum = v => v.reduce((a, b) => a + b)")
    scale = plugin.function("scale", input="binary")
    numbers = array("d", [1.5, 2.5, -3])
    future = pool.submit(scale, numbers)
    numbers[0] = 99  # the job that waits does not see it
    assert array("d", future.result()) == array("d", [3, 5, -6])
    assert list(pool.map(plugin.function("sum", input="binary"), [array("i", [1, 2]), b"\x01\x05"])) == [3, 6]
    with pytest.raises(px.InvalidDocument, match="document 1"):
        list(pool.map(scale, [array("d"), "text"]))


def test_results_can_be_numpy_arrays(pool: Pool) -> None:
    numpy = pytest.importorskip("numpy")
    plugin = px.Plugin("const scale = v => v.map(x => 2 * x); const none = v => null")
    scale = plugin.function("scale", input="binary", output="numpy")
    assert pool.submit(scale, numpy.arange(3.0)).result().tolist() == [0, 2, 4]
    assert [each.tolist() for each in pool.map(scale, [numpy.arange(2.0)] * 2)] == [[0, 2]] * 2
    none = plugin.function("none", output="numpy")
    assert isinstance(pool.submit(none, 1).exception(), px.PluginError)
    with pytest.raises(px.PluginError, match=r"none\(\): document 0") as caught:
        list(pool.map(none, [1]))
    assert caught.value.document == 0


def test_a_buffer_may_be_reused_after_submit(pool: Pool, tools: Tools) -> None:
    buffer = bytearray(b"0")
    futures = []
    for digit in range(10):
        buffer[:] = str(digit).encode()
        futures.append(pool.submit(tools.function("echo"), buffer))
    assert [future.result() for future in futures] == list(range(10))


def test_map_keeps_the_order_of_many(pool: Pool, tools: Tools) -> None:
    assert list(pool.map(tools.function("double"), range(2000))) == list(range(0, 4000, 2))


def test_map_starts_at_once_and_draws_no_more_than_its_buffer(pool: Pool, tools: Tools) -> None:
    drawn = 0

    def endless() -> Iterator[int]:
        nonlocal drawn
        for number in itertools.count():
            drawn += 1
            yield number

    results = pool.map(tools.function("echo"), endless(), buffersize=5)
    assert drawn == 5
    for taken in range(1, 500):
        assert next(results) == taken - 1
        assert drawn <= taken + 5
    tools.close(results)


def test_map_without_a_buffersize_is_bounded_too(pool: Pool, tools: Tools) -> None:
    drawn = itertools.count()
    results = pool.map(tools.function("echo"), drawn)
    assert list(itertools.islice(results, 100)) == list(range(100))
    assert next(drawn) <= 100 + 2 * MOST_AHEAD


@pytest.mark.parametrize("document", [b"[1]", bytearray(b"[1]"), memoryview(b"[1]"), "text"])
def test_one_document_in_place_of_an_iterable_is_refused(pool: Pool, tools: Tools, document: Any) -> None:
    for call in (
        lambda d: pool.map(tools.function("echo"), d),
        lambda d: pool.amap(tools.function("echo"), d),
        pool.par_iter,
    ):
        with pytest.raises(TypeError, match=rf"a {type(document).__name__} is one document; give \[document\]"):
            call(document)


def test_map_takes_one_iterable_which_may_be_empty(pool: Pool, tools: Tools) -> None:
    double = tools.function("double")
    assert list(pool.map(double, [])) == []
    assert list(pool.map(double, [1, 2], chunksize=7)) == [2, 4]
    with pytest.raises(TypeError, match="one iterable"):
        pool.map(double, [1], [2])
    with pytest.raises(ValueError, match="buffersize"):
        pool.map(double, [1], buffersize=0)
    with pytest.raises(ValueError, match="chunksize"):
        pool.map(double, [1], chunksize=0)


def test_an_error_of_the_iterable_comes_after_the_results_before_it(pool: Pool, tools: Tools) -> None:
    def breaks() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("no more")

    results = pool.map(tools.function("double"), breaks())
    assert [next(results), next(results)] == [2, 4]
    with pytest.raises(LookupError, match="no more"):
        next(results)


def test_map_times_out(tools: Tools) -> None:
    with Pool(1, limits=px.Limits(time_s=0.5)) as pool:
        with pytest.raises(TimeoutError) as caught:
            list(pool.map(tools.function("spin"), [1], timeout=0.01))
        assert not isinstance(caught.value, px.JobTimeout)


@pytest.mark.parametrize("function", [len, lambda document: document, None, "double"])
def test_anything_but_a_plugin_function_is_refused(pool: Pool, function: Any) -> None:
    with pytest.raises(TypeError, match=r"Plugin\(source\)\.function\(name\)"):
        pool.submit(function, 1)
    with pytest.raises(TypeError, match=r"Plugin\(source\)\.function\(name\)"):
        pool.map(function, [1])


def test_what_the_plugin_throws_says_where(pool: Pool, tools: Tools) -> None:
    with pytest.raises(px.JSError) as caught:
        pool.submit(tools.function("fail"), 7).result()
    error = caught.value
    assert (error.name, error.message, error.file, error.line) == ("TypeError", "no 7", "tools.js", 6)
    assert (error.plugin, error.function, error.document) == ("tools.js", "fail", None)
    assert "fail" in error.js_stack


def test_an_error_in_a_map_names_its_document_and_comes_in_its_turn(pool: Pool, tools: Tools) -> None:
    results = pool.map(tools.function("failOn3"), itertools.count())
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(px.JSError, match="document 3: RangeError: three") as caught:
        next(results)
    assert caught.value.document == 3


def test_bad_documents_fail_alone(pool: Pool, tools: Tools) -> None:
    echo = tools.function("echo")
    futures = [pool.submit(echo, document) for document in (b"[1,", 1, {1, 2}, 2)]
    error = futures[0].exception()
    assert isinstance(error, px.InvalidDocument) and error.offset is not None
    assert isinstance(futures[2].exception(), px.InvalidDocument)
    assert (futures[1].result(), futures[3].result()) == (1, 2)
    results = pool.map(echo, [1, b"]"])
    assert next(results) == 1
    with pytest.raises(px.InvalidDocument) as caught:
        next(results)
    assert caught.value.document == 1


@BACKENDS
def test_limits_are_the_pools(tools: Tools, backend: BackendName) -> None:
    limits = px.Limits(
        output_bytes=1000, memory_bytes=32 << 20, document_bytes=10_000, time_s=0.5, clock="cpu", grace_s=60.0
    )
    with Pool(2, limits=limits, backend=backend) as pool:
        futures = {
            px.JobTimeout: pool.submit(tools.function("spin"), 1),
            px.OutputTooLarge: pool.submit(tools.function("long"), 5000),
            px.MemoryLimitExceeded: pool.submit(tools.function("eat"), 1),
            px.InvalidDocument: pool.submit(tools.function("echo"), "x" * 20_000),
            px.PluginError: pool.submit(tools.function("missing"), 1),
        }
        for kind, future in futures.items():
            assert type(future.exception()) is kind
        assert pool.submit(tools.function("double"), 2).result() == 4


def test_a_plugin_that_does_not_load_fails_its_jobs_only(pool: Pool, tools: Tools) -> None:
    broken = px.Plugin("function (", name="broken.js").function("f")
    future = pool.submit(broken, 1)
    assert isinstance(future.exception(), px.PluginError)
    assert pool.submit(tools.function("double"), 2).result() == 4


def test_errors_can_be_pickled(pool: Pool, tools: Tools) -> None:
    error = pool.submit(tools.function("fail"), 1).exception()
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(error, px.JSError) and isinstance(again, px.JSError)
    assert (str(again), again.js_stack, again.line) == (str(error), error.js_stack, error.line)


def test_the_console_reaches_this_processs_logging(
    pool: Pool, tools: Tools, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, logger="parallel_exec.console"):
        pool.submit(tools.function("talk"), 5).result()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "log 5"),
        ("ERROR", "error 5"),
    ]
    assert capfd.readouterr() == ("", "")


def test_large_documents_and_results_travel_and_their_memory_is_given_back(tools: Tools) -> None:
    echo = tools.plugin.function("echo", output="bytes")
    text = b'"' + b"0123456789abcdef" * (20 << 16) + b'"'
    with Pool(2) as pool:
        assert list(pool.map(echo, [b"1"] * 20)) == [b"1"] * 20
        before = {pid: len(tools.mappings(pid)) for pid in tools.pids(pool)}
        for _ in range(2):
            assert all(result == text for result in pool.map(echo, [text] * 3))
        after = {pid: len(tools.mappings(pid)) for pid in tools.pids(pool)}
        assert list(after) == list(before)
        # A worker that had had no job may have mapped the image since; nothing else stays.
        assert all(after[pid] <= before[pid] + 1 for pid in before)


@pytest.mark.parametrize("size", [100_000, 200_000, 262_000, 263_000, 1 << 20, (1 << 20) + 1])
def test_documents_of_sizes_around_those_at_which_the_transport_changes_arrive_whole(
    pool: Pool, tools: Tools, size: int
) -> None:
    documents = [str(digit) * size for digit in range(9)]
    assert list(pool.map(tools.function("echo"), documents)) == documents


def test_several_plugins_can_run_at_once(pool: Pool) -> None:
    functions = [px.Plugin(f"function f(x) {{ return [{n}, x] }}", name=f"p{n}.js").function("f") for n in range(12)]
    futures = [(n, i, pool.submit(functions[n], i)) for i in range(20) for n in range(12)]
    assert all(future.result() == [n, i] for n, i, future in futures)


def test_wait_and_as_completed_work(pool: Pool, tools: Tools) -> None:
    futures = [pool.submit(tools.function("double"), number) for number in range(50)]
    assert {future.result() for future in as_completed(futures)} == set(range(0, 100, 2))
    assert not wait(futures).not_done


def test_callbacks_may_submit(pool: Pool, tools: Tools) -> None:
    double = tools.function("double")
    second: SimpleQueue[Future[Any]] = SimpleQueue()
    first = pool.submit(double, 1)
    first.add_done_callback(lambda future: second.put(pool.submit(double, future.result())))
    assert second.get().result() == 4


def test_jobs_do_not_see_each_other_and_workers_do_not_grow(tools: Tools) -> None:
    document = {"numbers": list(range(2000))}
    with Pool(1) as pool:
        assert set(pool.map(tools.function("keep"), itertools.repeat(document, 300))) == {1}
        (pid,) = tools.pids(pool)
        before = tools.private_bytes(pid)
        assert set(pool.map(tools.function("keep"), itertools.repeat(document, 5000))) == {1}
        assert tools.pids(pool) == [pid]
        assert tools.private_bytes(pid) - before < 2 << 20


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_refused(workers: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1.*got {workers}"):
        Pool(workers)


@pytest.mark.parametrize("workers", [1.5, "2", True])
def test_max_workers_is_an_int(workers: Any) -> None:
    with pytest.raises(TypeError, match="max_workers"):
        Pool(workers)
