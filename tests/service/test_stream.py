"""Streams of documents: order, windows, failures, and what happens when somebody leaves."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator

import pytest

import parallel_exec as px
from parallel_exec.service import Client, ServiceError
from tests.service.programs import Serve

SOURCE = """
function double(x) { return 2 * x }
function odd(x) { if (x % 2) throw new TypeError("odd " + x); return x }
function wait(n) { let x = 0; for (let i = 0; i < n; i++) x = (x + i) % 7; return n }
function wait_or_spin(n) { return n ? wait(n) : spin() }
function spin(x) { for (;;) ; }
function long(x) { return "x".repeat(1e6) }
"""


@pytest.fixture(scope="module")
def name(address: str) -> Iterator[str]:
    with Client(address) as client:
        client.deploy("stream", px.Plugin(SOURCE, name="tools.js"))
        yield "stream"
        client.undeploy("stream")


@pytest.mark.parametrize("shared", [False, True])
def test_results_come_in_order_and_tell_their_document(client: Client, name: str, *, shared: bool) -> None:
    results = list(client.stream(name, "double", range(3000), shared=shared))
    assert [result.value for result in results] == list(range(0, 6000, 2))
    assert [result.document for result in results] == list(range(3000))
    assert {result.version for result in results} == {client.list()[0].version}


@pytest.mark.parametrize("shared", [False, True])
def test_without_order_nobody_waits_for_a_slow_document(client: Client, name: str, *, shared: bool) -> None:
    documents = [30_000_000, *range(300)]
    results = list(client.stream(name, "wait", documents, ordered=False, shared=shared))
    assert sorted((result.document, result.value) for result in results) == list(enumerate(documents))
    assert results[0].document != 0


@pytest.mark.parametrize("shared", [False, True])
def test_small_and_large_documents_keep_their_order(client: Client, name: str, *, shared: bool) -> None:
    chance = random.Random(3)
    documents = [b"%d" % number + b" " * chance.choice([0, 100, 4000, 5000, 300_000]) for number in range(300)]
    results = [result.value for result in client.stream(name, "double", documents, shared=shared)]
    assert results == list(range(0, 600, 2))


def test_a_document_that_fails_is_one_result(client: Client, name: str) -> None:
    results = list(client.stream(name, "odd", range(100), errors="return"))
    assert [result.value for result in results[::2]] == list(range(0, 100, 2))
    for result in results[1::2]:
        assert isinstance(result.value, px.JSError)
        assert (result.value.document, result.value.message) == (result.document, f"odd {result.document}")
    bad = list(client.stream(name, "double", [b"1", b"{", b"2"], errors="return"))
    assert [bad[0].value, bad[2].value] == [2, 4] and isinstance(bad[1].value, px.InvalidDocument)
    with pytest.raises(px.JSError, match="document 1: TypeError: odd 1"):
        list(client.stream(name, "odd", itertools.count()))


@pytest.mark.parametrize("shared", [False, True])
def test_documents_are_drawn_no_further_than_the_window(client: Client, name: str, *, shared: bool) -> None:
    drawn = itertools.count()
    results = client.stream(name, "double", drawn, window=10, shared=shared)
    for number, result in zip(range(200), results, strict=False):
        assert result.value == 2 * number
    results.close()
    assert next(drawn) <= 200 + 2 * 10


def test_a_result_comes_while_the_next_document_is_not_there(client: Client, name: str) -> None:
    answered = threading.Event()

    def documents() -> Iterator[int]:
        yield 1
        assert answered.wait(30)
        yield 2

    values = []
    for result in client.stream(name, "double", documents()):
        values.append(result.value)
        answered.set()
    assert values == [2, 4]


def test_a_result_waits_for_others_but_not_for_slow_ones(client: Client, name: str) -> None:
    before = client.stats().failures.get("JobTimeout", 0)
    results = client.stream(name, "wait_or_spin", [*[50_000] * 100, *[0] * 40])
    assert [next(results).value for _ in range(100)] == [50_000] * 100  # too long to travel together
    assert client.stats().failures.get("JobTimeout", 0) == before  # the others run
    results.close()


def test_an_iterable_that_fails_ends_the_stream_after_what_it_gave(client: Client, name: str) -> None:
    def documents() -> Iterator[int]:
        yield from range(5)
        raise KeyError("out of documents")

    values: list[object] = []
    with pytest.raises(KeyError, match="out of documents"):
        values.extend(result.value for result in client.stream(name, "double", documents()))
    assert values == [0, 2, 4, 6, 8]


def test_a_client_that_leaves_stops_what_runs_for_it(client: Client, name: str) -> None:
    leaving = Client(client.address)

    def leave() -> None:
        while client.stats().in_flight < 2:
            pass
        leaving.close()

    leaver = threading.Thread(target=leave)
    leaver.start()
    with pytest.raises(ServiceError) as left:
        list(leaving.stream(name, "spin", range(2)))
    leaver.join()
    assert left.value.code == "CANCELLED"
    while client.stats().calls:
        pass
    assert next(client.stream(name, "double", [1])).value == 2  # long before the limit of 20 s


def test_a_swap_in_the_middle(client: Client) -> None:
    client.deploy("swapped", px.Plugin("const f = x => 1"))

    def documents() -> Iterator[int]:
        yield 0
        client.swap("swapped", px.Plugin("const f = x => 2"))
        yield 1

    results = list(client.stream("swapped", "f", documents(), window=1))
    assert [(result.version, result.value) for result in results] == [(1, 1), (2, 2)]
    client.undeploy("swapped")


def test_a_client_that_does_not_read_blocks_only_itself(serve: Serve) -> None:
    """Some 200 MB of results: the server keeps few of them, and answers others meanwhile."""
    psutil = pytest.importorskip("psutil")
    process, address = serve()
    server = psutil.Process(process.popen.pid)
    with Client(address) as slow, Client(address) as other:
        slow.deploy("d", px.Plugin(SOURCE))
        results = slow.stream("d", "long", range(200), window=200)
        next(results)
        before = server.memory_info().rss
        for number in range(100):
            assert other.execute("d", "double", number) == 2 * number
        assert server.memory_info().rss - before < 100 << 20
        assert sum(1 for _ in results) == 199


def test_arguments_that_are_refused(client: Client, name: str) -> None:
    with pytest.raises(ValueError, match="window must be at least 1"):
        client.stream(name, "double", [], window=0)
    with pytest.raises(ValueError, match="errors must be"):
        client.stream(name, "double", [], errors="ignore")  # type: ignore[arg-type]
    with pytest.raises(ServiceError, match="no function 'nope'"):
        list(client.stream(name, "nope", [1]))
    assert list(client.stream(name, "double", [])) == []
