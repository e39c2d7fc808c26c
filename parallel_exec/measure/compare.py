"""`pexec bench`: the strategies, and peers if asked for, on the same work."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from parallel_exec.errors import PexecError
from parallel_exec.measure.answers import Referee, read_answer
from parallel_exec.measure.fixture import is_shipped_work
from parallel_exec.measure.machine import describe_machine, describe_versions
from parallel_exec.measure.peers import PEERS, NotForThisWork
from parallel_exec.measure.rounds import Measured, choose_jobs, measure, prepare
from parallel_exec.measure.strategies import STRATEGIES, Work

# Seconds that each contestant is measured for unless told how many jobs: ten of them make a run of about 15 s.
SECONDS_EACH = 1.2

# What the design note that this project starts from reports, in milliseconds; measured in Rust, on another machine.
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
    """The outcome of a bench.

    Attributes:
        work: what was run.
        strategies, peers: what was measured, in the order of the registries.
        missing: peers that were not measured, and why.
    """

    work: Work
    document_name: str
    strategies: list[Measured] = field(default_factory=list)
    peers: list[Measured] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def reference_ms(self) -> dict[str, float]:
        """What `REFERENCE_MS` says of this work: nothing, unless it is the shipped one."""
        return REFERENCE_MS if is_shipped_work(self.work) else {}

    def as_json(self) -> dict[str, Any]:
        """Return the figures as values for JSON; times in microseconds unless the key says otherwise."""
        work = self.work
        return {
            "machine": describe_machine(),
            "versions": describe_versions(),
            "plugin": {"name": work.plugin.name, "function": work.function, "sha256": work.plugin.digest},
            "document": {"name": self.document_name, "bytes": len(work.document)},
            "workers": work.workers,
            "strategies": [_entry(measured) for measured in self.strategies],
            "peers": [_entry(measured) for measured in self.peers],
            "peers_missing": self.missing,
            "reference_ms": self.reference_ms,
        }


def _entry(measured: Measured) -> dict[str, Any]:
    summary = measured.summary
    return {
        "name": measured.contestant.name,
        "median_us": round(summary.median_us, 3),
        "p10_us": round(summary.p10_us, 3),
        "p90_us": round(summary.p90_us, 3),
        "jobs": summary.jobs,
        "jobs_per_s": round(summary.jobs_per_s, 3),
        "samples": summary.samples,
        "answer": read_answer(measured.answer),
        "prepare_ms": round(measured.prepare_s * 1e3, 3),
    }


class Progress(Protocol):
    """Told how far a bench is."""

    def say(self, text: str) -> None:
        """What happens now."""

    def start(self, total: int) -> None:
        """The number of jobs is known."""

    def advance(self, jobs: int) -> None:
        """So many more jobs are done."""


def compare(
    work: Work,
    *,
    names: Sequence[str],
    jobs: int | None,
    peers: bool,
    document_name: str,
    progress: Progress,
    seed: int | None = None,
) -> Comparison:
    """Measure the strategies of these names.

    Args:
        jobs: jobs of each contestant; None to give each about `SECONDS_EACH` seconds.
        peers: measure the installed peers, too.
        seed: of the rounds' order; None for another order each time.

    Raises:
        AnswersDiffer: not all come to the same answer.
        PexecError: a job failed.
    """
    comparison = Comparison(work, document_name)
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
        for measured in everybody:
            name = measured.contestant.name
            progress.say(f"warming up {name}")
            chosen = choose_jobs(measured, SECONDS_EACH, work.workers)
            numbers[name] = chosen if jobs is None else jobs
        progress.start(sum(numbers.values()))

        def done(name: str, count: int) -> None:
            progress.say(name)
            progress.advance(count)

        measure(everybody, numbers, referee, rng=random.Random(seed), done=done)
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


def unknown_strategies(names: Sequence[str]) -> str | None:
    """Return what is wrong with a choice of strategies, or None.

    >>> unknown_strategies(["image", "magic"])
    "unknown strategy 'magic'; there are: baseline, wizer, wizer-plus, cached, parser, image, parallel"
    """
    known = ", ".join(STRATEGIES)
    for name in names:
        if name not in STRATEGIES:
            return f"unknown strategy {name!r}; there are: {known}"
    return None if names else f"no strategy is named; there are: {known}"


def check_once(work: Work) -> None:
    """Run the work once in a sandbox, so that what is wrong with plugin, function or document is told before any
    strategy starts.

    Raises:
        PexecError: what is wrong.
    """
    from parallel_exec.sandbox import MemoryImage, Sandbox

    plugin = work.plugin
    image = MemoryImage.capture(plugin.source, name=plugin.name, kind=plugin.kind, limits=work.limits)
    with Sandbox(image, limits=work.limits) as sandbox:
        try:
            sandbox.call_bytes(work.function, work.document)
        except PexecError as error:
            raise error.at(plugin=plugin.name, function=work.function) from None
