"""`Pool.feed`: documents handed in, results fetched, in processes and in threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import parallel_exec as px
from parallel_exec.pool import Fed, Feed, Pool
from tests.pool.conftest import BACKENDS, BackendName, Tools


def fetch(feed: Feed, there: threading.Event, count: int) -> list[Fed]:
    """Wait for so many results."""
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
def test_documents_can_be_put_in_many_calls(tools: Tools, backend: BackendName, *, ordered: bool) -> None:
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
def test_failures_are_outcomes(tools: Tools, backend: BackendName) -> None:
    there = threading.Event()
    with Pool(1, backend=backend) as pool, pool.feed(tools.function("double"), notify=there.set) as feed:
        feed.put([1, b"{", {1, 2}, px.InvalidDocument("lost"), 5])
        found = fetch(feed, there, 5)
        assert [fed.value for fed in (found[0], found[4])] == [2, 10]
        for fed in found[1:4]:
            assert isinstance(fed.value, px.InvalidDocument) and fed.value.document == fed.document
        feed.put([])
        feed.put([b"{"])  # alone, so that no job runs
        assert isinstance(fetch(feed, there, 1)[0].value, px.InvalidDocument)


def test_an_idle_feed_is_told_of_what_comes_later(tools: Tools) -> None:
    there = threading.Event()
    with Pool(1) as pool, pool.feed(tools.function("double"), notify=there.set) as feed:
        for number in range(50):
            feed.put([number])
            assert fetch(feed, there, 1)[0].value == 2 * number
            assert pool.submit(tools.function("double"), number).result() == 2 * number


def test_feeds_and_maps_can_run_at_once(tools: Tools) -> None:
    double = tools.function("double")

    def feed() -> None:
        there = threading.Event()
        with pool.feed(double, notify=there.set) as feed:
            for _ in range(20):
                feed.put(range(50))
                assert [fed.value for fed in fetch(feed, there, 50)] == list(range(0, 100, 2))

    with Pool(2) as pool, ThreadPoolExecutor(3) as threads:
        feeding = [threads.submit(feed) for _ in range(3)]
        assert list(pool.map(double, range(3000))) == list(range(0, 6000, 2))
        for each in feeding:
            each.result()


def test_closing_stops_what_runs_and_ends_the_thread(tools: Tools) -> None:
    with Pool(1, limits=px.Limits(time_s=None)) as pool:
        before = threading.active_count()
        feed = pool.feed(tools.function("spin"), notify=lambda: None)
        feed.put([1, 2, 3])
        tools.busy_worker(pool)
        feed.close()
        assert pool.submit(tools.function("double"), 1).result() == 2  # the endless job has been stopped
        tools.eventually(lambda: threading.active_count() == before, "the feed's thread has ended")


@BACKENDS
@pytest.mark.parametrize("copy", [True, False])
def test_a_buffer_may_be_reused_only_if_documents_are_copied(tools: Tools, backend: BackendName, *, copy: bool) -> None:
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


def test_results_tell_their_version_and_what_cannot_run_is_refused(tools: Tools) -> None:
    there = threading.Event()
    with Pool(1) as pool:
        first = pool.deploy("d", px.Plugin("const f = x => 1"))
        with pool.feed(pool.deployment("d").function("f"), notify=there.set) as feed:
            feed.put([0])
            second = pool.deploy("d", px.Plugin("const f = x => 2"))
            feed.put([0])
            assert fetch(feed, there, 2) == [Fed(0, first, 1), Fed(1, second, 2)]
        with pytest.raises(TypeError, match="a pool runs functions of plugins"):
            pool.feed(tools.untyped(len), notify=print)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.feed(tools.function("double"), notify=print)
