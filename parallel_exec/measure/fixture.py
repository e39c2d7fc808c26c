"""The document and the plugin that `pexec bench` and `pexec profile` run by default."""

from __future__ import annotations

import hashlib
from pathlib import Path

from parallel_exec.errors import PexecError
from parallel_exec.measure.strategies import Work
from parallel_exec.plugins import Plugin

FUNCTION = "calculate"
_PACKAGE = Path(__file__).resolve().parent.parent


def fixture_path(name: str) -> Path:
    """Return the path of a shipped fixture: beside the package in a checkout, inside it in a wheel.

    Raises:
        PexecError: it is in neither place.
    """
    places = [_PACKAGE.parent / "fixtures" / name, _PACKAGE / "fixtures" / name]
    for place in places:
        if place.is_file():
            return place
    raise PexecError(f"the fixture {name} is missing; looked for {' and '.join(map(str, places))}")


def plugin_path() -> Path:
    """Return the path of the shipped plugin, which computes the length of a track."""
    return fixture_path("track_length.js")


def document_path() -> Path:
    """Return the path of the shipped document, a track of 260 points."""
    return fixture_path("track_points.json")


def is_shipped(plugin: Plugin) -> bool:
    """Tell whether a plugin has the source of the shipped one, whatever its name."""
    shipped = hashlib.sha256(plugin_path().read_bytes()).digest()
    return hashlib.sha256(plugin.source.encode("utf-8", "surrogatepass")).digest() == shipped


def is_shipped_work(work: Work) -> bool:
    """Tell whether work is the shipped plugin's function on the shipped document."""
    return work.function == FUNCTION and is_shipped(work.plugin) and work.document == document_path().read_bytes()
