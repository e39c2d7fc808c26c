"""Deployments: plugins by name, each of which can be replaced by a new version while jobs run.

A job's version is the one that is current when the job is submitted, or when a map draws its document: not later, so
that what `Pool.deploy` returns after holds for every job that comes after, and those before finish as they began.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..documents import Input, Output
from ..limits import Limits
from ..plugin import Plugin, PluginFunction
from .job import Target


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
    plugin: Plugin

    def __str__(self) -> str:
        return f"{self.deployment} version {self.number} ({self.plugin.name})"


class Versioned(NamedTuple):
    """A result of ``Pool.map(..., versions=True)`` and the version that it is of; None outside of deployments."""

    version: Version | None
    value: Any


Publish = Callable[[PluginFunction, Version], Target]


class Release:
    """A version as long as it is current or somebody uses it, and its functions as targets for jobs."""

    def __init__(self, version: Version, publish: Publish) -> None:
        self.version = version
        self._publish = publish
        self._targets: dict[tuple[str, Limits | None], Target] = {}

    def target(self, name: str, limits: Limits | None) -> Target:
        """Return the target of a function, which is published if that has not been done."""
        target = self._targets.get((name, limits))
        if target is None:
            function = self.version.plugin.function(name, limits=limits)
            target = self._targets.setdefault((name, limits), self._publish(function, self.version))
        return target


class Deployment:
    """A name under which a pool runs whichever plugin was deployed last; ``Pool.deployment(name)`` gives it.

    Attributes:
        name: the name.

    Args:
        name: the name.
        owner: of whose pool it is.
        release: the first version.
    """

    def __init__(self, name: str, owner: object, release: Release) -> None:
        self.name = name
        self.owner = owner
        self.release = release

    @property
    def version(self) -> Version:
        """The current version."""
        return self.release.version

    def function(
        self, name: str, *, input: Input = "json", output: Output = "value", limits: Limits | None = None
    ) -> DeployedFunction:
        """Return a handle to one of the functions, for ``submit`` and ``map`` of this pool: each job calls the function
        of that name of the version that is current when the job is submitted. Arguments as of `Plugin.function`.
        """
        PluginFunction(self.version.plugin, name, input, output, limits)  # raises what is wrong with the arguments
        return DeployedFunction(self, name, input, output, limits)

    def __repr__(self) -> str:
        return f"<Deployment {self.version}>"


@dataclass(frozen=True)
class DeployedFunction:
    """One function of a deployment. It cannot be pickled or called: it is the pool's.

    Attributes:
        deployment: whose function it is.
        name, input, output, limits: as of `Plugin.function`.
    """

    deployment: Deployment
    name: str
    input: Input
    output: Output
    limits: Limits | None

    @property
    def plugin(self) -> Plugin:
        """The plugin that is current now."""
        return self.deployment.version.plugin

    def target(self, owner: object) -> Target:
        """Return the current version's target for jobs.

        Raises:
            ValueError: the deployment is another pool's.
        """
        if self.deployment.owner is not owner:
            raise ValueError(f"the deployment {self.deployment.name!r} is another pool's")
        return self.deployment.release.target(self.name, self.limits)


class Deployments:
    """The deployments of a pool. `replace` is for one thread at a time.

    Args:
        owner: of whose pool.
    """

    def __init__(self, owner: object) -> None:
        self._owner = owner
        self._deployments: dict[str, Deployment] = {}

    def find(self, name: str) -> Deployment:
        """Return a deployment.

        Raises:
            LookupError: there is none of this name.
        """
        try:
            return self._deployments[name]
        except KeyError:
            known = ", ".join(sorted(self._deployments)) or "none"
            raise LookupError(f"nothing is deployed as {name!r}; there is {known}") from None

    def replace(self, name: str, plugin: Plugin, publish: Publish) -> Release:
        """Make the plugin the deployment's current version; return its release."""
        deployment = self._deployments.get(name)
        number = 1 if deployment is None else deployment.version.number + 1
        release = Release(Version(name, number, plugin), publish)
        if deployment is None:
            self._deployments[name] = Deployment(name, self._owner, release)
        else:
            deployment.release = release  # the swap
        return release
