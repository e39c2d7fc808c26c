"""Interrupts at random moments: Ctrl-C, and an alarm whose handler raises."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self, TypeVar

T = TypeVar("T")


def _press_ctrl_c(_number: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)


class CtrlC:
    """Interrupts actions at random moments, the same ones in every run.

    Args:
        longest_s: the latest moment after an action's beginning.
    """

    def __init__(self, longest_s: float, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._longest_s = longest_s
        self.interrupted = 0

    def during(self, action: Callable[[], object]) -> bool:
        """Run the action; return whether it was interrupted."""
        with self._alarm():
            try:
                with self._armed():
                    action()
            except KeyboardInterrupt:
                self.interrupted += 1
                return True
        return False

    def during_task(self, runner: asyncio.Runner, action: Callable[[], Awaitable[object]]) -> bool:
        """Run the action as asyncio's main task, which Ctrl-C cancels."""

        async def task() -> None:
            with self._armed():
                await action()

        with self._alarm():
            try:
                runner.run(task())
            except KeyboardInterrupt:
                self.interrupted += 1
                return True
        return False

    @contextmanager
    def _alarm(self) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, _press_ctrl_c)
        try:
            yield
        finally:
            signal.signal(signal.SIGALRM, before)

    @contextmanager
    def _armed(self) -> Iterator[None]:
        # Half of them within the first hundredth, where an action begins, and most others in the rest.
        delay = self._longest_s * self._random.choice((0.01, 1.0)) * self._random.random()
        signal.setitimer(signal.ITIMER_REAL, delay + 1e-6)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


class Alarm(Exception):
    """What an alarm's handler raises."""


class Alarms:
    """A context in which an alarm comes again and again, and its handler raises while an action runs."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._armed = False
        self.rung = 0

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self._every_s, self._every_s)
        return self

    def __exit__(self, *_exception: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)

    def during(self, action: Callable[[], T]) -> T:
        """Run the action until no alarm ends it, and return what it returns."""
        while True:
            try:
                self._armed = True
                result = action()
                self._armed = False
                return result
            except Alarm:
                continue

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        if self._armed:
            self._armed = False
            self.rung += 1
            raise Alarm
