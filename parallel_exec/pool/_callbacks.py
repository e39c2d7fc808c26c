"""What to do when code of the user's, called by the pool, raises."""

from __future__ import annotations

import logging
import sys

log = logging.getLogger("parallel_exec.pool")


def report_raised(what: str) -> None:
    """Log the exception that is being handled: even a ``sys.exit()`` in a callback is no reason to lose other jobs."""
    log.error("a callback raised: %s", what, exc_info=sys.exception())
