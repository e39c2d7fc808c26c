"""Processes that run plugins' functions: a `concurrent.futures.Executor` whose workers are sandboxes."""

from .pool import Pool

__all__ = ["Pool"]
