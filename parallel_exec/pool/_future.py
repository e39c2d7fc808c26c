"""The futures that `Pool.submit` returns."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from parallel_exec.pool._version import Version

if TYPE_CHECKING:
    from parallel_exec.pool._scheduling.spinning import Spinner


class JobFuture(Future[Any]):
    """A `concurrent.futures.Future` that tells which version of a deployment its job runs.

    Attributes:
        version: the version, from the beginning; None if the job is of no deployment.
        spinner: how to wait for the result of a short job (spinning.py); None if it is not short, if that has been
            tried, or if there are callbacks, which are not to run in a thread that waits for the result.
    """

    version: Version | None = None
    spinner: Spinner | None = None

    def result(self, timeout: float | None = None) -> Any:
        """As `concurrent.futures.Future.result`."""
        self._spin(timeout)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As `concurrent.futures.Future.exception`."""
        self._spin(timeout)
        return super().exception(timeout)

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """As `concurrent.futures.Future.add_done_callback`."""
        spinner = self.spinner
        if spinner is not None:
            spinner.leave(self)
        super().add_done_callback(fn)

    def _spin(self, timeout: float | None) -> None:
        spinner = self.spinner  # another thread may take it away at any time
        if spinner is not None:
            spinner.wait(self, timeout)
            self.spinner = None
