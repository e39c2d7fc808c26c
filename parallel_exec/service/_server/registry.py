"""The deployments of a server: their plugins, the names of their functions, and the limits that calls ask for."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from parallel_exec.limits import Limits
from parallel_exec.plugins import AnyPlugin, Plugin
from parallel_exec.pool import DeployedFunction, Deployment, Pool, Version
from parallel_exec.sandbox import MemoryImage
from parallel_exec.sandbox._js.functions import functions_of, has_function
from parallel_exec.service._protocol.statuses import ServiceError
from parallel_exec.service._protocol.values import limits_from_message

_LONGEST_NAME = 200
# A pool and its workers keep each set of limits, some 500 bytes, for good.
MOST_LIMITS = 256
# How many names an error message lists.
_NAMES_SHOWN = 20


@dataclass(slots=True)
class Entry:
    """A deployment, its current version, and the functions that are known to be callable.

    Attributes:
        listed: the functions that the plugin's source names.
        known: those, and others that calls have found.
    """

    deployment: Deployment
    version: Version
    listed: list[str]
    known: set[str]


class Registry:
    """The deployments of a server. Usable by any thread; methods that may take long say so.

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
        """Deploy a plugin under a free name; under a name that has this very plugin, return what is there.

        Takes as long as the plugin takes to load.

        Raises:
            PluginError: the plugin cannot be loaded.
            JobTimeout: its load takes longer than the limits allow.
            MemoryLimitExceeded: its load needs more memory than the limits allow.
            ServiceError: the name has another plugin or is invalid, or the server has no room for more deployments.
        """
        if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
            text = f"a deployment's name must have 1 to {_LONGEST_NAME} characters, all of them printable"
            raise ServiceError(text, code="INVALID_ARGUMENT")
        if (entry := self._same(name, plugin)) is not None:
            return entry
        listed = self._load(plugin)
        with self._lock:
            if (entry := self._same(name, plugin)) is not None:  # somebody else was faster
                return entry
            if len(self._entries) >= self._most:
                text = f"there are already {self._most} deployments, the most that this server accepts"
                raise ServiceError(text, code="RESOURCE_EXHAUSTED")
            return self._deploy(name, plugin, listed)

    def swap(self, name: str, plugin: AnyPlugin, expected: int) -> Entry:
        """Replace a deployment's plugin. Takes as long as the plugin takes to load.

        Args:
            name: the deployment's.
            plugin: its next version.
            expected: number of the version to replace; 0 for any.

        Raises:
            PluginError: the plugin cannot be loaded.
            JobTimeout: its load takes longer than the limits allow.
            MemoryLimitExceeded: its load needs more memory than the limits allow.
            ServiceError: nothing is deployed under the name, or another version than expected.
        """
        listed = self._load(plugin)
        with self._lock:
            number = self.find(name).version.number
            if expected not in (0, number):
                text = f"version {number} of {name!r} is deployed, not version {expected}"
                raise ServiceError(text, code="FAILED_PRECONDITION")
            return self._deploy(name, plugin, listed)

    def remove(self, name: str) -> Entry:
        """Remove a deployment and return it.

        Raises:
            ServiceError: nothing is deployed under this name.
        """
        with self._lock:
            entry = self.find(name)
            del self._entries[name]
            self._pool.undeploy(name)
            return entry

    def find(self, name: str) -> Entry:
        """Return a deployment.

        Raises:
            ServiceError: nothing is deployed under this name.
        """
        entry = self._entries.get(name)
        if entry is None:
            known = ", ".join(sorted(self._entries)[:_NAMES_SHOWN]) or "nothing"
            raise ServiceError(f"nothing is deployed as {name!r}; there is {known}", code="NOT_FOUND")
        return entry

    def function(self, call: Any) -> DeployedFunction:
        """Return the function that a Call message names; its results are bytes.

        Takes a millisecond the first time a function is called that the plugin's source does not name.

        Raises:
            ServiceError: nothing is deployed under the name, it has no such function, or calls have come with too many
                different limits.
            ValueError: a limit is out of its range, or the plugin does not accept this kind of input.
        """
        entry = self.find(call.deployment)
        name = call.function
        if name not in entry.known:
            plugin = entry.version.plugin
            image = plugin.image(limits=self.limits)
            # A module cannot be asked which operations it has; it says so itself when it does not know one.
            if not name or (isinstance(image, MemoryImage) and not has_function(image, name, limits=self.limits)):
                names = ", ".join(entry.listed[:_NAMES_SHOWN]) or "none"
                text = f"{plugin.name}: the plugin has no function {name!r}; it has {names}"
                raise ServiceError(text, code="NOT_FOUND")
            entry.known.add(name)
        limits = limits_from_message(call.limits, self.limits)
        if limits is not None and limits not in self._called_with:
            if len(self._called_with) >= MOST_LIMITS:
                text = f"calls have come with {MOST_LIMITS} different limits so far; use one of those"
                raise ServiceError(text, code="RESOURCE_EXHAUSTED")
            self._called_with.add(limits)
        return entry.deployment.function(name, input=call.input or "json", output="bytes", limits=limits)

    def _same(self, name: str, plugin: AnyPlugin) -> Entry | None:
        """Return the deployment of this name if it has this plugin, and None if the name is free.

        Raises:
            ServiceError: the name has another plugin, which a deploy must not replace.
        """
        entry = self._entries.get(name)
        if entry is None or entry.version.plugin == plugin:
            return entry
        there, number = entry.version.plugin, entry.version.number
        what = "this plugin with other limits" if there.digest == plugin.digest else f"another plugin, {there.name},"
        text = f"{name!r} already has {what} as version {number}; use swap to replace it"
        raise ServiceError(text, code="ALREADY_EXISTS")

    def _load(self, plugin: AnyPlugin) -> list[str]:
        """Capture the plugin's image, which the pool then finds, and return the functions that its source names; a
        module cannot be asked for any.
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
