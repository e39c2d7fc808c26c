"""Deployments: plugins by name, each of which can be replaced by a new version while jobs run.

A job's version is the one that is current when the job is submitted, or when a map draws its document: not later, so
that what `Pool.deploy` returns after holds for every job that comes after, and those before finish as they began.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from parallel_exec._codec.documents import Input, Output
from parallel_exec._signals import Lock
from parallel_exec.limits import Limits
from parallel_exec.plugins import AnyPlugin, PluginFunction
from parallel_exec.pool._scheduling.job import Target
from parallel_exec.pool._version import Version

T = TypeVar("T", bound=Target)
T_co = TypeVar("T_co", bound=Target, covariant=True)


class Publishes(Protocol[T_co]):
    """What makes functions known to a pool's workers (`Publisher`, `ThreadPublisher`)."""

    def target(self, function: PluginFunction) -> T_co | None:
        """Return the function as a target for jobs, if it has been published."""

    def publish(self, function: PluginFunction, version: Version | None = None) -> T_co:
        """Return the function as a target for jobs; its plugin is captured if that has not been done."""

    def load(self, plugin: AnyPlugin, bounds: Limits | None) -> None:
        """Have the plugin captured."""

    def hold(self, plugin: AnyPlugin, bounds: Limits | None, user: object) -> None:
        """Keep the plugin's image while the user exists."""

    def give_back(self) -> list[int]:
        """Give back images that nobody uses; return their numbers."""


class Release(Generic[T]):
    """A version as long as it is current or somebody uses it, and its functions as targets for jobs."""

    def __init__(self, version: Version, publish: Callable[[PluginFunction, Version], T]) -> None:
        self.version = version
        self._publish = publish
        self._targets: dict[tuple[str, Limits | None], T] = {}

    def target(self, name: str, limits: Limits | None) -> T:
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

    def __init__(self, name: str, owner: object, release: Release[Any]) -> None:
        self.name = name
        self.owner = owner
        self.release = release

    @property
    def version(self) -> Version:
        """The current version."""
        return self.release.version

    def function(
        self, name: str, *, input: Input | None = None, output: Output = "value", limits: Limits | None = None
    ) -> DeployedFunction:
        """Return a handle to one of the functions, for ``submit``, ``map``, ``par_iter`` and so on: each
        job calls the function of that name of the version that is current when the job is submitted. Arguments as of
        `Plugin.function`.
        """
        # Raises what is wrong with the arguments, and knows how this plugin's functions are usually given documents.
        function = self.version.plugin.function(name, input=input, output=output, limits=limits)
        return DeployedFunction(self, name, function.input, output, limits)

    def __repr__(self) -> str:
        return f"<Deployment {self.version}>"


@dataclass(frozen=True, repr=False)
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
    def plugin(self) -> AnyPlugin:
        """The plugin that is current now."""
        return self.deployment.version.plugin

    def __repr__(self) -> str:
        return f"<DeployedFunction {self.name}() of {self.deployment.version}>"

    def target(self, owner: object) -> Any:
        """Return the current version's target for jobs.

        Raises:
            ValueError: the deployment is another pool's.
        """
        if self.deployment.owner is not owner:
            raise ValueError(f"the deployment {self.deployment.name!r} is another pool's")
        return self.deployment.release.target(self.name, self.limits)


class Deployments(Generic[T]):
    """What a pool can run: the functions of plugins, and those of deployments. Usable by any thread.

    Args:
        publisher: publishes them.
        published: called when there is a new target for jobs.
        forget: called with the numbers of images that have been given back.
    """

    def __init__(
        self,
        publisher: Publishes[T],
        published: Callable[[], None],
        forget: Callable[[Sequence[int]], None],
    ) -> None:
        self._publisher = publisher
        self._published = published
        self._forget = forget
        self._deployments: dict[str, Deployment] = {}
        self._numbers: dict[str, int] = {}  # of the last version of each name, also of those that were removed
        self._lock = Lock()

    def target(self, function: PluginFunction | DeployedFunction) -> T:
        """Return what the pool needs to know of a function; of a deployed one, of the version that is current.

        Raises:
            PluginError: its plugin cannot be loaded.
            ValueError: it is deployed in another pool.
        """
        if isinstance(function, DeployedFunction):
            target: T = function.target(self)
            return target
        return self._publisher.target(function) or self._publish(function)

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

    def deploy(self, name: str, plugin: AnyPlugin) -> Version:
        """Let a deployment's jobs from now on be the plugin's.

        Raises:
            PluginError: the plugin cannot be loaded; nothing has changed.
        """
        self._publisher.load(plugin, plugin.limits)
        with self._lock:
            deployment = self._deployments.get(name)
            number = self._numbers.get(name, 0) + 1
            release = Release(Version(name, number, plugin), self._publish)
            self._publisher.hold(plugin, plugin.limits, release)
            self._numbers[name] = number
            if deployment is None:
                self._deployments[name] = Deployment(name, self, release)
            else:
                deployment.release = release  # the swap
        self._give_back()
        return release.version

    def remove(self, name: str) -> Version:
        """Forget a deployment and return the version that was current.

        Raises:
            LookupError: there is none of this name.
        """
        with self._lock:
            version = self.find(name).version
            del self._deployments[name]
        self._give_back()
        return version

    def _publish(self, function: PluginFunction, version: Version | None = None) -> T:
        target = self._publisher.publish(function, version)
        self._published()
        self._give_back()
        return target

    def _give_back(self) -> None:
        gone = self._publisher.give_back()
        if gone:
            self._forget(gone)
