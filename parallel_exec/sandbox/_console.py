"""Console output of a job: decoded from the guest's records and handed to Python's logging."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator

from parallel_exec.sandbox._text import read_text

log = logging.getLogger("parallel_exec.console")

_HEADER = struct.Struct("<BI")
_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}

OnConsole = Callable[[int, str], None]
"""Receives each console record: its level, as the logging module has it, and its text."""


def log_record(level: int, text: str) -> None:
    """Pass a record to the logger ``parallel_exec.console``; what a sandbox does unless told otherwise."""
    log.log(level, "%s", text)


def records(content: bytes, dropped: int) -> Iterator[tuple[int, str]]:
    """Yield the records of one job, and one more that tells how many were dropped, if any were.

    >>> list(records(b"\\x02\\x05\\x00\\x00\\x00hello", 0))
    [(20, 'hello')]
    """
    position = 0
    while position + _HEADER.size <= len(content):
        level, length = _HEADER.unpack_from(content, position)
        position += _HEADER.size
        yield _LEVELS.get(level, logging.INFO), read_text(content[position : position + length])
        position += length
    if dropped:
        yield logging.WARNING, f"{dropped} more console records were dropped: Limits.console_bytes"
