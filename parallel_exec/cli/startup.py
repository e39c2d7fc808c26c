"""What a process of `pexec` sets up before it runs a command: the garbage collector, Ctrl-C and SIGTERM.

Imports make some 200,000 objects that live until the end. The collector walks them again and again while they are
made, and three times at exit: together a quarter of a run on one small document (175 ms against 139 ms).

Python handles a signal between two bytecodes of the main thread, but a sandbox's job is a single call that may last
until its deadline. So a thread is told of the signal as well; if the main thread has not reacted shortly after, it is
inside such a call, and the thread ends the process in its place.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from parallel_exec.cli.failures import INTERRUPTED

GRACE_S = 0.1

unfinished: set[str] = set()
"""Temporary files that must not be left behind."""


def begin() -> None:
    """Stop collecting garbage: nothing that imports make is garbage."""
    gc.disable()


def ready() -> None:
    """Collect garbage from now on, but never look at what the imports have made."""
    gc.freeze()
    gc.enable()


class Terminated(BaseException):
    """SIGTERM, as an exception, so that temporary files and workers are removed before the process ends."""


_noticed = threading.Event()


def _on_interrupt(_number: int, _frame: FrameType | None) -> None:
    _noticed.set()
    raise KeyboardInterrupt


def _on_terminate(_number: int, _frame: FrameType | None) -> None:
    _noticed.set()
    raise Terminated


def handle_signals() -> None:
    """Handle SIGINT and SIGTERM from now on. To be called once, by the main thread."""
    signal.signal(signal.SIGINT, _on_interrupt)
    signal.signal(signal.SIGTERM, _on_terminate)
    if os.name != "posix":
        return
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(read_end,), name="pexec signals", daemon=True).start()


def _listen(read_end: int) -> None:
    while True:
        number = os.read(read_end, 1)[0]
        if number in (signal.SIGINT, signal.SIGTERM) and not _noticed.wait(GRACE_S):
            _end(number)


def _end(number: int) -> None:
    for path in list(unfinished):
        try:
            Path(path).unlink()
        except OSError:
            continue
    if number == signal.SIGINT:
        print("pexec: interrupted", file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)
    os._exit(128 + number)
