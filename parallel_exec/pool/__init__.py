"""Processes that run plugins' functions: a `concurrent.futures.Executor` whose workers are sandboxes."""

from parallel_exec.pool._deployment import DeployedFunction, Deployment
from parallel_exec.pool._events import PoolEvent
from parallel_exec.pool._feed import Fed, Feed
from parallel_exec.pool._future import JobFuture
from parallel_exec.pool._par_iter import ParIter
from parallel_exec.pool._pool import Pool
from parallel_exec.pool._stats import Distribution, JobCounts, PoolStats, WorkerStats
from parallel_exec.pool._version import Version, Versioned

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
