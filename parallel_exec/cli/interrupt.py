"""Ctrl-C and SIGTERM, also while JavaScript runs in this process.

Python handles a signal between two bytecodes of the main thread, and a job of a sandbox is one call that may last
until its deadline. So a thread hears of the signal, too; if the main thread has not taken notice shortly after, it is
in such a call, and the thread ends the process in its stead.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

from parallel_exec.cli.failures import INTERRUPTED

GRACE_S = 0.1

unfinished: set[str] = set()
"""Temporary files that must not stay behind."""


class Terminated(BaseException):
    """SIGTERM, as an exception, so that temporary files and workers go away before the process does."""


_noticed = threading.Event()


def _on_interrupt(_number: int, _frame: FrameType | None) -> None:
    _noticed.set()
    raise KeyboardInterrupt


def _on_terminate(_number: int, _frame: FrameType | None) -> None:
    _noticed.set()
    raise Terminated


def install() -> None:
    """Handle SIGINT and SIGTERM from now on. Only the main thread may call this, once."""
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
            os.unlink(path)
        except OSError:
            continue
    if number == signal.SIGINT:
        print("pexec: interrupted", file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)
    os._exit(128 + number)
