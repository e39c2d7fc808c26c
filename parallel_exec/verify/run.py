"""Measures all ways to verify the same messages, in interleaved rounds, and checks every answer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from parallel_exec.errors import PexecError
from parallel_exec.measure.machine import describe_machine, describe_versions
from parallel_exec.pool import Pool
from parallel_exec.verify.messages import Kind, Signed, sign
from parallel_exec.verify.modules import MODULE_BUILDS
from parallel_exec.verify.processes import Processes, open_processes
from parallel_exec.verify.runtimes import (
    JavaScript,
    JavaScriptBatch,
    Module,
    ModuleBatch,
    Native,
    Pooled,
    PooledBatch,
    javascript_plugin,
    module_plugin,
)
from parallel_exec.verify.swapping import all_ways
from parallel_exec.verify.verifier import Missing, Verifier
from parallel_exec.verify.wasm3 import Wasm3, Wasm3Batch

ROUNDS = 9
# What one way may take of one round; a slow one is given fewer of the messages.
ROUND_S = 0.12
_LEAST = 8

# What the source that this comparison is after reports, for 1,024 messages in Rust on another machine: times native.
PUBLISHED = {"native (coincurve)": "1 x", "wasmtime Cranelift": "2.7 to 3.2 x", "wasm3": "23 to 30 x"}
PUBLISHED_SWAPPING = "30 ms"


class WrongAnswer(PexecError):
    """A runtime says of a message what is not so."""


@dataclass
class Measured:
    """A way to verify, and the seconds per message of each round."""

    verifier: Verifier
    messages: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def median_us(self) -> float:
        return median(self.seconds) * 1e6


@dataclass
class Outcome:
    """What a run found.

    Attributes:
        kind, messages, workers: as asked for.
        measured: in the order of the table; the first is native.
        missing: what was not measured, and why.
    """

    kind: Kind
    messages: int
    workers: int
    measured: list[Measured]
    missing: dict[str, str]

    def ratio(self, measured: Measured) -> float:
        """Return how many times native a way takes: the median of the rounds' ratios, since who is busy
        beside a round slows both.
        """
        native = self.measured[0].seconds
        return median(mine / its for mine, its in zip(measured.seconds, native, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Return the figures as values for JSON."""
        return {
            "machine": describe_machine(),
            "versions": describe_versions(),
            "kind": self.kind,
            "messages": self.messages,
            "workers": self.workers,
            "rows": [
                {
                    "name": each.verifier.name,
                    "how": each.verifier.how,
                    "build": each.verifier.build,
                    "us_per_message": round(each.median_us, 3),
                    "times_native": round(self.ratio(each), 3),
                    "messages": each.messages,
                    "rounds_us": [round(seconds * 1e6, 3) for seconds in each.seconds],
                }
                for each in self.measured
            ],
            "missing": self.missing,
            "published": {**PUBLISHED, "swapping": PUBLISHED_SWAPPING},
        }


def run(kind: Kind, count: int, *, workers: int, say: Callable[[str], None], seed: int = 1) -> Outcome:
    """Measure every way there is on so many messages of a kind.

    Args:
        workers: of the pools.
        say: told what happens.
        seed: of the messages, and of the rounds' order.

    Raises:
        WrongAnswer: a runtime's answer is wrong. PexecError: what signs, or a module, is missing.
    """
    messages = sign(kind, count, seed)
    rng = random.Random(seed)
    found: list[Measured] = []
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        pool = stack.enter_context(Pool(workers))
        executor = stack.enter_context(open_processes(workers))
        for verifier in _verifiers(kind, pool, executor, workers):
            say(f"preparing {verifier.name}")
            try:
                verifier.prepare()
            except Missing as error:
                missing[verifier.name] = str(error)
                continue
            stack.callback(verifier.close)
            found.append(Measured(verifier))
        for each in found:
            say(f"warming up {each.verifier.name}")
            each.messages = _choose(each.verifier, messages)
        for number in range(ROUNDS):
            say(f"round {number + 1} of {ROUNDS}")
            for each in rng.sample(found, len(found)):
                each.seconds.append(_time(each.verifier, messages[: each.messages]) / each.messages)
    return Outcome(kind, count, workers, found, missing)


def _verifiers(kind: Kind, pool: Pool, executor: ProcessPoolExecutor, workers: int) -> list[Verifier]:
    """All ways, native first."""
    known = "both" if kind == "random" else kind
    verifiers: list[Verifier] = [Native()]
    for way in (Module, ModuleBatch):
        verifiers += [
            way(backend, f"{known}-{build}-wide", build)
            for backend in ("cranelift", "winch", "pulley")
            for build in MODULE_BUILDS
        ]
    for interpreted in (Wasm3, Wasm3Batch):
        verifiers += [interpreted(f"{known}-{build}-mvp", build) for build in MODULE_BUILDS]
    verifiers += [JavaScript(), JavaScriptBatch()]
    module, script = module_plugin(f"{known}-speed-wide"), javascript_plugin()
    verifiers += [
        Pooled("wasmtime Cranelift", pool, workers, module.function("verify_message"), "speed"),
        PooledBatch("wasmtime Cranelift", pool, workers, module.function("verify_batch", input="binary"), "speed"),
        Pooled("JavaScript in QuickJS", pool, workers, script.function("verify_message")),
        PooledBatch("JavaScript in QuickJS", pool, workers, script.function("verify_batch")),
    ]
    unpooled: list[Verifier] = [Native()]
    for way in (Module, ModuleBatch):
        unpooled += [way(backend, f"{known}-speed-wide", "speed") for backend in ("winch", "pulley")]
    unpooled += [interpreted(f"{known}-speed-mvp", "speed") for interpreted in (Wasm3, Wasm3Batch)]
    verifiers += [Processes(verifier, executor, workers) for verifier in unpooled]
    verifiers += all_ways() if kind == "random" else []
    return sorted(verifiers, key=lambda verifier: ("message", "batch", "swap").index(verifier.how))


def _choose(verifier: Verifier, messages: Sequence[Signed]) -> int:
    """Return how many messages fill a round, from what a few and then more of them take, since a few do not fill the
    workers of a pool; this warms the runtime up, too.
    """
    count = min(_LEAST, len(messages))
    _time(verifier, messages[:count])
    for _ in range(2):
        per_message = _time(verifier, messages[:count]) / count
        count = max(_LEAST, min(len(messages), round(ROUND_S / per_message)))
    return count


def _time(verifier: Verifier, messages: Sequence[Signed]) -> float:
    start = time.perf_counter()
    answers = verifier.verify(messages)
    seconds = time.perf_counter() - start
    if len(answers) != len(messages):
        raise WrongAnswer(f"{verifier.name} gives {len(answers)} answers to {len(messages)} messages")
    for index, (answer, message) in enumerate(zip(answers, messages, strict=True)):
        if answer is not message.valid:
            says = "valid" if answer else "invalid"
            raise WrongAnswer(f"{verifier.name} says of message {index}, which is not, that it is {says}")
    return seconds
