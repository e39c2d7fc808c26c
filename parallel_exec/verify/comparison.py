"""`pexec bench verify`: measures all ways to verify the same messages, in interleaved rounds, checks every answer, and
makes a table of the figures.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from statistics import median
from typing import Any

from rich.console import RenderableType

from parallel_exec.errors import PexecError
from parallel_exec.measure.machine import describe_machine, describe_versions
from parallel_exec.measure.report import format_us, make_table, with_notes
from parallel_exec.pool import Pool
from parallel_exec.verify.messages import LEAST_MESSAGES, SchemeChoice, Signed, sign
from parallel_exec.verify.modules import BUILDS
from parallel_exec.verify.runtimes import (
    InProcesses,
    JavaScript,
    JavaScriptBatch,
    Missing,
    Native,
    Pooled,
    PooledBatch,
    Verifier,
    Wasm3,
    Wasm3Batch,
    Wasmtime,
    WasmtimeBatch,
    javascript_plugin,
    module_plugin,
)
from parallel_exec.verify.swapping import swapping_verifiers

ROUNDS = 9
# The time that one way may take in a round; a slow one is given fewer of the messages.
ROUND_S = 0.12

_HOW = {"message": "one by one", "batch": "batch", "swap": "one by one, two modules"}

# The figures of the published comparison that this one repeats, in Rust on another machine: times native, for 1,024
# messages, and the time to change the module.
PUBLISHED = {"native (coincurve)": "1 x", "wasmtime Cranelift": "2.7 to 3.2 x", "wasm3": "23 to 30 x"}
PUBLISHED_SWAPPING = "30 ms"


class WrongAnswer(PexecError):
    """A runtime's answer about a message is wrong."""


@dataclass
class Timed:
    """A way to verify, how many messages it was given in each round, and the seconds that each took there."""

    verifier: Verifier
    messages: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def median_us(self) -> float:
        return median(self.seconds) * 1e6


