"""Console output of a job, which goes to Python's logging unless told otherwise."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

log = logging.getLogger("parallel_exec.console")

OnConsole = Callable[[int, str], None]
"""Receives each console record: its level, as the logging module has it, and its text."""


def log_record(level: int, text: str) -> None:
    """Pass a record to the logger ``parallel_exec.console``; the default of a sandbox."""
    log.log(level, "%s", text)


def hand_out(records: Iterable[tuple[int, str]], dropped: int, on_console: OnConsole) -> None:
    """Give one job's records to `on_console`, and one more that says how many were dropped, if any were."""
    for level, text in records:
        on_console(level, text)
    if dropped:
        on_console(logging.WARNING, f"{dropped} more console records were dropped: Limits.console_bytes")
