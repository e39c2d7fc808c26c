"""The futures that `Pool.submit` returns."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from .version import Version


class JobFuture(Future[Any]):
    """A `concurrent.futures.Future` that tells which version of a deployment its job runs.

    Attributes:
        version: the version, from the beginning; None if the job is of no deployment.
    """

    version: Version | None = None
