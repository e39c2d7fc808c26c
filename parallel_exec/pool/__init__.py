"""Processes that run plugins' functions: a `concurrent.futures.Executor` whose workers are sandboxes."""

from .par_iter import ParIter
from .pool import Pool

__all__ = ["ParIter", "Pool"]
