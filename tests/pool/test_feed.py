"""`Pool.feed`: documents handed in, results fetched, in processes and in threads."""

from __future__ import annotations

import threading
from typing import Any, Literal

import pytest

import parallel_exec as px
from parallel_exec.pool import Fed, Feed, Pool

BACKENDS = pytest.mark.parametrize("backend", ["process", "thread"])
Backend = Literal["process", "thread"]


def fetch(feed: Feed, there: threading.Event, count: int) -> list[Fed]:
    """So many results, waited for."""
    found: list[Fed] = []
    while len(found) < count:
        there.clear()
        new = list(feed.results())
        found += new
        if not new:
            there.wait()
    return found


@BACKENDS
@pytest.mark.parametrize("ordered", [True, False])
def test_documents_of_many_calls(tools: Any, backend: Backend, ordered: bool) -> None:
    there = threading.Event()
    with (
        Pool(2, backend=backend) as pool,
        pool.feed(tools.function("double"), ordered=ordered, notify=there.set) as feed,
    ):
        found: list[Fed] = []
        for start in range(0, 1000, 100):
            feed.put(range(start, start + 100))
            if start % 200:
                found += fetch(feed, there, 150)
        found += fetch(feed, there, 1000 - len(found))
        if not ordered:
            found.sort(key=lambda fed: fed.document)
        assert found == [Fed(number, None, 2 * number) for number in range(1000)]
        assert list(feed.results()) == []


@BACKENDS
def test_failures_are_outcomes(tools: Any, backend: Backend) -> None:
    there = threading.Event()
    with Pool(1, backend=backend) as pool, pool.feed(tools.function("double"), notify=there.set) as feed:
        feed.put([1, b"{", {1, 2}, px.InvalidDocument("lost"), 5])
        found = fetch(feed, there, 5)
        assert [fed.value for fed in (found[0], found[4])] == [2, 10]
        for fed in found[1:4]:
            assert isinstance(fed.value, px.InvalidDocument) and fed.value.document == fed.document
        feed.put([])
        feed.put([b"{"])  # alone, so that nothing runs
        assert isinstance(fetch(feed, there, 1)[0].value, px.InvalidDocument)


def test_an_idle_feed_is_told_of_what_comes_later(tools: Any) -> None:
    there = threading.Event()
    with Pool(1) as pool, pool.feed(tools.function("double"), notify=there.set) as feed:
        for number in range(50):
            feed.put([number])
            assert fetch(feed, there, 1)[0].value == 2 * number
            assert pool.submit(tools.function("double"), number).result() == 2 * number


def test_feeds_and_maps_at_once(tools: Any) -> None:
    double = tools.function("double")

    def run(pool: Pool, failed: list[BaseException]) -> None:
        try:
            there = threading.Event()
            with pool.feed(double, notify=there.set) as feed:
                for _ in range(20):
                    feed.put(range(50))
                    assert [fed.value for fed in fetch(feed, there, 50)] == list(range(0, 100, 2))
        except BaseException as error:
            failed.append(error)

    failed: list[BaseException] = []
    with Pool(2) as pool:
        threads = [threading.Thread(target=run, args=(pool, failed)) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert list(pool.map(double, range(3000))) == list(range(0, 6000, 2))
        for thread in threads:
            thread.join()
    assert not failed


def test_closing_stops_what_runs_and_the_thread(tools: Any) -> None:
    before = threading.active_count()
    with Pool(1) as pool:
        feed = pool.feed(tools.function("spin"), notify=lambda: None)
        feed.put([1, 2, 3])
        while not pool.stats().in_flight:
            pass
        feed.close()
        assert pool.submit(tools.function("double"), 1).result() == 2  # long before the limit of 10 s
    while threading.active_count() > before:
        pass


@BACKENDS
@pytest.mark.parametrize("copy", [True, False])
def test_documents_that_are_not_copied(tools: Any, backend: Backend, copy: bool) -> None:
    there = threading.Event()
    buffer = bytearray(b"[1]")
    with Pool(1, backend=backend) as pool:
        feed = pool.feed(tools.function("double"), notify=there.set, copy=copy)
        with pool.feed(tools.function("spin"), notify=lambda: None) as busy:
            busy.put([0] * 20)
            feed.put([memoryview(buffer)[1:2]])
            buffer[1:2] = b"2"  # before its turn
        assert fetch(feed, there, 1)[0].value == (2 if copy else 4)
        feed.close()


def test_versions_and_refusals(tools: Any) -> None:
    there = threading.Event()
    with Pool(1) as pool:
        first = pool.deploy("d", px.Plugin("const f = x => 1"))
        with pool.feed(pool.deployment("d").function("f"), notify=there.set) as feed:
            feed.put([0])
            second = pool.deploy("d", px.Plugin("const f = x => 2"))
            feed.put([0])
            assert fetch(feed, there, 2) == [Fed(0, first, 1), Fed(1, second, 2)]
        with pytest.raises(TypeError, match="a pool runs functions of plugins"):
            pool.feed(len, notify=print)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.feed(tools.function("double"), notify=print)
