"""Processes that run plugins' functions: a `concurrent.futures.Executor` whose workers are sandboxes."""

from .deployment import DeployedFunction, Deployment
from .events import PoolEvent
from .feed import Fed, Feed
from .future import JobFuture
from .par_iter import ParIter
from .pool import Pool
from .stats import Distribution, JobCounts, PoolStats, WorkerStats
from .version import Version, Versioned

__all__ = [
    "DeployedFunction",
    "Deployment",
    "Distribution",
    "Fed",
    "Feed",
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
