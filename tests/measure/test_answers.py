"""When two answers are the same."""

from __future__ import annotations

from typing import Any

import pytest

from parallel_exec.measure.answers import AnswersDiffer, Referee, difference, read_answer


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (3872.7472, 3872.7499),
        (-0.0, 0),
        (1e300, 1.000001e300),
        (None, None),
        ({"a": 1, "b": [True, "x"]}, {"b": [True, "x"], "a": 1.000001}),
        ([], []),
    ],
)
def test_same(one: Any, other: Any) -> None:
    assert difference(one, other) is None


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        (1, 1.0001, "$: 1 and 1.0001"),
        (0, 1e-9, "$: 0 and 1e-09"),
        (1, -1, "$: 1 and -1"),
        (1, True, "$: 1 and true"),
        (0, None, "$: 0 and null"),
        (0, "0", '$: 0 and "0"'),
        ("a", "b", '$: "a" and "b"'),
        ([1, 2, 3], [1, 2], "$: 3 and 2 elements"),
        ([], {}, "$: [] and {}"),
        ({"a": 1}, {"b": 1}, "$: only one of them has 'a', 'b'"),
        ({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}, {"b": 3}]}, "$.a[1].b: 2 and 3"),
        ([1, 2], [3, 4], "$[0]: 1 and 3"),
    ],
)
def test_different(one: Any, other: Any, where: str) -> None:
    assert difference(one, other) == where


def test_deep_answers_are_no_problem() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert difference(deep, deep) is None


def test_lone_surrogates_are_read() -> None:
    assert read_answer(rb'"\ud800"') == "\ud800"


def test_the_referee_compares_with_the_first() -> None:
    referee = Referee()
    referee.hear("one", b"[1.0, 2]")
    referee.hear("two", b"[1,2]")
    referee.hear("two", b"[1.000001,2]")
    with pytest.raises(AnswersDiffer, match=r"the answers of 'one' and 'three' differ at \$\[1\]: 2 and 3"):
        referee.hear("three", b"[1,3]")
