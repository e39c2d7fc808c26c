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
from parallel_exec.plugins import Plugin, PluginFunction, WasmPlugin
from parallel_exec.sandbox import JobStats, MemoryImage, Sandbox

if TYPE_CHECKING:
    from parallel_exec.pool import ParIter, Pool

    __version__: str

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
    "__version__",
]


def __getattr__(name: str) -> Any:
    # A program that runs a plugin on one document needs no processes: what starts them is imported on first use.
    if name in ("ParIter", "Pool"):
        from parallel_exec import pool

        return getattr(pool, name)
    if name == "__version__":
        from importlib import metadata  # takes 15 ms

        try:
            return metadata.version("parallel_exec")
        except metadata.PackageNotFoundError:
            return "0+not.installed"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
