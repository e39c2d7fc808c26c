"""What jobs of bench/pool/faults.py do, as functions that any pool's workers can import.

The peers run them as they are. In ours a plugin calls them as host functions, so that the same Python misbehaves in the
same place, but for `echo`, `eat` and `hold`, which are JavaScript there: that is what a plugin can do by itself.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import parallel_exec as px


def echo(value: Any) -> Any:
    """Return the value."""
    return value


def nap(value: Any) -> Any:
    """Return the value a little later."""
    time.sleep(0.05)
    return value


def announce(folder: str) -> None:
    """Tell which process has begun the job: a file of its number."""
    Path(folder, str(os.getpid())).touch()


def hold(folder: str) -> NoReturn:
    """Never end."""
    announce(folder)
    while True:
        pass


def eat(_: Any) -> NoReturn:
    """Take memory without end."""
    taken = []
    while True:
        taken.append(bytearray(1 << 20))


def leave(_: Any) -> NoReturn:
    """End the process."""
    os._exit(3)


def unsendable(_: Any) -> Any:
    """Return what has no pickle."""
    return threading.Lock()


def unpicklable(_: Any) -> NoReturn:
    """Raise what has no pickle."""
    raise ValueError(threading.Lock())


class NeedsTwo(Exception):
    """Can be pickled, but not unpickled: its arguments are not those that it was made of."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


def unloadable(_: Any) -> NoReturn:
    """Raise what has a pickle that cannot be loaded."""
    raise NeedsTwo("first", "second")


PLUGIN = px.Plugin(
    """
    const echo = value => value;
    function hold(folder) { announce(folder); for (;;); }
    function eat() { const taken = []; for (;;) taken.push(new Uint8Array(1 << 20).fill(1)) }
    """,
    name="faults.js",
    host={
        "announce": announce,
        "leave": leave,
        "nap": nap,
        "unloadable": unloadable,
        "unpicklable": unpicklable,
        "unsendable": unsendable,
    },
)
