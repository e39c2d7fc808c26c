"""What to do when code of the user's, called by the pool, raises."""

from __future__ import annotations

import logging
import sys
import threading

log = logging.getLogger("parallel_exec.pool")


def report_raised(what: str) -> None:
    """Log the exception that is being handled: even a ``sys.exit()`` in a callback is no reason to lose other jobs.
    Ctrl-C, which only the main thread gets, goes on.
    """
    if threading.current_thread() is threading.main_thread() and isinstance(sys.exception(), KeyboardInterrupt):
        raise
    log.exception("a callback raised: %s", what)
