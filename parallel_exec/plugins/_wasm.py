"""Plugins that are WebAssembly modules: small picklable values that a sandbox or a pool runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, Self

from parallel_exec._codec.documents import Input
from parallel_exec.errors import PexecError, PluginError
from parallel_exec.host import HostFunction, HostFunctions
from parallel_exec.limits import Limits
from parallel_exec.plugins._base import AnyPlugin
from parallel_exec.sandbox import WasmImage
from parallel_exec.sandbox._binary.format import WASM_MAGIC

Abi = Literal["wapc"]


@dataclass(frozen=True, repr=False)
class WasmPlugin(AnyPlugin):
    r"""A WebAssembly module that somebody else compiled, called through waPC (https://wapc.io).

    Its functions are the operations that it knows: ``plugin.function("verify")(document)`` hands the module that
    name and the document, and its answer is the result. By default the document and the result are Python values here
    and MessagePack in the module (``input="msgpack"``; a bytes-like document is MessagePack already). With
    ``input="binary"`` the module gets any buffer's bytes, and its answer is bytes. With ``input="json"`` document and
    result are JSON here, as for JavaScript, and MessagePack in the module.

    Args:
        wasm: the module.
        name: for messages.
        abi: how it is called; only ``"wapc"``.
        host: Python functions that the module may call, by the operation that it names. They get the payload's value,
            or no argument if the payload is empty, and return the response; an exception becomes a host error in the
            module. A pool's workers import them, so for a pool they must be functions at the top level of a module.
        domain: whose plugin this is. A pool with ``isolation="process"`` never runs two domains in one process.
        limits: bounds on each of its jobs, wherever it runs (see `Plugin`).

    Raises:
        TypeError: an option is of another type, or a host function is not callable.
        ValueError: there is no such `abi`, or a host function's name is not an identifier.

    Every job begins with the module's memory and globals as they are once it has been initialised (its start function,
    ``_initialize``, ``_start``, ``wapc_init``); none sees what another one left. Epochs always stop it at its deadline,
    whatever ``Limits.interrupt`` says. WASI's functions can be imported, but all of them fail.

    The module is compiled when its image is first needed: if it is not small, in a process of its own, which may take
    30 s of CPU time and 2 GiB of address space. A module that takes more, or has more than 64 MiB, is refused.

    A result in MessagePack does not become a Python value (`OutputTooLarge`) if it may have more than 4 million arrays
    and maps, and more than one for each 4 bytes; nor (`PluginError`) if it has maps whose keys are arrays, maps, or
    very many numbers. ``output="bytes"`` gives it as it is.

    >>> empty = WasmPlugin(b"\0asm\1\0\0\0", name="empty.wasm").function("f")
    >>> empty({"x": 1})
    Traceback (most recent call last):
    ...
    parallel_exec.errors.PluginError: empty.wasm: the module cannot be run: it must have one memory, and no more
    """

    wasm: bytes
    name: str = field(default="plugin.wasm", repr=False)  # it comes first
    abi: Abi = field(default="wapc", kw_only=True)
    host: Mapping[str, HostFunction] = field(default_factory=HostFunctions, kw_only=True)
    domain: str | None = field(default=None, kw_only=True)
    limits: Limits | None = field(default=None, kw_only=True)
    inputs: ClassVar[tuple[Input, ...]] = ("msgpack", "binary", "json")

    def __post_init__(self) -> None:
        if not isinstance(self.wasm, bytes):
            raise TypeError(f"WasmPlugin.wasm must be bytes, not {type(self.wasm).__name__}")
        if self.abi != "wapc":
            raise ValueError(f"WasmPlugin.abi must be 'wapc'; got {self.abi!r}")
        self._check()

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        abi: Abi = "wapc",
        name: str | None = None,
        host: Mapping[str, HostFunction] | None = None,
        domain: str | None = None,
        limits: Limits | None = None,
    ) -> Self:
        """Read a module from a file. The other arguments are the class's.

        Raises:
            PluginError: the file cannot be read.
        """
        return cls(cls._read(path), name or Path(path).name, abi=abi, host=host or {}, domain=domain, limits=limits)

    @cached_property
    def digest(self) -> str:
        options = (self.abi, self.name, self.domain, HostFunctions(self.host).identity())
        return hashlib.sha256(json.dumps(options).encode("utf-8", "surrogatepass") + self.wasm).hexdigest()

    def capture(self, limits: Limits) -> WasmImage:
        if not self.wasm.startswith(WASM_MAGIC):
            begins = ascii(self.wasm[:16].decode("latin-1"))
            raise PluginError(
                f"not a WebAssembly module: it begins with {begins}; Plugin.from_file reads JavaScript, "
                "and WebAssembly's text format has to be compiled first"
            ).at(plugin=self.name)
        try:
            return WasmImage.capture(self.wasm, name=self.name, limits=limits)
        except PexecError as error:
            raise error.at(plugin=self.name) from None
