"""What an attack is, and how one is judged: by its error, its time, its memory, and the answers of the jobs after it and
beside it. Each family's table is in a test module of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

import parallel_exec as px

MIB = 1 << 20

# For a process that runs a sandbox, beside its linear memory: what the interpreter takes for a result or an error.
MEMORY_CONSTANT = 96 * MIB

# A slow machine is not a hang.
PATIENCE_S = 15.0

# Seconds that a job may compute beyond its deadline: the longest step that never checks it.
LATE_S = 1.0

# Enough time for tests of something else. It is CPU time, and the grace is long: a busy machine may keep a job waiting.
CALM = px.Limits(
    time_s=20.0,
    clock="cpu",
    grace_s=PATIENCE_S,
    memory_bytes=48 * MIB,
    output_bytes=4 * MIB,
    document_bytes=16 * MIB,
)
# Less memory, which is used up sooner.
PATIENT = dataclasses.replace(CALM, memory_bytes=24 * MIB)
# An endless job is stopped the same way after any time. The good jobs have the same limits.
HURRIED = dataclasses.replace(CALM, time_s=0.03)
# For attacks that fill or make memory before their loop.
PREPARING = dataclasses.replace(HURRIED, time_s=0.25)

# `good` tells if anything of another job is left: in the plugin's state, in the built-in objects, in the engine.
SOURCE = """
const kept = [];
class Point { constructor(x) { this.x = x } get double() { return 2 * this.x } }
function attack(code) { return new Function('kept', code)(kept) }
function echo(document) { return document }
function good(x) {
    kept.push(x);
    const map = new Map([[x, 'one'], ['b', 'two']]), text = JSON.stringify({x, list: [1, 2.5, null]});
    return [kept.length, new Point(x).double, [3, 1, 2].sort().join(), /b+(c)/.exec('abbc')[1], [...map.values()],
            JSON.parse(text), Object.keys({a: 1, b: 2}), `${[1, [2, 3]]}`, Math.max(1, 2), typeof leaked, ({}).polluted,
            Array.from('añ😀'), 2n ** 70n + '', [1, 2, 3].map(n => n * x), String(Symbol('s')), new Date(0).toJSON()];
}
"""
PLUGIN = px.Plugin(SOURCE, name="attacks.js")
NEIGHBOUR = px.Plugin(
    "let n = 0; function next(x) { n += 1; return [n, x, typeof leaked, [1, 2] + ''] }", name="next.js"
)


def good_answer(x: int) -> Any:
    return [
        *(1, 2 * x, "1,2,3", "c", ["one", "two"], {"x": x, "list": [1, 2.5, None]}, ["a", "b"], "1,2,3", 2),
        *("undefined", None, ["a", "ñ", "😀"], str(2**70), [x, 2 * x, 3 * x], "Symbol(s)", "1970-01-01T00:00:00.000Z"),
    ]


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        code: a function body; what it returns or throws is the job's end.
        errors: it must end with one of these types of error; px.JSError is one that the plugin could have caught.
            Empty: it must end with a value.
        says: what is in the error's text, or the value.
        limits: under which it runs; little time if that is what may end it.
        document: given to the function `echo` in place of the code.
    """

    name: str
    code: str = ""
    errors: tuple[type[px.PexecError], ...] = ()
    says: Any = ""
    limits: px.Limits = CALM
    document: Any = None

    def __post_init__(self) -> None:
        if px.JobTimeout in self.errors and self.limits is CALM:
            object.__setattr__(self, "limits", HURRIED)

    @property
    def call(self) -> tuple[str, Any]:
        return ("attack", self.code) if self.code else ("echo", self.document)

    def judge(self, end: Any) -> None:
        """Assert that the attack ended as it should."""
        if not self.errors:
            assert not isinstance(end, BaseException), f"{self.name}: {end!r}"
            assert self.says in ("", end), self.name
        else:
            assert isinstance(end, self.errors), f"{self.name} ended with {end!r}"
            assert self.says in str(end), f"{self.name} ended with {end!r}"
        for error, limit in (px.JobTimeout, "time_s"), (px.MemoryLimitExceeded, "memory_bytes"):
            if isinstance(end, error):  # by the sandbox, not by the pool's kill
                assert f"Limits.{limit}={getattr(self.limits, limit)}" in str(end), f"{self.name} ended with {end!r}"


def attacks(*table: Attack) -> pytest.MarkDecorator:
    """Parametrize a test by a table."""
    assert len({attack.name for attack in table}) == len(table), "two attacks of one name"
    return pytest.mark.parametrize("attack", table, ids=lambda attack: attack.name)


