"""Plugins and their functions: small picklable values that name JavaScript source; a sandbox or a pool runs it."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from .documents import Input, Output, encode
from .errors import PluginError
from .host import HostFunction, HostFunctions
from .limits import Limits, check_limits
from .sandbox import MemoryImage, Sandbox

Kind = Literal["auto", "script", "module"]

_KEPT_IMAGES = 32
_KEPT_SANDBOXES = 8


@dataclass(frozen=True)
class Plugin:
    """JavaScript source that somebody else wrote: a script, or an ES module without imports.

    Args:
        source: the JavaScript.
        name: its file name, as it appears in stacks and messages.
        kind: ``"script"``, ``"module"``, or ``"auto"`` to find out by compiling it.

        host: Python functions that the plugin may call, by the names of its global functions. Arguments and results are
            JSON values; what one raises is an Error with its class's name and message in JavaScript. A pool's workers
            import them: there they must be functions at the top level of a module.
        eval: False makes everything that turns strings into code throw an EvalError: ``eval``, ``Function`` and the
            like, however they are reached.
        domain: whose plugin this is. A pool with ``isolation="process"`` never runs two domains in one process.
        limits: bounds on each of its jobs, wherever it runs. Where a pool, a sandbox or a function has limits too, the
            tightest of each bound wins (`Limits.tightest`), defaults included.

    A plugin is compiled when its image is first needed, not when this object is made.

    >>> plugin = Plugin("export const double = x => 2 * x", name="double.js")
    >>> plugin.function("double")(21)
    42
    >>> price = Plugin("const f = d => 2 * price(d.item)", host={"price": {"tea": 1.5}.__getitem__}).function("f")
    >>> price({"item": "tea"})
    3
    """

    source: str
    name: str = "plugin.js"
    kind: Kind = "auto"
    host: Mapping[str, HostFunction] = field(default_factory=HostFunctions, kw_only=True)
    eval: bool = field(default=True, kw_only=True)
    domain: str | None = field(default=None, kw_only=True)
    limits: Limits | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for what, value in (("source", self.source), ("name", self.name)):
            if not isinstance(value, str):
                raise TypeError(f"Plugin.{what} must be a str, not {type(value).__name__}")
        if self.kind not in ("auto", "script", "module"):
            raise ValueError(f"Plugin.kind must be 'auto', 'script' or 'module'; got {self.kind!r}")
        if not isinstance(self.host, HostFunctions):
            if not isinstance(self.host, Mapping):
                raise TypeError(f"Plugin.host must map names to functions, not {type(self.host).__name__}")
            object.__setattr__(self, "host", HostFunctions(self.host))
        if not isinstance(self.eval, bool):
            raise TypeError(f"Plugin.eval must be True or False, not {self.eval!r}")
        if self.domain is not None and not isinstance(self.domain, str):
            raise TypeError(f"Plugin.domain must be a str or None, not {type(self.domain).__name__}")
        check_limits(self.limits, "Plugin.limits")

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        kind: Kind | None = None,
        host: Mapping[str, HostFunction] | None = None,
        eval: bool = True,
        domain: str | None = None,
        limits: Limits | None = None,
    ) -> Self:
        """Read a plugin from a UTF-8 file. A name that ends in ``.mjs`` is a module unless `kind` says otherwise; the
        other arguments are the class's.

        Raises:
            PluginError: the file cannot be read or is not UTF-8.
        """
        file = Path(path)
        try:
            source = file.read_text(encoding="utf-8")
        except OSError as error:
            raise PluginError(f"cannot read the plugin: {error.strerror}").at(plugin=os.fspath(path)) from None
        except UnicodeDecodeError as error:
            raise PluginError(f"the plugin is not UTF-8 text (byte {error.start})").at(plugin=os.fspath(path)) from None
        return cls(
            source,
            name or file.name,
            kind or ("module" if file.suffix == ".mjs" else "auto"),
            host=host or {},
            eval=eval,
            domain=domain,
            limits=limits,
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of everything that makes the plugin what it is; what bounds its jobs is no part of that."""
        options = (self.kind, self.name, self.eval, self.domain, HostFunctions(self.host).identity())
        text = json.dumps(options) + self.source
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def function(
        self, name: str, *, input: Input = "json", output: Output = "value", limits: Limits | None = None
    ) -> PluginFunction:
        """Return a handle to one of the plugin's functions; whether it exists is found out at the first call.

        Args:
            name: a top-level function of a script, or an export of a module.
            input: ``"json"``, or ``"binary"`` to hand the function a typed array over the document, which is then any
                object with the buffer protocol: a Uint8Array over bytes, a Float64Array over a NumPy array of float64,
                and so on.
            output: ``"value"`` to get results as Python values, ``"bytes"`` to get them as JSON text, ``"numpy"`` to
                get typed arrays as NumPy arrays. Otherwise a typed array or ArrayBuffer that the function returns is
                its bytes.
            limits: bounds on the calls through this handle, in addition to all others. A handle costs next to nothing:
                make one for each call that needs its own.

        >>> from array import array
        >>> scale = Plugin("const scale = v => v.map(x => 2 * x)").function("scale", input="binary")
        >>> array("d", scale(array("d", [1.5, 2.5])))
        array('d', [3.0, 5.0])
        """
        return PluginFunction(self, name, input, output, limits)

    def image(
        self, *, samples: Iterable[Any] = (), function: str | None = None, limits: Limits | None = None
    ) -> MemoryImage:
        """Return the plugin's memory image; without samples, the one that this process has captured before, if it has.

        Args:
            samples: documents to run through `function` before the capture (see `MemoryImage.capture`).
            limits: bounds on the load, in addition to the plugin's own. What they pin, chance and time, is pinned for
                the plugin's top level, too.

        Raises:
            PluginError: the plugin cannot be loaded, or a sample fails. JobTimeout, MemoryLimitExceeded: the load
            exceeds the limits.
        """
        warm_up = [bytes(encode(sample)) for sample in samples]
        limits = Limits.tightest(limits, self.limits)
        return self._capture(limits, warm_up, function) if warm_up else _images.get(self, limits)

    def _capture(self, limits: Limits, samples: Iterable[bytes] = (), function: str | None = None) -> MemoryImage:
        return MemoryImage.capture(
            self.source,
            name=self.name,
            kind=self.kind,
            samples=samples,
            function=function,
            limits=limits,
            may_eval=self.eval,
            host=self.host,
        )


