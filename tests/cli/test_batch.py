"""The two phases of a run, here and in a pool, come to the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from parallel_exec import Limits, Plugin, pool
from parallel_exec.cli import batch
from parallel_exec.cli.inputs import Document

PLUGIN = Plugin("let n = 0; function f(d) { if (d % 10 === 3) throw new Error('three'); return [d, ++n] }", name="p.js")


def documents(texts: list[bytes | None]) -> Iterator[Document]:
    return (Document(index, "here", text, "gone" if text is None else "") for index, text in enumerate(texts))


def run(texts: list[bytes | None], **options: float) -> list[tuple[int, bytes | None, str]]:
    outcomes = batch.run_batch(
        PLUGIN.function("f", output="bytes"),
        PLUGIN.image(),
        documents(texts),
        limits=Limits(),
        workers=2,
        **options,
    )
    return [(outcome.document.index, outcome.result, outcome.problem) for outcome in outcomes]


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of workers of each pool that is started."""
    started = []

    class CountedPool(pool.Pool):
        def __init__(self, workers: int, *, limits: Limits) -> None:
            started.append(workers)
            super().__init__(workers, limits=limits)

    monkeypatch.setattr(pool, "Pool", CountedPool)
    return started


TEXTS = [None if number % 7 == 5 else b"%d" % number if number % 11 else b"oops" for number in range(300)]


def test_in_order_with_each_failure_in_its_place(pools: list[int]) -> None:
    here = run(TEXTS, alone_s=1e9)
    assert not pools
    there = run(TEXTS, alone_s=0.0, worth_s=0.0)
    assert pools == [2]
    assert [(index, result) for index, result, _ in here] == [(index, result) for index, result, _ in there]
    for index, (_, result, problem) in enumerate(here):
        if TEXTS[index] is None:
            assert (result, problem) == (None, "gone")
        elif TEXTS[index] == b"oops":
            assert result is None
            assert "not JSON" in problem
        elif index % 10 == 3:
            assert result is None
            assert "Error: three" in problem
        else:
            assert result == b"[%d,1]" % index


def test_tiny_jobs_stay_here(pools: list[int]) -> None:
    run([b"1"] * 50, alone_s=0.0, worth_s=1e9)
    assert not pools


def test_the_last_document_starts_no_pool(pools: list[int]) -> None:
    assert len(run([b"1", b"2"], alone_s=0.0, worth_s=0.0)) == 2
    assert not pools


def test_endless_documents_are_drawn_as_results_are_taken() -> None:
    drawn = 0

    def endless() -> Iterator[Document]:
        nonlocal drawn
        for drawn in itertools.count(1):
            yield Document(drawn - 1, "endless", b"1")

    outcomes = batch.run_batch(
        PLUGIN.function("f", output="bytes"),
        PLUGIN.image(),
        endless(),
        limits=Limits(),
        workers=2,
        alone_s=0.0,
        worth_s=0.0,
    )
    for expected in range(500):
        assert next(outcomes).document.index == expected
        assert drawn <= expected + 2 * batch.IN_FLIGHT_PER_WORKER + 3
    outcomes.close()
