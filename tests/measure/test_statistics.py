"""Percentiles, against the standard library's."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_exec.measure.rounds import Sample, Summary, percentile

values = st.lists(st.floats(min_value=0, max_value=1e9), min_size=2, max_size=200).map(sorted)


@given(values)
def test_percentiles_are_those_of_the_standard_library(ordered: list[float]) -> None:
    expected = statistics.quantiles(ordered, n=100, method="inclusive")
    for percent in (1, 10, 25, 50, 75, 90, 99):
        assert percentile(ordered, percent / 100) == pytest.approx(expected[percent - 1], rel=1e-9, abs=1e-12)
    assert percentile(ordered, 0.5) == pytest.approx(statistics.median(ordered), rel=1e-12)


@given(values, st.floats(min_value=0, max_value=1))
def test_percentiles_lie_within_and_in_order(ordered: list[float], fraction: float) -> None:
    assert ordered[0] <= percentile(ordered, fraction) <= ordered[-1] * (1 + 1e-15)
    assert percentile(ordered, 0.0) == ordered[0]
    assert percentile(ordered, 1.0) == ordered[-1]


def test_equal_values_are_not_blurred() -> None:
    assert percentile([0.1] * 7, 0.9) == pytest.approx(0.1, rel=1e-15)


def test_one_value_is_every_percentile() -> None:
    assert {percentile([3.0], fraction) for fraction in (0.0, 0.1, 0.5, 1.0)} == {3.0}


@pytest.mark.parametrize(("ordered", "fraction"), [([], 0.5), ([1.0], -0.1), ([1.0], 1.1)])
def test_nonsense_is_refused(ordered: list[float], fraction: float) -> None:
    with pytest.raises(ValueError, match=r"percentile|fraction"):
        percentile(ordered, fraction)


def test_a_summary_counts_jobs_and_a_batch_once() -> None:
    samples = [Sample(seconds=0.010, jobs=10), Sample(seconds=0.030, jobs=10), Sample(seconds=0.020, jobs=10)]
    summary = Summary.of(samples)
    assert summary.jobs == 30
    assert summary.jobs_per_s == pytest.approx(500)
    assert summary.median_us == pytest.approx(2000)
    assert summary.p10_us == pytest.approx(1200)
    assert summary.p90_us == pytest.approx(2800)
