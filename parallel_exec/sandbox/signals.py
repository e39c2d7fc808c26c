"""Keeps what a signal's handler raises, such as KeyboardInterrupt, out of where it would crash the process.

Python runs a handler where it next executes Python code in the main thread. If a signal comes while WebAssembly runs,
that is where a function begins that WebAssembly calls, before any ``try`` of its own. ctypes, which has called it, then
returns whatever lies on the stack, and wasmtime takes that for the address of a trap.

So while WebAssembly runs, handlers are held back: a signal is noted, and its handler called by `HeldSignals.deliver`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Those that programs have handlers for which raise; Ctrl-C's is there in every program.
_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)


class HeldSignals:
    """A context in which handlers are held back; at its end, those of signals that have come are called. Handlers run
    in the main thread, so elsewhere it does nothing.

    Attributes:
        pending: signals that have come, and whose handlers have not been called.
    """

    __slots__ = ("_handlers", "pending")

    def __init__(self) -> None:
        self.pending: list[tuple[Callable[[int, FrameType | None], Any], int]] = []
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._hold()

    def __exit__(self, *_exception: object) -> None:
        if self._handlers:
            self._give_back()
            self.deliver()

    def deliver(self) -> None:
        """Call the handlers of the signals that have come. Raises what they raise."""
        while self.pending:
            handler, number = self.pending.pop(0)
            handler(number, None)

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """While the host's own code runs, which a signal may interrupt."""
        if not self._handlers:
            yield
            return
        self._give_back()
        try:
            yield
        finally:
            self._hold()

    def _hold(self) -> None:
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                self._handlers[number] = handler
                signal.signal(number, self._note)

    def _give_back(self) -> None:
        for number in reversed(self._handlers):  # Ctrl-C's last: what it raises may end this
            signal.signal(number, self._handlers[number])
        self._handlers.clear()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.pending.append((self._handlers[number], number))
