"""What figures were measured on, and with which versions."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

import parallel_exec
from parallel_exec._cpus import usable_cpus

_PACKAGES = ("wasmtime", "orjson", "ormsgpack", "quickjs-ng", "mini-racer", "coincurve", "pywasm3", "grpcio")


def describe_machine() -> dict[str, Any]:
    """Return the machine's processor, the number of CPUs that this process may use, memory, system, and load."""
    return {
        "cpu": _cpu(),
        "cpus": usable_cpus(),
        "memory_bytes": _memory_bytes(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def describe_versions() -> dict[str, str | None]:
    """Return the versions of all packages that take part; None for those that are not installed."""
    versions: dict[str, str | None] = {
        "parallel_exec": parallel_exec.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


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
