"""Signals' handlers, held back for the length of a step and called between steps.

CPython runs a signal's handler in the main thread, between any two bytecodes, and what the handler raises (Ctrl-C's
KeyboardInterrupt, an alarm's timeout) tears whatever ran there. A step that must not be torn, because it holds a lock
or leaves its books half written, runs inside `held`: signals that arrive meanwhile are noted, and their handlers are
called when the step ends. trio protects its own steps in the same way (``trio/_core/_ki.py``).

A step that waits gives `held` something that ends its wait, so that Ctrl-C is not kept waiting either. All of this
concerns the main thread only; elsewhere it costs a comparison.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
from _thread import allocate_lock, get_ident
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

try:
    _signals: Any = importlib.import_module("_signal")  # `signal` makes enums of what it gives and takes: 11 us a call
except ImportError:
    _signals = signal
# Signals whose handlers often raise. Python itself installs one for Ctrl-C.
_NUMBERS = tuple(
    int(getattr(signal, name))
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
)

Handler = Callable[[int, FrameType | None], Any]
T = TypeVar("T")


class _MainThread:
    """What is held back, and how many steps deep the main thread is.

    Where a handler raises in here, which takes two signals within microseconds, `_note` may stay installed: outside of
    steps it calls the handler that it stands for, and the next step's end takes it away.
    """

    def __init__(self) -> None:
        self.ident = threading.main_thread().ident
        self.depth = 0
        self.suspended = False  # in the middle of a step the user's code runs (`interruptibly`)
        self.handlers: dict[int, Handler] = {}
        self.pending: list[tuple[Handler, int, FrameType | None]] = []
        self.wakes: list[Callable[[], object]] = []
        self._noting = self._note  # one object, to know it by

    def hold(self) -> None:
        """Begin a step."""
        # Counted first: a collection of garbage in the middle may run a finalizer that has a step of its own.
        self.depth += 1
        if self.depth == 1:
            try:
                self._take()
            except BaseException:  # of the handler of one signal before it was held, or the recursion limit
                self.depth = 0
                self._give_back()
                raise

    def let_go(self) -> None:
        """End a step; at the end of the outermost one call the handlers of what has come. Raises what they raise."""
        self.depth -= 1
        if self.depth == 0:
            try:
                if not self.suspended:
                    self._give_back()
            finally:
                if self.pending:
                    self.deliver()

    def deliver(self) -> None:
        """Call the handlers of the signals that have come; one that raises does not keep the others from it."""
        if self.pending:
            handler, number, frame = self.pending.pop(0)
            try:
                handler(number, frame)
            finally:
                self.deliver()

    def forked(self, ident: int) -> None:
        """Another thread has become the main thread, of a child."""
        self.ident = ident
        self.depth = 0
        self.suspended = False
        self.pending.clear()
        self.wakes.clear()
        self._give_back()

    def _take(self) -> None:
        for number in _NUMBERS:
            handler = _signals.getsignal(number)
            if callable(handler) and handler is not self._noting:
                self.handlers[number] = handler
                _signals.signal(number, self._noting)

    def _give_back(self) -> None:
        for number, handler in self.handlers.items():
            if _signals.getsignal(number) is self._noting:  # else the user's code has installed another one meanwhile
                _signals.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        handler = self.handlers[number]
        if self.depth == 0:
            handler(number, frame)
            return
        self.pending.append((handler, number, frame))
        for wake in self.wakes:
            wake()


_main = _MainThread()


class held:  # noqa: N801 -- a context manager that reads as a word: `with held():`
    """Hold signals back for the length of a step.

    Args:
        wake: ends the step's wait, if it waits; called when a signal comes.

    >>> before = signal.signal(signal.SIGUSR1, lambda number, frame: print("handled"))
    >>> with held():
    ...     signal.raise_signal(signal.SIGUSR1)
    ...     print("the step is done")
    the step is done
    handled
    >>> _ = signal.signal(signal.SIGUSR1, before)
    """

    __slots__ = ("_wake",)

    def __init__(self, wake: Callable[[], object] | None = None) -> None:
        self._wake = wake

    def __enter__(self) -> None:
        if get_ident() == _main.ident:
            _main.hold()
            if self._wake is not None:
                _main.wakes.append(self._wake)

    def __exit__(self, *_exception: object) -> None:
        if get_ident() == _main.ident:
            if self._wake is not None:
                _main.wakes.pop()
            _main.let_go()


class Lock:
    """A lock whose holder no signal's handler interrupts: none leaves the lock taken, or what it guards half done."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = allocate_lock()

    def __enter__(self) -> None:
        if get_ident() == _main.ident:
            _main.hold()
        self._lock.acquire()

    def __exit__(self, *_exception: object) -> None:
        self._lock.release()
        if get_ident() == _main.ident:
            _main.let_go()


