"""Pools that nobody has shut down when the interpreter exits, and pools that a fork has copied."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import Protocol


class OpenPool(Protocol):
    """A pool that has to end before the interpreter does."""

    def close_soon(self) -> None: ...
    def abort(self) -> None: ...
    def join(self) -> None: ...
    def forget(self) -> None: ...


_open: weakref.WeakSet[OpenPool] = weakref.WeakSet()


def register(pool: OpenPool) -> None:
    """Remember an open pool, without keeping it."""
    _open.add(pool)


def unregister(pool: OpenPool) -> None:
    """Forget a pool that has ended."""
    _open.discard(pool)


def _at_exit() -> None:
    # What is pending is finished first, as concurrent.futures does; but after an uncaught Ctrl-C the user wants out.
    interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
    pools = list(_open)
    for pool in pools:
        if interrupted:
            pool.abort()
        else:
            pool.close_soon()
    for pool in pools:
        pool.join()


def _after_fork() -> None:
    for pool in list(_open):
        pool.forget()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
