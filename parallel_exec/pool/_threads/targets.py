"""Functions as a pool of threads knows them: there is nothing to publish."""

from __future__ import annotations

from parallel_exec.limits import Limits
from parallel_exec.plugins import AnyPlugin, PluginFunction
from parallel_exec.pool._scheduling.job import Target
from parallel_exec.pool._version import Version


class ThreadTarget(Target):
    """A function as worker threads know it.

    Attributes:
        calls: its name.
        owner: its plugin.
        bounds: on its jobs.
    """

    __slots__ = ("bounds", "calls", "owner")

    def __init__(self, function: PluginFunction, bounds: Limits, version: Version | None) -> None:
        super().__init__(function, version)
        self.calls = function.name
        self.owner = function.plugin
        self.bounds = bounds


class ThreadPublisher:
    """What `Publisher` is to a pool of processes, and with its methods."""

    def __init__(self, limits: Limits) -> None:
        """Begin with nothing; the limits are the pool's."""
        self._limits = limits
        self._targets: dict[tuple[str, str, Limits | None], ThreadTarget] = {}

    def target(self, function: PluginFunction) -> ThreadTarget | None:
        """Return the function as a target for jobs, if it has been published."""
        return self._targets.get((function.plugin.digest, function.name, function.bounds))

    def publish(self, function: PluginFunction, version: Version | None = None) -> ThreadTarget:
        """Return the function as a target for jobs; its plugin is captured if that has not been done.

        Raises:
            PluginError: the plugin cannot be loaded.
        """
        self.load(function.plugin, function.bounds)
        target = ThreadTarget(function, Limits.tightest(self._limits, function.bounds), version)
        if version is None:
            key = function.plugin.digest, function.name, function.bounds
            return self._targets.setdefault(key, target)
        return target

    def load(self, plugin: AnyPlugin, bounds: Limits | None) -> None:
        """Have the plugin captured.

        Raises:
            PluginError: the plugin cannot be loaded.
        """
        plugin.image(limits=Limits.tightest(self._limits, bounds))

    def hold(self, plugin: AnyPlugin, bounds: Limits | None, user: object) -> None:
        """Nothing is given back, so nothing has to be held."""

    def give_back(self) -> list[int]:
        """Nothing."""
        return []