class Condition(threading.Condition):
    """A condition whose lock no signal's handler leaves taken, for a future that the user's threads share with ours.

    ``with`` looks up and calls the lock's own functions without coming to Python code, in which a handler may raise;
    those of `threading.Condition` are Python code. Whoever acquires it without ``with``, as `concurrent.futures.wait`
    does with many futures in turn, is not interrupted until it has released it.
    """

    __enter__ = property(lambda self: self._lock.__enter__)
    __exit__ = property(lambda self: self._lock.__exit__)

    @classmethod
    def adopt(cls, condition: threading.Condition) -> None:
        """Make a condition that nobody uses yet one of these."""
        condition.__class__ = cls
        del condition.acquire, condition.release  # the lock's own, which `Condition` puts into the object

    def acquire(self) -> bool:  # type: ignore[override] # concurrent.futures gives no arguments
        """As `threading.Condition.acquire`."""
        if get_ident() == _main.ident:
            _main.hold()
        taken: bool = self._lock.acquire()  # type: ignore[attr-defined]
        return taken

    def release(self) -> None:
        """As `threading.Condition.release`."""
        self._lock.release()  # type: ignore[attr-defined]
        if get_ident() == _main.ident:
            _main.let_go()


# A signal that comes between Python's last look at signals and the system call that waits does not end the wait: the
# main thread waits no longer than this at a time.
ROUND_S = 0.1


class Gate:
    """What one thread waits at until another one opens it, once for each wait.

    An Event would do, but that its lock is a Condition's, which a signal's handler can leave taken in a thread that
    waits or sets: whoever sets it next would hang. This is one lock, taken and given back by single operations.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def open(self) -> None:
        """End the wait, or the next one if there is none now."""
        try:
            self._lock.release()
        except RuntimeError:  # it is open
            return

    def close(self) -> None:
        """Have the next wait begin anew."""
        self._lock.acquire(blocking=False)

    def wait(self, timeout: float = -1.0) -> bool:
        """Wait, for so many seconds at most, -1 for ever; return whether it was opened."""
        return self._lock.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))


class Sleeper:
    """Lets one thread sleep until other threads have made something true. Waking it while it is awake costs little."""

    __slots__ = ("_gate", "_sleeping")

    def __init__(self) -> None:
        self._gate = Gate()
        self._sleeping = False

    def sleep(self, until: Callable[[], bool], timeout: float = -1.0) -> None:
        """Sleep until `until` is true, for so many seconds at most, -1 for ever. It may return earlier."""
        self._gate.close()
        # `wake` comes after the change and then looks at this; here it is the other way round, so one sees the other.
        self._sleeping = True
        if not until():
            self._gate.wait(timeout)
        self._sleeping = False

    def wake(self) -> None:
        """Call this after each change that may have made `until` true."""
        if self._sleeping:
            self._gate.open()


# Calls that the functions, wasmtime's own among them, make to turn an exception into a trap.
_FRAMES = 12


class Callbacks(held):
    """The context of calls into WebAssembly that may call functions of ours: these must begin without an exception.

    What is raised before a ``try`` of such a function, ctypes, which has called it, writes to standard error; it then
    returns whatever lies on the stack, and wasmtime takes that for the address of a trap: a crash. Two things raise
    there: a signal's handler, so handlers are held; and the recursion limit, which must be some calls away.

    Raises:
        RecursionError: the recursion limit is too near.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        _descend(_FRAMES)
        super().__enter__()


def deliver() -> None:
    """In the middle of a step, at a place where its halves fit together: call the handlers of the signals that have
    come. Raises what they raise.
    """
    if _main.pending and get_ident() == _main.ident:
        _main.deliver()


def interruptibly(function: Callable[..., T], *arguments: Any) -> T:
    """Call the user's code in the middle of a step, and let signals interrupt it."""
    if get_ident() != _main.ident:
        return function(*arguments)
    depth, suspended = _main.depth, _main.suspended
    _main.suspended = suspended or depth > 0
    _main.depth = 0
    try:
        _main.deliver()
        return function(*arguments)
    finally:
        # Assignments, for a call, as of a context manager's end, might be interrupted itself.
        _main.depth, _main.suspended = depth, suspended


def _descend(frames: int) -> None:
    if frames:
        _descend(frames - 1)


def _after_fork() -> None:
    # The thread that forked is the child's main thread; if it is another one, it is in no step.
    if get_ident() != _main.ident:
        _main.forked(get_ident())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
