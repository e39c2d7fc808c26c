"""The futures that `Pool.submit` returns."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any

from parallel_exec._signals import ROUND_S, Condition, Gate, held
from parallel_exec.pool._version import Version

_DONE = ("CANCELLED", "CANCELLED_AND_NOTIFIED", "FINISHED")  # states of the standard library's future


class JobFuture(Future[Any]):
    """A `concurrent.futures.Future` that tells which version of a deployment its job runs.

    Attributes:
        version: the version, from the beginning; None if the job is of no deployment.
    """

    version: Version | None = None

    def __init__(self) -> None:
        super().__init__()
        Condition.adopt(self._condition)
        self._gates: list[Gate] = []  # of the threads that wait

    def result(self, timeout: float | None = None) -> Any:
        """As `concurrent.futures.Future.result`."""
        self._wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As `concurrent.futures.Future.exception`."""
        self._wait(timeout)
        return super().exception(0)

    def cancel(self) -> bool:
        """As `concurrent.futures.Future.cancel`."""
        with held():
            return super().cancel()

    def _invoke_callbacks(self) -> None:
        if self._gates:  # before the callbacks, which may take long
            for gate in list(self._gates):
                gate.open()
        super()._invoke_callbacks()  # type: ignore[misc] # what ends a future calls this, in all of CPython's versions

    def _wait(self, timeout: float | None) -> None:
        """Wait until the future is done, for so many seconds at most. A signal's handler may end it anywhere."""
        if self._state in _DONE:
            return
        end = None if timeout is None else time.monotonic() + timeout
        gate = Gate()
        self._gates.append(gate)
        try:
            while self._state not in _DONE:
                left = ROUND_S if end is None else min(ROUND_S, end - time.monotonic())
                if left <= 0:
                    return
                gate.wait(left)
        finally:
            self._gates.remove(gate)
