"""parallel_exec: user-supplied plugins over millions of documents, safely and on all cores."""

from typing import TYPE_CHECKING, Any

from parallel_exec.errors import (
    FuelExhausted,
    InvalidDocument,
    JobTimeout,
    JSError,
    MemoryLimitExceeded,
    OutputTooLarge,
    PexecError,
    PluginError,
    WasmError,
    WorkerCrashed,
)
from parallel_exec.limits import Limits
from parallel_exec.plugins._function import PluginFunction
from parallel_exec.plugins._javascript import Plugin
from parallel_exec.plugins._wasm import WasmPlugin
from parallel_exec.sandbox import JobStats, MemoryImage, Sandbox

if TYPE_CHECKING:
    from parallel_exec.pool import ParIter, Pool

__all__ = [
    "FuelExhausted",
    "InvalidDocument",
    "JSError",
    "JobStats",
    "JobTimeout",
    "Limits",
    "MemoryImage",
    "MemoryLimitExceeded",
    "OutputTooLarge",
    "ParIter",
    "PexecError",
    "Plugin",
    "PluginError",
    "PluginFunction",
    "Pool",
    "Sandbox",
    "WasmError",
    "WasmPlugin",
    "WorkerCrashed",
]


def __getattr__(name: str) -> Any:
    # A program that runs a plugin on one document needs no processes: what starts them is imported on first use.
    if name in ("ParIter", "Pool"):
        from parallel_exec import pool

        return getattr(pool, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
