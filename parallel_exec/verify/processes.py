"""Several processes for the runtimes that this package's pool does not run: the standard library's executor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context

from parallel_exec.verify.messages import Signed
from parallel_exec.verify.verifier import Verifier, groups


def open_processes(workers: int) -> ProcessPoolExecutor:
    """Return an executor; its processes are spawned, since this one has threads by then."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


class Processes(Verifier):
    """A way to verify, had by every process of an executor: the time that all messages take, by their number.

    Messages go to the processes by the group, as its `chunksize` would have it, even when each is a call there.
    """

    def __init__(self, verifier: Verifier, executor: ProcessPoolExecutor, workers: int) -> None:
        self.name = f"{verifier.name}, processes"
        self.how = verifier.how
        self.build = verifier.build
        self._verifier = verifier
        self._executor = executor
        self._workers = workers

    def prepare(self) -> None:
        prepared: set[int] = set()
        while len(prepared) < self._workers:
            prepared.update(self._executor.map(_prepared, [self._verifier] * self._workers))

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        answers = self._executor.map(_verify, repeat(self._verifier), groups(messages, self._workers))
        return [valid for answer in answers for valid in answer]


# In a process of the executor: what it has prepared so far.
_ready: dict[tuple[str, str, str], Verifier] = {}


def _prepared(verifier: Verifier) -> int:
    """Prepare, and return which process this is."""
    key = _key(verifier)
    if key not in _ready:
        verifier.prepare()
        _ready[key] = verifier
    return os.getpid()


def _verify(verifier: Verifier, messages: Sequence[Signed]) -> list[bool]:
    return _ready[_key(verifier)].verify(messages)


def _key(verifier: Verifier) -> tuple[str, str, str]:
    return verifier.name, verifier.how, verifier.build
