"""Plugins in JavaScript: small picklable values that hold source, which a sandbox or a pool runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from parallel_exec._codec.documents import Input, Output, encode
from parallel_exec.errors import PluginError
from parallel_exec.host import HostFunction, HostFunctions
from parallel_exec.limits import Limits
from parallel_exec.plugins._base import AnyPlugin, PluginFunction
from parallel_exec.sandbox import MemoryImage
from parallel_exec.sandbox._binary.format import WASM_MAGIC
from parallel_exec.sandbox._js.driver import SourceKind


@dataclass(frozen=True, repr=False)
class Plugin(AnyPlugin):
    """JavaScript source that somebody else wrote: a script, or an ES module without imports.

    Args:
        source: the JavaScript.
        name: its file name, as it appears in stacks and messages.
        kind: ``"script"``, ``"module"``, or ``"auto"`` to find out by compiling it.
        host: Python functions that the plugin may call, by the names of its global functions. Arguments and results are
            JSON values; an exception becomes a JavaScript Error with its class's name and message. A pool's workers
            import them, so for a pool they must be functions at the top level of a module.
        eval: False makes everything that turns strings into code throw an EvalError: ``eval``, ``Function`` and so on,
            however the plugin reaches them.
        domain: whose plugin this is. A pool with ``isolation="process"`` never runs two domains in one process.
        limits: bounds on each of its jobs, wherever it runs. If a pool, a sandbox or a function has limits too, the
            tightest of each bound wins (`Limits.tightest`), defaults included.

    Raises:
        TypeError: an option is of another type, or a host function is not callable.
        ValueError: there is no such `kind`, or a host function's name is not an identifier.

    A plugin is compiled when its image is first needed, not when this object is made.

    >>> plugin = Plugin("export const double = x => 2 * x", name="double.js")
    >>> plugin.function("double")(21)
    42
    >>> price = Plugin("const f = d => 2 * price(d.item)", host={"price": {"tea": 1.5}.__getitem__}).function("f")
    >>> price({"item": "tea"})
    3
    """

    source: str
    name: str = field(default="plugin.js", repr=False)  # it comes first
    kind: SourceKind = "auto"
    host: Mapping[str, HostFunction] = field(default_factory=HostFunctions, kw_only=True)
    eval: bool = field(default=True, kw_only=True)
    domain: str | None = field(default=None, kw_only=True)
    limits: Limits | None = field(default=None, kw_only=True)
    inputs: ClassVar[tuple[Input, ...]] = ("json", "binary")

    def __post_init__(self) -> None:
        if not isinstance(self.source, str):
            raise TypeError(f"Plugin.source must be a str, not {type(self.source).__name__}")
        if self.kind not in ("auto", "script", "module"):
            raise ValueError(f"Plugin.kind must be 'auto', 'script' or 'module'; got {self.kind!r}")
        if not isinstance(self.eval, bool):
            raise TypeError(f"Plugin.eval must be True or False, not {self.eval!r}")
        self._check()

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        kind: SourceKind | None = None,
        host: Mapping[str, HostFunction] | None = None,
        eval: bool = True,
        domain: str | None = None,
        limits: Limits | None = None,
    ) -> Self:
        """Read a plugin from a UTF-8 file. A name that ends in ``.mjs`` is a module unless `kind` says otherwise; the
        other arguments are the class's.

        Raises:
            PluginError: the file cannot be read, is a WebAssembly module, or is not UTF-8.
        """
        file, content = Path(path), cls._read(path)
        if content.startswith(WASM_MAGIC):
            raise PluginError(
                "the plugin is a WebAssembly module, not JavaScript; WasmPlugin.from_file reads those"
            ).at(plugin=os.fspath(path))
        try:
            source = content.decode()
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
        """SHA-256, in hex, of everything that makes the plugin what it is; limits are not part of that."""
        options = (self.kind, self.name, self.eval, self.domain, HostFunctions(self.host).identity())
        text = json.dumps(options) + self.source
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def function(
        self, name: str, *, input: Input | None = None, output: Output = "value", limits: Limits | None = None
    ) -> PluginFunction:
        """Return a handle to one of the plugin's functions; the first call finds out whether it exists.

        Args:
            name: a top-level function of a script, or an export of a module.
            input: ``"json"``, or ``"binary"`` for documents that are any object with the buffer protocol. The function
                gets a typed array over it: a Uint8Array over bytes, a Float64Array over a NumPy array of float64, and
                so on.
            output: ``"value"`` for results as Python values, ``"bytes"`` for results as JSON text, ``"numpy"`` for
                typed arrays as NumPy arrays. With the first two, a typed array or ArrayBuffer that the function returns
                becomes bytes.
            limits: bounds on the calls through this handle, in addition to all others. A handle costs next to nothing:
                make one for each call that needs its own.

        Raises:
            TypeError: the name is not a non-empty str, or `limits` are not limits.
            ValueError: there is no such `input` or `output`.

        >>> from array import array
        >>> scale = Plugin("const scale = v => v.map(x => 2 * x)").function("scale", input="binary")
        >>> array("d", scale(array("d", [1.5, 2.5])))
        array('d', [3.0, 5.0])
        """
        return super().function(name, input=input, output=output, limits=limits)

    def image(
        self, *, samples: Iterable[Any] = (), function: str | None = None, limits: Limits | None = None
    ) -> MemoryImage:
        """Return the plugin's memory image. Without samples, this process captures it once and keeps it for a while.

        Args:
            samples: documents to run through `function` before the capture (see `MemoryImage.capture`).
            function: the function to run on the samples.
            limits: bounds on the load, in addition to the plugin's own. A seed and a time that they pin hold for the
                plugin's top level, too.

        Raises:
            PluginError: the plugin cannot be loaded, or a sample fails.
            JobTimeout: the load takes longer than the limits allow.
            FuelExhausted: it takes more instructions than they allow.
            MemoryLimitExceeded: it takes more memory than they allow.
            InvalidDocument: a sample has no JSON encoding.
            ValueError: there are samples, but no `function`.
        """
        warm_up = [bytes(encode(sample)) for sample in samples]
        limits = Limits.tightest(limits, self.limits)
        return self._capture(limits, warm_up, function) if warm_up else cast(MemoryImage, super().image(limits=limits))

    def capture(self, limits: Limits) -> MemoryImage:
        return self._capture(limits)

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
