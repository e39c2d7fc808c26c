"""Processes that run plugins' functions: a `concurrent.futures.Executor` whose workers are sandboxes."""

from .deployment import DeployedFunction, Deployment
from .events import PoolEvent
from .future import JobFuture
from .par_iter import ParIter
from .pool import Pool
from .stats import Distribution, JobCounts, PoolStats, WorkerStats
from .version import Version, Versioned

__all__ = [
    "DeployedFunction",
    "Deployment",
    "Distribution",
    "JobCounts",
    "JobFuture",
    "ParIter",
    "Pool",
    "PoolEvent",
    "PoolStats",
    "Version",
    "Versioned",
    "WorkerStats",
]
