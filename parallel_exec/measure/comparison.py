"""`pexec bench`: the strategies, and peers if asked for, on the same work."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from parallel_exec.measure.answers import Referee, read_answer
from parallel_exec.measure.fixture import is_shipped_work
from parallel_exec.measure.peers import PEERS, NotForThisWork
from parallel_exec.measure.rounds import Progress, Timings, choose_jobs, measure, prepare
from parallel_exec.measure.strategies import STRATEGIES, Work

# Seconds for which each contestant is measured unless a number of jobs is given: ten contestants take about 15 s.
SECONDS_EACH = 1.2

# The figures of the design note that this project started from, in milliseconds; from Rust, on another machine.
REFERENCE_MS = {
    "baseline": 8.33,
    "wizer": 8.10,
    "wizer-plus": 7.97,
    "cached": 0.90,
    "parser": 2.55,
    "parallel": 0.476,
}


@dataclass
class Comparison:
    """The outcome of `pexec bench`.

    Attributes:
        work: what was run.
        strategies: the strategies measured, in the order of the registry.
        peers: the peers measured, in the order of the registry.
        missing: peers that were not measured, and why.
    """

    work: Work
    strategies: list[Timings] = field(default_factory=list)
    peers: list[Timings] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def reference_ms(self) -> dict[str, float]:
        """`REFERENCE_MS` if this is the shipped work, which the figures are about; otherwise nothing."""
        return REFERENCE_MS if is_shipped_work(self.work) else {}

    def as_json(self) -> dict[str, Any]:
        """Return the figures as values for JSON; times are in microseconds unless the key says otherwise."""
        return self.work.as_json() | {
            "strategies": [_entry(timings) for timings in self.strategies],
            "peers": [_entry(timings) for timings in self.peers],
            "peers_missing": self.missing,
            "reference_ms": self.reference_ms,
        }


def _entry(timings: Timings) -> dict[str, Any]:
    summary = timings.summary
    return {
        "name": timings.name,
        "median_us": round(summary.median_us, 3),
        "p10_us": round(summary.p10_us, 3),
        "p90_us": round(summary.p90_us, 3),
        "jobs": summary.jobs,
        "jobs_per_s": round(summary.jobs_per_s, 3),
        "samples": summary.samples,
        "answer": read_answer(timings.answer),
        "prepare_ms": round(timings.prepare_s * 1e3, 3),
    }


def compare(
    work: Work, *, names: Sequence[str], jobs: int | None, peers: bool, progress: Progress, seed: int | None = None
) -> Comparison:
    """Measure strategies on the same work.

    Args:
        work: what to run.
        names: the names of the strategies.
        jobs: the number of jobs per contestant; None gives each about `SECONDS_EACH` seconds.
        peers: whether to measure the installed peers as well.
        progress: is told what happens.
        seed: determines the order within each round; None for another order each time.

    Raises:
        AnswersDiffer: the answers do not agree.
        PexecError: a job failed.
    """
    comparison = Comparison(work)
    referee = Referee()
    with ExitStack() as stack:
        for name in names:
            progress.say(f"preparing {name}")
            strategy = stack.enter_context(STRATEGIES[name](work))
            comparison.strategies.append(prepare(strategy, referee))
        if peers:
            _prepare_peers(comparison, referee, stack, progress.say)
        everybody = comparison.strategies + comparison.peers
        numbers: dict[str, int] = {}
        for timings in everybody:
            progress.say(f"warming up {timings.name}")
            chosen = choose_jobs(timings.contestant, SECONDS_EACH, work.workers)
            numbers[timings.name] = chosen if jobs is None else jobs
        progress.start(sum(numbers.values()))

        def done(name: str, count: int) -> None:
            progress.say(name)
            progress.advance(count)

        rng = random.Random(seed)  # noqa: S311 - it shuffles rounds
        measure(everybody, numbers, referee, rng=rng, done=done)
    return comparison


def _prepare_peers(comparison: Comparison, referee: Referee, stack: ExitStack, say: Callable[[str], None]) -> None:
    for peer_class in PEERS:
        name = peer_class.name
        if not peer_class.available():
            comparison.missing[name] = f"not installed: pip install {peer_class.package}"
            continue
        say(f"preparing {name}")
        peer = peer_class(comparison.work)
        stack.callback(peer.close)
        try:
            comparison.peers.append(prepare(peer, referee))
        except NotForThisWork as reason:
            comparison.missing[name] = str(reason)
