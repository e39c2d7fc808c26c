"""That every job is run, timed, and heard by the referee."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_exec.measure.answers import AnswersDiffer, Referee
from parallel_exec.measure.rounds import ROUNDS, choose_jobs, measure, prepare, split


class Contestant:
    def __init__(self, name: str, *, batched: bool = False, log: list[str] | None = None, answer: bytes = b"1") -> None:
        self.name, self.batched, self.answer = name, batched, answer
        self.log = [] if log is None else log
        self.runs = 0

    def prepare(self) -> None:
        self.log.append(f"prepare {self.name}")

    def run(self) -> bytes:
        self.runs += 1
        self.log.append(self.name)
        return self.answer

    def run_many(self, jobs: int) -> list[bytes]:
        return [self.run() for _ in range(jobs)]


@given(st.integers(0, 5000), st.integers(1, 50))
def test_shares_are_even_and_lose_nothing(jobs: int, rounds: int) -> None:
    shares = split(jobs, rounds)
    assert sum(shares) == jobs
    assert len(shares) == rounds
    assert max(shares) - min(shares) <= 1


def test_exactly_as_many_jobs_as_asked_for_in_shuffled_rounds() -> None:
    log: list[str] = []
    contestants = [Contestant("a", log=log), Contestant("b", log=log), Contestant("c", batched=True, log=log)]
    referee = Referee()
    everybody = [prepare(contestant, referee) for contestant in contestants]
    assert log == ["prepare a", "a", "prepare b", "b", "prepare c", "c"]
    del log[:]
    told: dict[str, int] = {}
    measure(
        everybody,
        {"a": 53, "b": 7, "c": 530},
        referee,
        rng=random.Random(1),
        done=lambda name, jobs: told.update({name: told.get(name, 0) + jobs}),
    )
    assert told == {"a": 53, "b": 7, "c": 530}
    assert [measured.summary.jobs for measured in everybody] == [53, 7, 530]
    assert [len(measured.samples) for measured in everybody] == [53, 7, 2]
    assert {name: log.count(name) for name in "abc"} == told
    firsts = [log[index] for index in range(len(log)) if index == 0 or log[index] != log[index - 1]]
    assert len(firsts) >= ROUNDS  # one after another, and not always in the same order
    assert firsts[:3] * 3 != firsts[:9]


def test_the_referee_hears_every_answer() -> None:
    contestants = [Contestant("a"), Contestant("b")]
    referee = Referee()
    everybody = [prepare(contestant, referee) for contestant in contestants]
    contestants[1].answer = b"2"
    with pytest.raises(AnswersDiffer):
        measure(everybody, {"a": 1, "b": 1}, referee, rng=random.Random(1), done=lambda name, jobs: None)


def test_the_number_of_jobs_is_bounded() -> None:
    contestant = Contestant("a")
    assert choose_jobs(contestant, 1e-9, 2) == 20
    assert choose_jobs(contestant, 1e9, 2) == 2000