@dataclass
class RuntimeComparison:
    """What a run measured.

    Attributes:
        scheme, messages, workers: as asked for.
        timed: in the order of the table; the first is native.
        missing: what was not measured, and why.
    """

    scheme: SchemeChoice
    messages: int
    workers: int
    timed: list[Timed]
    missing: dict[str, str]

    def ratio(self, timed: Timed) -> float:
        """Return how many times as long as native a way takes: the median of the rounds' ratios, since whatever else
        runs during a round slows both.
        """
        native = self.timed[0].seconds
        return median(mine / its for mine, its in zip(timed.seconds, native, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Return the figures as values for JSON."""
        return {
            "machine": describe_machine(),
            "versions": describe_versions(),
            "kind": self.scheme,
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
                for each in self.timed
            ],
            "missing": self.missing,
            "published": {**PUBLISHED, "swapping": PUBLISHED_SWAPPING},
        }


def compare_runtimes(
    scheme: SchemeChoice, count: int, *, workers: int, say: Callable[[str], None], seed: int = 1
) -> RuntimeComparison:
    """Measure every way to verify that there is.

    Args:
        scheme: how the messages are signed; ``"random"`` also compares ways to swap modules.
        count: how many messages there are.
        workers: processes of each pool.
        say: told what happens.
        seed: of the messages, and of the rounds' order.

    Raises:
        WrongAnswer: a runtime's answer is wrong.
        PluginError: a module is missing or cannot be built.
        PexecError: the package that signs is not installed.
    """
    messages = sign(scheme, count, seed)
    rng = random.Random(seed)  # noqa: S311 - the order of measurements
    found: list[Timed] = []
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        pool = stack.enter_context(Pool(workers))
        # Spawned, not forked: this process has threads by now.
        executor = stack.enter_context(ProcessPoolExecutor(workers, mp_context=get_context("spawn")))
        for verifier in _verifiers(scheme, pool, executor, workers):
            say(f"preparing {verifier.name}")
            try:
                verifier.prepare()
            except Missing as error:
                missing[verifier.name] = str(error)
                continue
            stack.callback(verifier.close)
            found.append(Timed(verifier))
        for each in found:
            say(f"warming up {each.verifier.name}")
            each.messages = _choose(each.verifier, messages)
        for number in range(ROUNDS):
            say(f"round {number + 1} of {ROUNDS}")
            for each in rng.sample(found, len(found)):
                each.seconds.append(_time(each.verifier, messages[: each.messages]) / each.messages)
    return RuntimeComparison(scheme, count, workers, found, missing)


def _verifiers(scheme: SchemeChoice, pool: Pool, executor: ProcessPoolExecutor, workers: int) -> list[Verifier]:
    """Return all ways, native first."""
    known = "both" if scheme == "random" else scheme
    verifiers: list[Verifier] = [Native()]
    for wasmtime in (Wasmtime, WasmtimeBatch):
        verifiers += [
            wasmtime(backend, f"{known}-{build}-wide", build)
            for backend in ("cranelift", "winch", "pulley")
            for build in BUILDS
        ]
    verifiers += [wasm3(build) for wasm3 in (Wasm3, Wasm3Batch) for build in BUILDS]
    verifiers += [JavaScript(), JavaScriptBatch()]
    module, script = module_plugin(f"{known}-speed-wide"), javascript_plugin()
    verifiers += [
        Pooled("wasmtime Cranelift", pool, workers, module.function("verify_message"), "speed"),
        PooledBatch("wasmtime Cranelift", pool, workers, module.function("verify_batch", input="binary"), "speed"),
        Pooled("JavaScript in QuickJS", pool, workers, script.function("verify_message")),
        PooledBatch("JavaScript in QuickJS", pool, workers, script.function("verify_batch")),
    ]
    unpooled: list[Verifier] = [Native()]
    for wasmtime in (Wasmtime, WasmtimeBatch):
        unpooled += [wasmtime(backend, f"{known}-speed-wide", "speed") for backend in ("winch", "pulley")]
    unpooled += [wasm3("speed") for wasm3 in (Wasm3, Wasm3Batch)]
    verifiers += [InProcesses(verifier, executor, workers) for verifier in unpooled]
    verifiers += swapping_verifiers() if scheme == "random" else []
    return sorted(verifiers, key=lambda verifier: list(_HOW).index(verifier.how))


def _choose(verifier: Verifier, messages: Sequence[Signed]) -> int:
    """Return how many messages fill a round, estimated from a few messages and then from more, since a few do not keep
    all workers of a pool busy. This also warms the runtime up.
    """
    count = min(LEAST_MESSAGES, len(messages))
    _time(verifier, messages[:count])
    for _ in range(2):
        per_message = _time(verifier, messages[:count]) / count
        count = max(LEAST_MESSAGES, min(len(messages), round(ROUND_S / per_message)))
    return count


def _time(verifier: Verifier, messages: Sequence[Signed]) -> float:
    start = time.perf_counter()
    answers = verifier.verify(messages)
    seconds = time.perf_counter() - start
    if len(answers) != len(messages):
        raise WrongAnswer(f"{verifier.name} gave {len(answers)} answers to {len(messages)} messages")
    for index, (answer, message) in enumerate(zip(answers, messages, strict=True)):
        if answer is not message.valid:
            says, right = ("valid", "invalid") if answer else ("invalid", "valid")
            raise WrongAnswer(f"{verifier.name} says that message {index} is {says}; it is {right}")
    return seconds


def runtimes_table(comparison: RuntimeComparison) -> RenderableType:
    """Return the table that `pexec bench verify` shows."""
    table = make_table(f"{comparison.messages:,} messages, {comparison.scheme}, one in eight tampered with")
    for heading in ("runtime", "how", "build"):
        table.add_column(heading, no_wrap=True)
    for heading in ("per message", "times native", "messages", "published, another machine"):
        table.add_column(heading, justify="right")
    how = ""
    for each in comparison.timed:
        verifier = each.verifier
        if how and how != verifier.how:
            table.add_section()
        how = verifier.how
        published = PUBLISHED.get(verifier.name, "") if how == "message" else ""
        if verifier.name.startswith("compiled anew"):
            published = PUBLISHED_SWAPPING
        table.add_row(
            verifier.name,
            _HOW[how],
            verifier.build,
            format_us(each.median_us),
            f"{comparison.ratio(each):.2f} x",
            f"{each.messages:,}",
            published,
        )
    rounds = len(comparison.timed[0].seconds)
    return with_notes(
        table,
        f"Medians of {rounds} interleaved rounds, ratios too. One by one: from Python values to Python values, through "
        "waPC and MessagePack for modules, through JSON for JavaScript.",
        f"pool: {comparison.workers} workers of this package's pool, which runs Cranelift's code and JavaScript; "
        f"processes: {comparison.workers} of concurrent.futures, for what that pool does not run. Elapsed time by "
        "messages.",
        *(f"not measured: {name}: {reason}" for name, reason in comparison.missing.items()),
    )
