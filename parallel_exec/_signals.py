"""What has to hold while WebAssembly may call functions of ours: that these begin without an exception.

What is raised before a ``try`` of such a function, ctypes, which has called it, writes to standard error; it then
returns whatever lies on the stack, and wasmtime takes that for the address of a trap: a crash. Two things raise there:

- a signal's handler, as KeyboardInterrupt's, for Python runs it where it next executes Python code in the main thread.
  So handlers are held back: a signal is noted, and its handler called by `Callbacks.deliver`;
- the recursion limit, which must be some calls away.
"""

from __future__ import annotations

import importlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

try:
    _signals: Any = importlib.import_module("_signal")  # `signal` makes enums of what it gives and takes: 11 us a call
except ImportError:
    _signals = signal
# Those that programs have handlers for which raise; Ctrl-C's is there in every program.
_SIGNALS = tuple(
    int(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGUSR1") if hasattr(signal, name)
)


# Calls that the functions, wasmtime's own among them, make to turn an exception into a trap.
_FRAMES = 12


class Callbacks:
    """The context of calls into WebAssembly. Signals' handlers are held back, and at its end those of signals that have
    come are called; they run in the main thread, so elsewhere there is nothing to hold.

    Raises:
        RecursionError: the recursion limit is too near.

    Attributes:
        pending: signals that have come, and whose handlers have not been called.
    """

    __slots__ = ("_handlers", "pending")

    def __init__(self) -> None:
        self.pending: list[tuple[Callable[[int, FrameType | None], Any], int]] = []
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __enter__(self) -> None:
        _descend(_FRAMES)
        if threading.get_ident() == threading.main_thread().ident:
            try:
                self._hold()
            except BaseException:  # by the handler of one signal when that of another is held
                self._give_back()
                raise

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
            handler = _signals.getsignal(number)
            if callable(handler):
                self._handlers[number] = handler
                _signals.signal(number, self._note)

    def _give_back(self) -> None:
        for number in reversed(self._handlers):  # Ctrl-C's last: what it raises may end this
            _signals.signal(number, self._handlers[number])
        self._handlers.clear()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.pending.append((self._handlers[number], number))


def _descend(frames: int) -> None:
    if frames:
        _descend(frames - 1)
