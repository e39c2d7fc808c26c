"""Which wasmtime is installed, and whether untrusted code may be run on it."""

from __future__ import annotations

from pathlib import Path

import wasmtime

# Releases below this one have known sandbox escapes or miscompilations; they are refused at import.
LEAST_WASMTIME = (50, 0, 1)


def wasmtime_version() -> str:
    """Return the installed wasmtime's version.

    The name of its metadata folder gives it in 0.1 ms; importlib.metadata takes 15 ms to import, a tenth of a short
    run.
    """
    site = Path(wasmtime.__file__).parent.parent
    for folder in site.glob("wasmtime-*.dist-info"):
        return folder.name.removeprefix("wasmtime-").removesuffix(".dist-info")
    from importlib.metadata import version

    return version("wasmtime")


def check_wasmtime(version: str) -> None:
    """Raise ImportError if untrusted code must not be run on this version of wasmtime.

    >>> check_wasmtime("50.0.1")
    >>> check_wasmtime("49.0.0")
    Traceback (most recent call last):
    ...
    ImportError: parallel_exec needs wasmtime 50.0.1 or newer (security fixes), not 49.0.0: pip install -U wasmtime
    """
    numbers = tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:3])
    if numbers < LEAST_WASMTIME:
        least = ".".join(map(str, LEAST_WASMTIME))
        raise ImportError(
            f"parallel_exec needs wasmtime {least} or newer (security fixes), not {version}: pip install -U wasmtime"
        )


check_wasmtime(wasmtime_version())
