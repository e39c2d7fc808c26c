"""How a command fails: one line on stderr that says what went wrong and where, and an exit status.

Tracebacks are shown only with ``--debug``.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import IO

from parallel_exec.errors import PexecError

USAGE = 2
FAILURE = 1
INTERRUPTED = 130
BROKEN_PIPE = 141  # what a shell reports for a command that SIGPIPE ended


class Failure(Exception):
    """A command cannot do what it was asked to do. The text is one line for the user.

    Attributes:
        status: the exit status, `FAILURE` or `USAGE`.
    """

    def __init__(self, text: str, *, status: int = FAILURE) -> None:
        super().__init__(text)
        self.status = status


class Debug:
    """Whether ``--debug`` was given anywhere on the command line."""

    on = False


def usage(text: str) -> Failure:
    """Return the failure of a command whose arguments are wrong."""
    return Failure(text, status=USAGE)


def os_failure(what: str, error: OSError) -> Failure:
    """Return the failure of something that the operating system refused.

    >>> str(os_failure("cannot read the document doc.json", FileNotFoundError(2, "No such file or directory")))
    'cannot read the document doc.json: No such file or directory'
    """
    return Failure(f"{what}: {error.strerror or error}")


def one_line(text: str, most: int = 1000) -> str:
    r"""Return text on one line, with control characters escaped: it may come from a plugin.

    >>> one_line("bad\nnews \x1b[31m")
    'bad news \\x1b[31m'
    """
    joined = " ".join(part for part in (line.strip() for line in text.splitlines()) if part)
    escaped = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in joined)
    return escaped if len(escaped) <= most else escaped[: most - 3] + "..."


def say(text: str, kind: str = "error", file: IO[str] | None = None) -> None:
    """Write a line for the user to stderr."""
    print(f"pexec: {kind}: {one_line(text)}", file=file or sys.stderr, flush=True)


def report(error: BaseException) -> None:
    """Write the line that describes an error and, with ``--debug``, its traceback first."""
    if Debug.on:
        traceback.print_exception(error)
    if isinstance(error, MemoryError | RecursionError) and not str(error):
        say(f"out of memory or stack ({type(error).__name__})")
    elif isinstance(error, Failure | PexecError | ImportError):
        say(str(error))
    elif isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        say(f"{name}{error.strerror or error}")
    else:
        say(f"internal error: {type(error).__name__}: {error} (--debug shows where)")


def quiet_stdout() -> None:
    """Discard what stdout still buffers after a broken pipe, so that nothing complains about it at exit."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass
