"""parallel_exec: user-supplied JavaScript plugins over millions of JSON documents, safely and on all cores."""

from .errors import (
    FuelExhausted,
    InvalidDocument,
    JobTimeout,
    JSError,
    MemoryLimitExceeded,
    OutputTooLarge,
    PexecError,
    PluginError,
    WorkerCrashed,
)
from .limits import Limits
from .plugin import Plugin, PluginFunction
from .pool import Pool
from .sandbox import MemoryImage, Sandbox

__all__ = [
    "FuelExhausted",
    "InvalidDocument",
    "JSError",
    "JobTimeout",
    "Limits",
    "MemoryImage",
    "MemoryLimitExceeded",
    "OutputTooLarge",
    "PexecError",
    "Plugin",
    "PluginError",
    "PluginFunction",
    "Pool",
    "Sandbox",
    "WorkerCrashed",
]
