"""What a server runs: its pool's deployments, the names of their functions, and the limits that calls ask for."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from parallel_exec.limits import Limits
from parallel_exec.plugins import AnyPlugin, Plugin
from parallel_exec.pool import DeployedFunction, Deployment, Pool, Version
from parallel_exec.sandbox import MemoryImage
from parallel_exec.sandbox._js.functions import functions_of, has_function
from parallel_exec.service._protocol.failures import ServiceError
from parallel_exec.service._protocol.wire import limits_from_message

# A pool and its workers keep each set of limits, some 500 bytes, for good.
MOST_LIMITS = 256


@dataclass(slots=True)
class Entry:
    """A deployment, its current version, and the functions that are known to be callable.

    Attributes:
        listed: names that the plugin's source gives.
        known: those, and what else calls have found.
    """

    deployment: Deployment
    version: Version
    listed: list[str]
    known: set[str]


class Registry:
    """The deployments of a server. Usable by any thread; what may take long says so.

    Args:
        pool: runs their jobs.
        limits: the pool's.
        most: how many there may be.
    """

    def __init__(self, pool: Pool, limits: Limits, most: int) -> None:
        self.limits = limits
        self._pool = pool
        self._most = most
        self._entries: dict[str, Entry] = {}
        self._called_with: set[Limits] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> list[Entry]:
        """Return all deployments, by name."""
        return [entry for _, entry in sorted(self._entries.items())]

    def add(self, name: str, plugin: AnyPlugin) -> Entry:
        """Deploy a plugin under a name that is free; takes as long as the plugin's load.

        Raises:
            PluginError: it cannot be loaded. JobTimeout, MemoryLimitExceeded: its load exceeds the limits.
            ServiceError: the name is taken, there are as many deployments as may be, or it is no name.
        """
        if not 1 <= len(name) <= 200 or not name.isprintable():
            text = "a deployment's name must have 1 to 200 characters, all of them printable"
            raise ServiceError(text, code="INVALID_ARGUMENT")
        listed = self._load(plugin)
        with self._lock:
            if name in self._entries:
                raise ServiceError(f"{name!r} is deployed already; swap it", code="ALREADY_EXISTS")
            if len(self._entries) >= self._most:
                text = f"there are {self._most} deployments, the most there may be"
                raise ServiceError(text, code="RESOURCE_EXHAUSTED")
            return self._deploy(name, plugin, listed)

    def swap(self, name: str, plugin: AnyPlugin, expected: int) -> Entry:
        """Replace a deployment's plugin; takes as long as the plugin's load.

        Args:
            name: the deployment's.
            plugin: its next version.
            expected: number of the version to replace; 0 for any.

        Raises:
            As `add`. ServiceError: nothing is deployed under the name, or another version.
        """
        listed = self._load(plugin)
        with self._lock:
            number = self.find(name).version.number
            if expected not in (0, number):
                text = f"version {number} of {name!r} is deployed, not version {expected}"
                raise ServiceError(text, code="FAILED_PRECONDITION")
            return self._deploy(name, plugin, listed)

    def remove(self, name: str) -> Entry:
        """Take a deployment away and return what it was.

        Raises:
            ServiceError: there is none of this name.
        """
        with self._lock:
            entry = self.find(name)
            del self._entries[name]
            self._pool.undeploy(name)
            return entry

    def find(self, name: str) -> Entry:
        """Return a deployment.

        Raises:
            ServiceError: there is none of this name.
        """
        entry = self._entries.get(name)
        if entry is None:
            known = ", ".join(sorted(self._entries)[:20]) or "nothing"
            raise ServiceError(f"nothing is deployed as {name!r}; there is {known}", code="NOT_FOUND")
        return entry

    def function(self, call: Any) -> DeployedFunction:
        """Return what a call (a Call message) is to run; its results are bytes. Takes a millisecond, once, for a
        function that the plugin's source does not name.

        Raises:
            ServiceError: nothing is deployed under the name, it has no such function, or calls come with too many
            different limits. ValueError: the limits are no limits, or the input is none that the plugin takes.
        """
        entry = self.find(call.deployment)
        name = call.function
        if name not in entry.known:
            plugin = entry.version.plugin
            image = plugin.image(limits=self.limits)
            # A module cannot be asked what operations it has; it says so itself when it does not know one.
            if not name or (isinstance(image, MemoryImage) and not has_function(image, name, limits=self.limits)):
                names = ", ".join(entry.listed[:20]) or "none"
                text = f"{plugin.name}: the plugin has no function {name!r}; it has {names}"
                raise ServiceError(text, code="NOT_FOUND")
            entry.known.add(name)
        limits = limits_from_message(call.limits, self.limits)
        if limits is not None and limits not in self._called_with:
            if len(self._called_with) >= MOST_LIMITS:
                text = f"calls came with {MOST_LIMITS} different limits so far; use one of those"
                raise ServiceError(text, code="RESOURCE_EXHAUSTED")
            self._called_with.add(limits)
        return entry.deployment.function(name, input=call.input or "json", output="bytes", limits=limits)

    def _load(self, plugin: AnyPlugin) -> list[str]:
        """Capture the plugin's image, which the pool then finds captured, and return its functions, if it can be asked
        for them.
        """
        image = plugin.image(limits=self.limits)
        if not (isinstance(plugin, Plugin) and isinstance(image, MemoryImage)):
            return []
        return functions_of(image, source=plugin.source, limits=self.limits)

    def _deploy(self, name: str, plugin: AnyPlugin, listed: list[str]) -> Entry:
        version = self._pool.deploy(name, plugin)
        entry = Entry(self._pool.deployment(name), version, listed, set(listed))
        self._entries[name] = entry
        return entry