class _Images:
    """The images captured in this process, the most recently used last."""

    def __init__(self) -> None:
        self._images: OrderedDict[tuple[Plugin, int | None, float | None], MemoryImage] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, plugin: Plugin, limits: Limits) -> MemoryImage:
        key = plugin, limits.seed, limits.time
        with self._lock:
            image = self._images.get(key)
            if image is not None:
                self._images.move_to_end(key)
                return image
        image = plugin._capture(limits)
        with self._lock:
            self._images[key] = image
            if len(self._images) > _KEPT_IMAGES:
                self._images.popitem(last=False)
        return image


_images = _Images()


class _ThreadSandboxes(threading.local):
    """This thread's sandboxes, the most recently used last."""

    def __init__(self) -> None:
        self.sandboxes: OrderedDict[tuple[Plugin, Limits | None], Sandbox] = OrderedDict()

    def get(self, plugin: Plugin, limits: Limits | None) -> Sandbox:
        key = plugin, limits
        sandbox = self.sandboxes.get(key)
        if sandbox is None:
            sandbox = self.sandboxes[key] = Sandbox(plugin, limits=limits)
            if len(self.sandboxes) > _KEPT_SANDBOXES:
                self.sandboxes.popitem(last=False)[1].close()
        else:
            self.sandboxes.move_to_end(key)
        return sandbox


_sandboxes = _ThreadSandboxes()


@dataclass(frozen=True)
class PluginFunction:
    """One function of a plugin. Calling it runs it in this thread's sandbox, under its own and its plugin's limits or
    the default ones; a pool runs it in a worker: ``pool.submit(function, document)``.

    >>> import pickle
    >>> function = Plugin("const hello = who => `Hello, ${who}!`").function("hello", output="bytes")
    >>> pickle.loads(pickle.dumps(function))("world")
    b'"Hello, world!"'
    """

    plugin: Plugin
    name: str
    input: Input = "json"
    output: Output = "value"
    limits: Limits | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"a function's name must be a non-empty str, not {self.name!r}")
        if self.input not in ("json", "binary"):
            raise ValueError(f"input must be 'json' or 'binary'; got {self.input!r}")
        if self.output not in ("value", "bytes", "numpy"):
            raise ValueError(f"output must be 'value', 'bytes' or 'numpy'; got {self.output!r}")
        check_limits(self.limits, "limits")

    @cached_property
    def bounds(self) -> Limits | None:
        """The function's and its plugin's limits, the tightest of each; None if neither has any."""
        if self.limits is None or self.plugin.limits is None:
            return self.limits or self.plugin.limits
        return Limits.tightest(self.plugin.limits, self.limits)

    def __call__(self, document: Any) -> Any:
        """Run the function on a document in this thread's sandbox and return its result (see `Sandbox.call`)."""
        return _sandboxes.get(self.plugin, self.bounds).call(self.name, document, input=self.input, output=self.output)
