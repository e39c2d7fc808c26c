"""Which plugin a deployment's job runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from parallel_exec.plugins import AnyPlugin


@dataclass(frozen=True, slots=True)
class Version:
    """What a deployment's name stood for when a job was submitted.

    Attributes:
        deployment: the name.
        number: 1 for the first plugin that was deployed under it, and so on; never used twice.
        plugin: the plugin.
    """

    deployment: str
    number: int
    plugin: AnyPlugin

    def __str__(self) -> str:
        return f"{self.deployment} version {self.number} ({self.plugin.name})"


class Versioned(NamedTuple):
    """A result of ``Pool.map(..., versions=True)`` and the version that produced it, or None if the
    function is not deployed.
    """

    version: Version | None
    value: Any
