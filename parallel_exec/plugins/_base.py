"""What plugins have in common, whatever they are written in, and handles to their functions.

This process keeps the images of the plugins that it used last, and each thread a few sandboxes for direct calls.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from parallel_exec._codec.documents import Input, Output
from parallel_exec._reprs import options
from parallel_exec.errors import PluginError
from parallel_exec.host import HostFunction, HostFunctions
from parallel_exec.limits import Limits, check_limits
from parallel_exec.sandbox import Image, Sandbox

# A plugin chooses how large its image is, up to Limits.memory_bytes.
_KEPT_IMAGES = 32
_KEPT_BYTES = 256 << 20
# In each thread. A sandbox may keep tens of MiB after a large document (KEEP_MEMORY of sandbox/_js/runner.py); one that
# is dropped costs its next call about 1 ms. Few threads alternate between more plugins than this.
_KEPT_SANDBOXES = 8


class AnyPlugin(ABC):
    """A plugin, in JavaScript or WebAssembly: a small picklable value that a sandbox or a pool runs.

    Attributes:
        name: the plugin's name, for messages.
        host: Python functions that it may call, by name.
        domain: whose plugin it is, or None.
        limits: bounds on its jobs, or None.
        inputs: the ways in which its functions can be given documents, the default first.
    """

    name: str
    host: Mapping[str, HostFunction]
    domain: str | None
    limits: Limits | None
    inputs: ClassVar[tuple[Input, ...]]

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256, in hex, of everything that makes the plugin what it is; limits are not part of that."""

    @abstractmethod
    def capture(self, limits: Limits) -> Image:
        """Load the plugin and return a new image of it.

        Raises:
            PluginError: the plugin cannot be loaded.
            JobTimeout: the load takes longer than the limits allow.
            FuelExhausted: it takes more instructions than they allow.
            MemoryLimitExceeded: it takes more memory than they allow.
        """

    def image(self, *, limits: Limits | None = None) -> Image:
        """Return the plugin's image; this process captures it once and keeps it for a while.

        Args:
            limits: bounds on the load, in addition to the plugin's own. A seed and a time that they pin hold for the
                plugin's top level, too.

        Raises:
            PexecError: as `capture`.
        """
        return kept_images.get(self, Limits.tightest(limits, self.limits))

    def function(
        self, name: str, *, input: Input | None = None, output: Output = "value", limits: Limits | None = None
    ) -> PluginFunction:
        """Return a handle to one of the plugin's functions; the first call finds out whether it exists.

        Args:
            name: of the function.
            input: what documents are (see the kinds of plugin); by default the first of `inputs`.
            output: ``"value"`` for results as Python values, ``"bytes"`` for encoded results, ``"numpy"`` for results
                that are bytes or arrays as NumPy arrays.
            limits: bounds on the calls through this handle, in addition to all others.

        Raises:
            TypeError: the name is not a non-empty str, or `limits` are not limits.
            ValueError: the plugin has no such `input`, or there is no such `output`.
        """
        return PluginFunction(self, name, input or self.inputs[0], output, limits)

    @staticmethod
    def _read(path: str | os.PathLike[str]) -> bytes:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise PluginError(f"cannot read the plugin: {error.strerror}").at(plugin=os.fspath(path)) from None

    def __repr__(self) -> str:
        return f"<{', '.join([f'{type(self).__name__} {self.name!r}', *options(self)])}>"  # type: ignore[arg-type]

    def _check(self) -> None:
        """Check the options that all plugins have."""
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


@dataclass(frozen=True, repr=False)
class PluginFunction:
    """One function of a plugin. Calling it runs it in this thread's sandbox, under its own and its plugin's limits or
    the default ones; a pool runs it in a worker: ``pool.submit(function, document)``.

    Args:
        plugin: the plugin.
        name: of the function.
        input: what documents are (`Plugin.function`, `WasmPlugin`).
        output: what results are.
        limits: bounds on each call, in addition to the plugin's.

    Raises:
        TypeError: the name is not a non-empty str, or `limits` are not limits.
        ValueError: the plugin has no such `input`, or there is no such `output`.

    >>> import pickle
    >>> from parallel_exec import Plugin
    >>> function = Plugin("const hello = who => `Hello, ${who}!`").function("hello", output="bytes")
    >>> pickle.loads(pickle.dumps(function))("world")
    b'"Hello, world!"'
    """

    plugin: AnyPlugin
    name: str
    input: Input = "json"
    output: Output = "value"
    limits: Limits | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"a function's name must be a non-empty str, not {self.name!r}")
        if self.input not in self.plugin.inputs:
            raise ValueError(f"input must be {' or '.join(map(repr, self.plugin.inputs))}; got {self.input!r}")
        if self.output not in ("value", "bytes", "numpy"):
            raise ValueError(f"output must be 'value', 'bytes' or 'numpy'; got {self.output!r}")
        check_limits(self.limits, "limits")

    def __repr__(self) -> str:
        return f"<{', '.join([f'PluginFunction {self.name}() of {self.plugin.name!r}', *options(self)])}>"

    @cached_property
    def bounds(self) -> Limits | None:
        """The function's and its plugin's limits, the tightest of each; None if neither has any."""
        if self.limits is None or self.plugin.limits is None:
            return self.limits or self.plugin.limits
        return Limits.tightest(self.plugin.limits, self.limits)

    def __call__(self, document: Any) -> Any:
        """Run the function on a document in this thread's sandbox and return its result.

        Raises:
            PexecError: the plugin cannot be loaded, or the call fails (see `Sandbox` and `Sandbox.call`).
        """
        return thread_sandboxes.get(self.plugin, self.bounds).call(
            self.name, document, input=self.input, output=self.output
        )


class KeptImages:
    """The images captured in this process, the most recently used last."""

    def __init__(self) -> None:
        self.images: OrderedDict[tuple[AnyPlugin, int | None, float | None], Image] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, plugin: AnyPlugin, limits: Limits) -> Image:
        key = plugin, limits.seed, limits.time
        with self._lock:
            image = self.images.get(key)
            if image is not None:
                self.images.move_to_end(key)
                return image
        image = plugin.capture(limits)
        with self._lock:
            self.images[key] = image
            sizes = [sum(len(content) for _address, content in each.runs) for each in self.images.values()]
            while len(sizes) > _KEPT_IMAGES or (len(sizes) > 1 and sum(sizes) > _KEPT_BYTES):
                self.images.popitem(last=False)
                del sizes[0]
        return image


class ThreadSandboxes(threading.local):
    """This thread's sandboxes, the most recently used last."""

    def __init__(self) -> None:
        self.sandboxes: OrderedDict[tuple[AnyPlugin, Limits | None], Sandbox] = OrderedDict()

    def get(self, plugin: AnyPlugin, limits: Limits | None) -> Sandbox:
        key = plugin, limits
        sandbox = self.sandboxes.get(key)
        if sandbox is None:
            sandbox = self.sandboxes[key] = Sandbox(plugin, limits=limits)
            if len(self.sandboxes) > _KEPT_SANDBOXES:
                self.sandboxes.popitem(last=False)[1].close()
        else:
            self.sandboxes.move_to_end(key)
        return sandbox


kept_images = KeptImages()
thread_sandboxes = ThreadSandboxes()