def judged(table: Sequence[Attack]) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return a family's two tests: every attack in a sandbox of this process, and in a pool."""

    @attacks(*table)
    def test_in_a_sandbox(sandboxes: Sandboxes, attack: Attack) -> None:
        sandboxes.run(attack)

    @attacks(*table)
    def test_in_a_pool(pools: Pools, attack: Attack) -> None:
        pools.run(attack)

    return test_in_a_sandbox, test_in_a_pool


def loops(bodies: dict[str, str], *errors: type[px.PexecError], **options: Any) -> list[Attack]:
    """Attacks that never end by themselves."""
    return [Attack(name, code, errors or (px.JobTimeout,), **options) for name, code in bodies.items()]


class Sandboxes:
    """A sandbox for each of the limits, kept over all attacks, so that each attack finds what the one before left."""

    def __init__(self) -> None:
        self._sandboxes: dict[px.Limits, px.Sandbox] = {}

    def of(self, limits: px.Limits) -> px.Sandbox:
        if limits not in self._sandboxes:
            self._sandboxes[limits] = px.Sandbox(PLUGIN, limits=limits, on_console=lambda *_: None)
        return self._sandboxes[limits]

    def run(self, attack: Attack) -> None:
        sandbox = self.of(attack.limits)
        assert sandbox.call("good", 1) == good_answer(1)
        with bounded_memory([psutil.Process()], attack.limits):
            start = time.thread_time()
            end = outcome(lambda: sandbox.call(*attack.call))
            seconds = time.thread_time() - start
        attack.judge(end)
        assert seconds < (attack.limits.time_s or 0.0) + LATE_S, f"{attack.name} computed for {seconds:.1f} s"
        for x in (2, 3):
            assert sandbox.call("good", x) == good_answer(x), f"after {attack.name}"

    def close(self) -> None:
        for sandbox in self._sandboxes.values():
            sandbox.close()


class Pools:
    """A pool of two workers for each of the limits, kept over all attacks."""

    def __init__(self) -> None:
        self._pools: dict[px.Limits, px.Pool] = {}

    def of(self, limits: px.Limits) -> px.Pool:
        if limits not in self._pools:
            self._pools[limits] = px.Pool(2, limits=limits)
        return self._pools[limits]

    def run(self, attack: Attack) -> None:
        pool = self.of(attack.limits)
        good, next_of = PLUGIN.function("good"), NEIGHBOUR.function("next")
        assert pool.submit(good, 0).result(timeout=60) == good_answer(0)
        with bounded_memory(workers(), attack.limits):
            start = time.monotonic()
            name, document = attack.call
            before = [pool.submit(next_of, x) for x in range(3)]
            attacked = pool.submit(PLUGIN.function(name), document)
            after = [pool.submit(good, x) for x in range(3)]
            end = outcome(lambda: attacked.result(timeout=120))
            seconds = time.monotonic() - start
            attack.judge(end)
            limit = (attack.limits.time_s or 0.0) + attack.limits.grace_s
            assert seconds < limit + PATIENCE_S, f"{attack.name} took {seconds:.1f} s"
            expect(before, [[1, x, "undefined", "1,2"] for x in range(3)], attack)
            expect(after, [good_answer(x) for x in range(3)], attack)
        # Enough for both workers to have one.
        expect([pool.submit(good, x) for x in range(8)], [good_answer(x) for x in range(8)], attack)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.shutdown()


def expect(futures: Sequence[Future[Any]], answers: list[Any], attack: Attack) -> None:
    assert [future.result(timeout=60) for future in futures] == answers, f"beside or after {attack.name}"


def outcome(job: Any) -> Any:
    """The job's value, or the PexecError that it raised."""
    try:
        return job()
    except px.PexecError as error:
        return error


def workers() -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process().children(recursive=True)
    return found


@contextlib.contextmanager
def bounded_memory(processes: list[psutil.Process], limits: px.Limits) -> Iterator[None]:
    """Assert that no process's peak exceeds its memory before by more than a job may use."""
    before = {process: _rss(process) for process in processes}
    for process in processes:
        with contextlib.suppress(OSError):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # its peak begins anew
    yield
    # In JSON text, as bytes, and as Python values, in which a list of small numbers takes 20 times its text.
    bound = limits.memory_bytes + 20 * limits.output_bytes + MEMORY_CONSTANT
    for process, rss in before.items():
        assert _peak(process) - rss < bound, f"process {process.pid} took {(_peak(process) - rss) / MIB:.0f} MiB"


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _peak(process: psutil.Process) -> int:
    try:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, IndexError):
        pass
    return _rss(process)
