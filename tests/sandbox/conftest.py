"""What the sandbox's tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import parallel_exec as px


@pytest.fixture
def sandbox_of() -> Iterator[Callable[..., px.Sandbox]]:
    """Make sandboxes from source: ``sandbox_of(source, name=..., kind=..., **limits)``; they are closed at the end."""
    made: list[px.Sandbox] = []

    def make(source: str, *, name: str = "plugin.js", kind: Any = "auto", on_console: Any = None, **limits: Any) -> Any:
        plugin = px.Plugin(source, name=name, kind=kind)
        made.append(px.Sandbox(plugin, limits=px.Limits(**limits), on_console=on_console or (lambda *_: None)))
        return made[-1]

    yield make
    for sandbox in made:
        sandbox.close()
