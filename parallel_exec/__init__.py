"""parallel_exec: user-supplied plugins over millions of documents, safely and on all cores."""

from typing import TYPE_CHECKING, Any

from .errors import (
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
from .function import PluginFunction
from .limits import Limits
from .plugin import Plugin
from .sandbox import JobStats, MemoryImage, Sandbox
from .wasm_plugin import WasmPlugin

if TYPE_CHECKING:
    from .pool import ParIter, Pool

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
        from . import pool

        return getattr(pool, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
