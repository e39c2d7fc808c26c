"""A plugin's memory image: linear memory as it is once the engine has started and the plugin is loaded.

Every job starts from it. An image is data, not code: it belongs to one build of the engine and needs no compilation of
its own.

The file format (all integers little-endian): magic ``PEXECIMG``, format version (u32), length of the header (u32),
SHA-256 of everything after it (32 bytes), the header (JSON: engine build id, plugin name, memory size, globals,
addresses, runs; spaces up to a multiple of 64), and the runs' bytes one after another. Pages that are all zero are not
stored.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ..errors import PexecError, PluginError
from ..limits import Limits
from .driver import Driver, SourceKind
from .engine import Engine
from .instance import MOST_MEMORY, PAGE
from .reset import Plan

MAGIC = b"PEXECIMG"
VERSION = 1
_HEAD = struct.Struct("<8s2I32s")
_ALIGN = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryImage:
    """Linear memory with a plugin loaded, ready to be copied into an instance.

    Attributes:
        plugin_name: the plugin's file name, for messages.
        build_id: the engine build that the image belongs to.
        memory_size: bytes of linear memory, a multiple of 64 KiB.
        globals: values of the engine's exported mutable globals.
        input_ptr: address in linear memory at which a job's document goes.
        runs: the non-zero pages: ascending, disjoint runs of (address, bytes).

    >>> image = MemoryImage.capture("function twice(x) { return 2 * x }", name="twice.js")
    >>> MemoryImage.from_bytes(image.to_bytes()).plugin_name
    'twice.js'
    """

    plugin_name: str
    build_id: str
    memory_size: int
    globals: dict[str, int]
    input_ptr: int
    runs: Sequence[tuple[int, memoryview]]
    plan: Plan = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plan", Plan(self))

    @classmethod
    def capture(
        cls,
        source: str,
        *,
        name: str,
        kind: SourceKind = "auto",
        samples: Iterable[bytes] = (),
        function: str | None = None,
        limits: Limits | None = None,
        may_eval: bool = True,
        host: Iterable[str] = (),
    ) -> MemoryImage:
        """Start the engine, load the plugin, run it on the samples, and capture linear memory.

        Args:
            source: the plugin's JavaScript.
            name: its file name, as it appears in stacks and messages.
            kind: ``"script"``, ``"module"``, or ``"auto"`` to find out by compiling it.
            samples: documents (JSON text) to run through `function` before the capture, so that what the engine learns
                from them is in the image. What the function leaves behind in the plugin's own variables is, too.
            function: the function to run on the samples; required with them.
            limits: bounds on the load and on each sample's run.
            may_eval: whether the plugin may make code of strings.
            host: names of the host functions that it may call, in jobs, not while it is loaded.

        Raises:
            PluginError: the source does not compile, its top level throws, or a sample fails.
            JobTimeout, MemoryLimitExceeded: the load exceeds the limits.
        """
        try:
            with Driver.open(limits or Limits()) as driver:
                driver.start()
                names = tuple(host)
                if names or not may_eval:
                    driver.configure(may_eval=may_eval, host=names)
                driver.load(source, name, kind)
                for index, sample in enumerate(samples):
                    _warm_up(driver, function, sample, index)
                driver.put()
                driver.call("engine_freeze")
                snapshot = driver.snapshot()
        except PexecError as error:
            raise error.at(plugin=name) from None
        return cls(
            plugin_name=name,
            build_id=Engine.shared().build_id,
            memory_size=snapshot.memory_size,
            globals=snapshot.globals,
            input_ptr=snapshot.input_ptr,
            runs=snapshot.runs,
        )

    def to_bytes(self) -> bytes:
        """Return the image in its file format."""
        header = orjson.dumps(
            {
                "build_id": self.build_id,
                "plugin_name": self.plugin_name,
                "memory_size": self.memory_size,
                "globals": self.globals,
                "input_ptr": self.input_ptr,
                "runs": [(address, len(content)) for address, content in self.runs],
            }
        )
        header += b" " * (-(_HEAD.size + len(header)) % _ALIGN)
        body = b"".join((header, *(content for _address, content in self.runs)))
        return _HEAD.pack(MAGIC, VERSION, len(header), hashlib.sha256(body).digest()) + body

    @classmethod
    def from_bytes(cls, buffer: Any) -> MemoryImage:
        """Return the image that `to_bytes` wrote; its runs are views of `buffer` (any bytes-like object), not copies.

        Raises:
            PluginError: not an image, of another format version or engine build, damaged or cut short.
        """
        view = memoryview(buffer).cast("B").toreadonly()
        if len(view) < _HEAD.size or view[:8] != MAGIC:
            raise PluginError("not a memory image: it does not begin with PEXECIMG")
        _magic, version, header_size, digest = _HEAD.unpack_from(view)
        if version != VERSION:
            raise PluginError(f"a memory image of format version {version}; this release reads version {VERSION}")
        body = view[_HEAD.size :]
        if header_size > len(body) or hashlib.sha256(body).digest() != digest:
            raise PluginError("the memory image is damaged or cut short: its checksum does not match; capture it again")
        # The checksum is no signature: an image that somebody else made must not reach beyond linear memory either.
        header = _read_header(bytes(body[:header_size]))
        if header["build_id"] != Engine.shared().build_id:
            raise PluginError("the memory image belongs to another build of the engine; capture it again")
        runs = []
        position, end = header_size, 0
        for run in header.pop("runs"):
            match run:
                case [int(address), int(length)] if end <= address and 0 < length <= len(body) - position:
                    runs.append((address, body[position : position + length]))
                    position, end = position + length, address + length
                case _:
                    raise PluginError(f"the memory image has an impossible run: {run}")
        size = header["memory_size"]
        # The size of the header is not part of what is summed, but then the runs would not end where the body does.
        if position != len(body) or size % PAGE or not 0 < end <= size <= MOST_MEMORY:
            raise PluginError(f"the memory image's runs do not fit its memory of {size} bytes")
        if not 0 <= header["input_ptr"] <= size:
            raise PluginError(f"the memory image's input would go to {header['input_ptr']}, outside its memory")
        return cls(runs=tuple(runs), **header)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the image to a file, whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        target = Path(path)
        temporary = target.with_name(f"{target.name}.{secrets.token_hex(4)}.tmp")
        content = self.to_bytes()
        # Not tempfile, whose files are for their owner alone.
        with open(temporary, "xb") as file:
            try:
                file.write(content)
                file.close()
                os.replace(temporary, target)
            except BaseException:
                os.unlink(temporary)
                raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MemoryImage:
        """Read an image from a file.

        Raises:
            PluginError: the file cannot be read, or as `from_bytes` says.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise PluginError(f"cannot read the memory image {os.fspath(path)}: {error.strerror}") from None
        try:
            return cls.from_bytes(content)
        except PluginError as error:
            raise error.at(plugin=os.fspath(path)) from None


_HEADER = {"build_id": str, "plugin_name": str, "memory_size": int, "globals": dict, "input_ptr": int, "runs": list}


def _read_header(text: bytes) -> dict[str, Any]:
    try:
        header = orjson.loads(text)
    except orjson.JSONDecodeError:
        header = None
    if not isinstance(header, dict) or header.keys() != _HEADER.keys():
        raise PluginError("the memory image's header is not what this release writes")
    for name, kind in _HEADER.items():
        if not isinstance(header[name], kind):
            raise PluginError(f"the memory image's {name} is not of type {kind.__name__}")
    if header["globals"].keys() != Engine.shared().mutable_globals:
        raise PluginError("the memory image has other globals than the engine")
    if not all(isinstance(value, int) and -(1 << 31) <= value < 1 << 31 for value in header["globals"].values()):
        raise PluginError("the memory image has a global that is not an integer of 32 bits")
    return header


def _warm_up(driver: Driver, function: str | None, sample: bytes, index: int) -> None:
    if function is None:
        raise ValueError("samples need the name of the function that is to run on them")
    driver.put(sample, name=function)
    try:
        driver.call("engine_job")
    except PexecError as error:
        raise PluginError(f"the warm-up with sample {index} fails: {error}").at(function=function) from None
