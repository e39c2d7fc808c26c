"""Interrupts at random moments: Ctrl-C, and an alarm whose handler raises."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType


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


@contextmanager
def alarms(every_s: float) -> Iterator[None]:
    """Raise an `Alarm` in this thread again and again."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, every_s, every_s)
    try:
        yield
    finally:
        _stop_alarms(before)


def _stop_alarms(before: Callable[[int, FrameType | None], object] | int | None) -> None:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    except Alarm:
        _stop_alarms(before)


def despite_alarms(action: Callable[[], object]) -> object:
    """Run the action until no alarm interrupts it, and return what it returns."""
    while True:
        try:
            return action()
        except Alarm:
            continue
