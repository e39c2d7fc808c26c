"""Processes that run plugins' functions: a `concurrent.futures.Executor` whose workers are sandboxes."""

from .deployment import DeployedFunction, Deployment, Version, Versioned
from .future import JobFuture
from .pool import Pool

__all__ = ["DeployedFunction", "Deployment", "JobFuture", "Pool", "Version", "Versioned"]
