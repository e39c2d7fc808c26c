"""What all workers of a pool share: memory images and limits, published once, handed to each worker on first use."""

from __future__ import annotations

import math
import os
import pickle
import threading

from ..limits import Limits
from ..plugin import Plugin, PluginFunction
from .channel import Kind, Shared
from .job import Target

# How many times as long as its limit a job may take whose limit is CPU time, until its worker is killed.
CPU_PATIENCE = 10


class Publisher:
    """The images and limits of a pool, and the functions that use them. Usable by any thread.

    Args:
        limits: of every job.
        by_domain: whether plugins of different domains are to be kept apart.

    Attributes:
        least_patience_s: no target's `patience_s` is less.
    """

    def __init__(self, limits: Limits, *, by_domain: bool) -> None:
        self._lock = threading.Lock()
        self._images: dict[str, tuple[Shared, ...]] = {}
        self._targets: dict[tuple[str, str], Target] = {}
        self.least_patience_s = _patience_s(limits)
        self._bounds = limits
        self._by_domain = by_domain
        self._limits = Shared.publish(Kind.LIMITS, 1, pickle.dumps(limits))
        self._open = [self._limits.fd]

    def target(self, function: PluginFunction) -> Target | None:
        """Return the function as a target for jobs, if it has been published."""
        return self._targets.get((function.plugin.digest, function.name))

    def publish(self, function: PluginFunction) -> Target:
        """Return the function as a target for jobs; its plugin is captured and published if that has not been done.

        Raises:
            PluginError: the plugin cannot be loaded, or workers cannot import its host functions.
        """
        plugin = function.plugin
        with self._lock:
            shared = self._images.get(plugin.digest) or self._publish(plugin)
            domain = plugin.domain if self._by_domain else None
            target = Target((*shared, self._limits), function, self.least_patience_s, domain)
            return self._targets.setdefault((plugin.digest, function.name), target)

    def _publish(self, plugin: Plugin) -> tuple[Shared, ...]:
        ident = len(self._images) + 1
        contents = {}
        if plugin.host:
            # By reference: the functions' modules and names. Before the image, for which workers wait.
            contents[Kind.HOST] = pickle.dumps(plugin.host)
        contents[Kind.IMAGE] = plugin.image(limits=self._bounds).to_bytes()
        shared = []
        for kind, content in contents.items():
            shared.append(Shared.publish(kind, ident, content))
            self._open.append(shared[-1].fd)
        self._images[plugin.digest] = tuple(shared)
        return self._images[plugin.digest]

    def close(self) -> None:
        """Give the memory back; workers that have it mapped keep it. Calling it again does nothing."""
        open_fds, self._open = self._open, []
        for fd in open_fds:
            os.close(fd)


def _patience_s(limits: Limits) -> float:
    if limits.time_s is None:
        return math.inf
    # What passes is all that can be seen from here: a job whose CPU time counts may have had to share the CPUs.
    return (limits.time_s + limits.grace_s) * (CPU_PATIENCE if limits.clock == "cpu" else 1)
