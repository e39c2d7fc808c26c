"""What all workers of a pool share: memory images and limits, published once, handed to each worker on first use, and
given back when nobody uses them.
"""

from __future__ import annotations

import math
import os
import pickle
import weakref
from collections import OrderedDict

from parallel_exec._signals import Lock
from parallel_exec.limits import Limits
from parallel_exec.plugins import AnyPlugin, PluginFunction
from parallel_exec.pool._scheduling.process_target import ProcessTarget
from parallel_exec.pool._transport.channel import RecordKind, Shared
from parallel_exec.pool._version import Version

# Bytes of images that stay published although nobody uses them, the most recently published last.
KEPT_IMAGE_BYTES = 32 << 20

ImageKey = tuple[str, int | None, float | None]
TargetKey = tuple[str, str, Limits | None]


class PublishedImage:
    """A plugin's memory image, and by reference its host functions, in shared memory.

    Attributes:
        ident: number under which workers know it, never used twice.
        shared: what is published.
        size: bytes of it.
        users: who needs it, while they exist: targets of jobs, and versions of deployments.
    """

    def __init__(self, ident: int, plugin: AnyPlugin, limits: Limits) -> None:
        """Capture and publish.

        Raises:
            PluginError: the plugin cannot be loaded, or workers cannot import its host functions.
            OSError: there is no memory or no descriptor left.
        """
        self.ident = ident
        self.users: weakref.WeakSet[object] = weakref.WeakSet()
        contents = {}
        if plugin.host:
            # By reference: the functions' modules and names. Before the image, for which workers wait.
            contents[RecordKind.HOST] = pickle.dumps(plugin.host)
        contents[RecordKind.IMAGE] = plugin.image(limits=limits).to_bytes()
        self.size = sum(map(len, contents.values()))
        self.shared: tuple[Shared, ...] = ()
        for kind, content in contents.items():
            self.shared += (Shared.publish(kind, ident, content),)

    def close(self) -> None:
        """Give the memory back; workers that have it mapped keep it."""
        shared, self.shared = self.shared, ()
        for each in shared:
            os.close(each.fd)


class Publisher:
    """The images and limits of a pool, and the functions that use them. Usable by any thread.

    Args:
        limits: of every job, at the widest.
        by_domain: whether plugins of different domains are to be kept apart.

    Attributes:
        least_patience_s: no target's `patience_s` is less.
    """

    def __init__(self, limits: Limits, *, by_domain: bool) -> None:
        self._lock = Lock()
        self._images: OrderedDict[ImageKey, PublishedImage] = OrderedDict()
        self._last_image = 0
        self._targets: dict[TargetKey, ProcessTarget] = {}
        self._limits: dict[Limits, Shared] = {}
        self._bounds = limits
        self._by_domain = by_domain
        self._closed = False
        self.least_patience_s = math.inf

    def target(self, function: PluginFunction) -> ProcessTarget | None:
        """Return the function as a target for jobs, if it has been published."""
        return self._targets.get((function.plugin.digest, function.name, function.bounds))

    def publish(self, function: PluginFunction, version: Version | None = None) -> ProcessTarget:
        """Return the function as a target for jobs; its plugin is captured and published if that has not been done.

        Args:
            version: what its results are to tell; the target is then the caller's, and `target` does not find it.

        Raises:
            PluginError: the plugin cannot be loaded, or workers cannot import its host functions.
        """
        plugin, bounds = function.plugin, function.bounds
        while True:
            image = self.image(plugin, bounds)
            with self._lock:
                if self._closed:
                    raise RuntimeError("cannot schedule new futures after shutdown")
                if not image.shared:
                    continue  # another thread has found it unused in between
                target = self._target(function, image, version)
                if version is None:
                    target = self._targets.setdefault((plugin.digest, function.name, bounds), target)
                image.users.add(target)
                return target

    def _target(self, function: PluginFunction, image: PublishedImage, version: Version | None) -> ProcessTarget:
        limits = Limits.tightest(self._bounds, function.bounds)
        shared = self._limits.get(limits)
        if shared is None:
            shared = Shared.small(RecordKind.LIMITS, len(self._limits) + 1, pickle.dumps(limits))
            self._limits[limits] = shared
        patience_s = math.inf if limits.time_s is None else limits.time_s + limits.grace_s
        self.least_patience_s = min(self.least_patience_s, patience_s)
        domain = function.plugin.domain if self._by_domain else None
        return ProcessTarget((*image.shared, shared), function, patience_s, domain, version)

    def image(self, plugin: AnyPlugin, bounds: Limits | None) -> PublishedImage:
        """Return the plugin's published image; whoever needs it for longer than a call adds itself to its users.

        Args:
            bounds: of the jobs, in addition to the pool's.

        Raises:
            PluginError: the plugin cannot be loaded, or workers cannot import its host functions.
        """
        limits = Limits.tightest(self._bounds, bounds)
        key = plugin.digest, limits.seed, limits.time
        with self._lock:
            image = self._images.get(key)
            if image is not None:
                self._images.move_to_end(key)
                return image
            self._last_image += 1
            ident = self._last_image
        new = PublishedImage(
            ident, plugin, limits
        )  # may take as long as the plugin's load is allowed to: not under the lock
        with self._lock:
            image = self._images.setdefault(key, new)
            if image is not new or self._closed:
                new.close()
            return image

    def load(self, plugin: AnyPlugin, bounds: Limits | None) -> None:
        """As `image`, for its errors."""
        self.image(plugin, bounds)

    def hold(self, plugin: AnyPlugin, bounds: Limits | None, user: object) -> None:
        """Keep the plugin's image while the user exists."""
        self.image(plugin, bounds).users.add(user)

    def give_back(self) -> list[int]:
        """Give back images that nobody uses, the oldest first, until no more than `KEPT_IMAGE_BYTES` are left or the
        rest is in use; return their numbers.
        """
        with self._lock:
            return self._drop_unused()

    def _drop_unused(self) -> list[int]:
        gone = []
        total = sum(image.size for image in self._images.values())
        for key, image in list(self._images.items())[:-1]:
            if total <= KEPT_IMAGE_BYTES:
                break
            for function in [each for each, target in self._targets.items() if target.image == image.ident]:
                del self._targets[function]  # whoever holds the target goes on using it
            if not image.users:
                del self._images[key]
                image.close()
                gone.append(image.ident)
                total -= image.size
        return gone

    def close(self) -> None:
        """Give all memory back; workers that have it mapped keep it. Calling it again does nothing."""
        self._closed = True
        # Without the lock, which another thread may hold for good where a fork closes its copy.
        for image in list(self._images.values()):
            image.close()
