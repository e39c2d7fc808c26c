"""What is public: modules whose dotted path has no part that begins with an underscore, and the names that they list.

The packages behind the command ``pexec`` are programs: they are not public, and their docstrings say so.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import parallel_exec as px

PROGRAMS = ("cli", "measure", "queue", "verify")

PUBLIC = {
    "parallel_exec": [
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
    ],
    "parallel_exec.errors": [
        "FuelExhausted",
        "InvalidDocument",
        "JSError",
        "JobTimeout",
        "MemoryLimitExceeded",
        "OutputTooLarge",
        "PexecError",
        "PluginError",
        "WasmError",
        "WorkerCrashed",
    ],
    "parallel_exec.host": ["HostFunction", "HostFunctions"],
    "parallel_exec.limits": ["Limits"],
    "parallel_exec.plugins": ["AnyPlugin", "Plugin", "PluginFunction", "WasmPlugin"],
    "parallel_exec.pool": [
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
    ],
    "parallel_exec.pool.prometheus": ["PoolCollector"],
    "parallel_exec.sandbox": ["Engine", "Image", "JobStats", "MemoryImage", "Sandbox", "WasmImage", "load_image"],
    "parallel_exec.service": [
        "Client",
        "Deployed",
        "Result",
        "Server",
        "ServerOptions",
        "ServiceError",
        "ServiceStats",
    ],
}


def is_public(name: str) -> bool:
    parts = name.split(".")[1:]
    return not any(part.startswith("_") for part in parts) and (not parts or parts[0] not in PROGRAMS)


def public_modules() -> list[str]:
    found = pkgutil.walk_packages(px.__path__, "parallel_exec.")
    return [name for name in ("parallel_exec", *(module.name for module in found)) if is_public(name)]


def test_public_modules() -> None:
    assert sorted(public_modules()) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(module.__all__) == PUBLIC[name]
    if name == "parallel_exec.service":
        pytest.importorskip("grpc", reason="the extra 'service'")
    for each in module.__all__:
        assert getattr(module, each) is not None


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_say_that_they_are_not_public(name: str) -> None:
    text = importlib.import_module(f"parallel_exec.{name}").__doc__ or ""
    assert "A program, not part of the public API." in text


def test_dir_shows_the_public_names() -> None:
    assert dir(px) == sorted(px.__all__)


def test_the_version() -> None:
    from importlib import metadata

    try:
        assert px.__version__ == metadata.version("parallel_exec")
    except metadata.PackageNotFoundError:
        assert px.__version__ == "0+not.installed"


def test_importing_needs_neither_metadata_nor_processes() -> None:
    program = (
        "import parallel_exec, sys\n"
        "print([name for name in ('importlib.metadata', 'parallel_exec.pool') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
