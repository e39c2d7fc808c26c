"""Running host functions for a plugin, whatever it is written in: limits, nesting, and what is logged."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

from parallel_exec import _signals
from parallel_exec._signals import Callbacks
from parallel_exec.errors import PexecError
from parallel_exec.host import HostFunction
from parallel_exec.limits import Limits

log = logging.getLogger("parallel_exec.host")

_MESSAGE_MAX = 1000  # characters of an exception's text that a plugin is given
_LOGGED_FAILURES = 5  # per job: a plugin must not be able to fill the log


class _Depth(threading.local):
    value = 0


# How many host functions run in this thread. Each may have a sandbox below it, which takes up to 4 MiB of the native
# stack (a module 1, engine.MODULE_STACK): two of them fit a thread's 8.
_depth = _Depth()


class HostRunner:
    """Runs the host functions of one sandbox.

    Attributes:
        busy: a host function is running.
        callbacks: the context of calls into the sandbox.
    """

    def __init__(self, functions: Mapping[str, HostFunction], limits: Limits) -> None:
        self.busy = False
        self.callbacks = Callbacks()
        self._functions = functions
        self._limits = limits
        self._failures = 0

    def begin(self) -> None:
        """Begin a job."""
        self._failures = 0

    def run(self, name: str, arguments: Sequence[object]) -> object:
        """Run a host function.

        Raises:
            TypeError: there is no host function of this name.
            PexecError: the plugin runs in a host function itself.
            Exception: what the function raises.
        """
        if name not in self._functions:
            raise TypeError("there is no such host function")
        if _depth.value:
            raise PexecError("a plugin that a host function runs cannot call host functions itself")
        self.busy = True
        _depth.value = 1
        try:
            return _signals.interruptibly(self._functions[name], *arguments)
        finally:
            _depth.value = 0
            self.busy = False

    def check_arguments(self, length: int) -> None:
        """Raise a ValueError if the arguments, of so many bytes, are too large."""
        if length > self._limits.output_bytes:
            raise ValueError(f"the arguments exceed Limits.output_bytes={self._limits.output_bytes}")

    def check_result(self, name: str, length: int) -> None:
        """Raise a RangeError if the result, of so many bytes, is too large."""
        if length > self._limits.document_bytes:
            limit = f"Limits.document_bytes={self._limits.document_bytes}"
            raise RangeError(f"the result of the host function {name}(), {length} bytes, exceeds {limit}")

    def note_failure(self, name: str, error: Exception) -> None:
        """Log that a call failed, for the first few of each job."""
        self._failures += 1
        if self._failures <= _LOGGED_FAILURES:
            log.error("the host function %s() failed", name, exc_info=error)
        elif self._failures == _LOGGED_FAILURES + 1:
            log.error("host functions keep failing in this job; further failures are not logged")


class RangeError(ValueError):
    """A result that is too large; the plugin sees JavaScript's error of this name."""


def text_of(error: Exception) -> str:
    """Return as much of an exception's text as a plugin is given."""
    try:
        message = str(error)[:_MESSAGE_MAX]
    except Exception:
        message = ""
    return message.encode("utf-8", "replace").decode()
