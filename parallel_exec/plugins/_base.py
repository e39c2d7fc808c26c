"""What plugins have in common, whatever they are written in, and the images of them that this process keeps."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from typing import ClassVar

from parallel_exec._codec.documents import Input, Output
from parallel_exec._reprs import options
from parallel_exec.host import HostFunction, HostFunctions
from parallel_exec.limits import Limits, check_limits
from parallel_exec.plugins._function import PluginFunction
from parallel_exec.sandbox import Image

# A plugin chooses how large its image is, up to Limits.memory_bytes.
_KEPT_IMAGES = 32
_KEPT_BYTES = 256 << 20


class AnyPlugin(ABC):
    """What plugins have in common, be they JavaScript or WebAssembly: small picklable values that a sandbox or a pool
    runs.

    Attributes:
        name: the plugin's name, for messages.
        host: Python functions that it may call, by name.
        domain: whose plugin it is, or None.
        limits: bounds on its jobs, or None.
        inputs: the ways in which documents can be given to its functions, the usual one first.
    """

    name: str
    host: Mapping[str, HostFunction]
    domain: str | None
    limits: Limits | None
    inputs: ClassVar[tuple[Input, ...]]

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256, in hex, of everything that makes the plugin what it is; what bounds its jobs is no part of that."""

    @abstractmethod
    def capture(self, limits: Limits) -> Image:
        """Load the plugin and return its image, anew.

        Raises:
            PluginError: the plugin cannot be loaded. JobTimeout, MemoryLimitExceeded, FuelExhausted: the load exceeds
            the limits.
        """

    def image(self, *, limits: Limits | None = None) -> Image:
        """Return the plugin's image, the one that this process has captured before, if it has.

        Args:
            limits: bounds on the load, in addition to the plugin's own. What they pin, chance and time, is pinned for
                the plugin's top level, too.

        Raises:
            As `capture`.
        """
        return _images.get(self, Limits.tightest(limits, self.limits))

    def function(
        self, name: str, *, input: Input | None = None, output: Output = "value", limits: Limits | None = None
    ) -> PluginFunction:
        """Return a handle to one of the plugin's functions; whether it exists is found out at the first call.

        Args:
            name: of the function.
            input: what documents are (see the kinds of plugin); by default the first of `inputs`.
            output: ``"value"`` to get results as Python values, ``"bytes"`` to get them encoded, ``"numpy"`` to get
                those that are bytes or arrays as NumPy arrays.
            limits: bounds on the calls through this handle, in addition to all others.
        """
        return PluginFunction(self, name, input or self.inputs[0], output, limits)

    def __repr__(self) -> str:
        return f"<{', '.join([f'{type(self).__name__} {self.name!r}', *options(self)])}>"  # type: ignore[arg-type]

    def _check(self) -> None:
        """Check what all plugins are given."""
        kind = type(self).__name__
        if not isinstance(self.name, str):
            raise TypeError(f"{kind}.name must be a str, not {type(self.name).__name__}")
        if not isinstance(self.host, HostFunctions):
            if not isinstance(self.host, Mapping):
                raise TypeError(f"{kind}.host must map names to functions, not {type(self.host).__name__}")
            object.__setattr__(self, "host", HostFunctions(self.host))
        if self.domain is not None and not isinstance(self.domain, str):
            raise TypeError(f"{kind}.domain must be a str or None, not {type(self.domain).__name__}")
        check_limits(self.limits, f"{kind}.limits")


class _Images:
    """The images captured in this process, the most recently used last."""

    def __init__(self) -> None:
        self._images: OrderedDict[tuple[AnyPlugin, int | None, float | None], Image] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, plugin: AnyPlugin, limits: Limits) -> Image:
        key = plugin, limits.seed, limits.time
        with self._lock:
            image = self._images.get(key)
            if image is not None:
                self._images.move_to_end(key)
                return image
        image = plugin.capture(limits)
        with self._lock:
            self._images[key] = image
            sizes = [sum(len(content) for _address, content in each.runs) for each in self._images.values()]
            while len(sizes) > _KEPT_IMAGES or (len(sizes) > 1 and sum(sizes) > _KEPT_BYTES):
                self._images.popitem(last=False)
                del sizes[0]
        return image


_images = _Images()
