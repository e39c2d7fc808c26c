"""What the figures were measured on and with."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

import parallel_exec as px

_PACKAGES = ("wasmtime", "orjson", "ormsgpack", "quickjs-ng", "mini-racer", "coincurve", "pywasm3")


def describe_machine() -> dict[str, Any]:
    """Return the machine's processor, number of CPUs that this process may use, memory, and system."""
    return {
        "cpu": _cpu(),
        "cpus": available_cpus(),
        "memory_bytes": _memory_bytes(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def describe_versions() -> dict[str, str | None]:
    """Return the versions of what takes part; None for what is not installed."""
    versions: dict[str, str | None] = {
        "parallel_exec": px.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def available_cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
