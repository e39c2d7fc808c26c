"""A plugin's memory image: linear memory as it is once the engine has started and the plugin is loaded.

Every job starts from it. An image is data, not code: it belongs to one build of the engine and needs no compilation of
its own.

Its file (`_image_file`) begins with ``PEXECIMG``; the header has the engine's build id, the plugin's name, the memory's
size, globals, addresses and runs. Pages that are all zero are not stored.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from parallel_exec._codec.documents import Input
from parallel_exec.errors import PexecError, PluginError
from parallel_exec.limits import Limits
from parallel_exec.sandbox import _image_file as image_file
from parallel_exec.sandbox._binary.format import WASM_PAGE
from parallel_exec.sandbox._engine.engine import Engine
from parallel_exec.sandbox._engine.memory import MOST_MEMORY
from parallel_exec.sandbox._image_file import Runs
from parallel_exec.sandbox._js.driver import Driver, SourceKind
from parallel_exec.sandbox._js.instance import JavaScriptInstance
from parallel_exec.sandbox._reset import UNUSED_STACK, Plan
from parallel_exec.sandbox._runner import Image

IMAGE_MAGIC = b"PEXECIMG"


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryImage(Image):
    """Linear memory with a JavaScript plugin loaded, ready to be copied into an instance.

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
    runs: Runs
    plan: Plan = field(init=False, repr=False)
    input: ClassVar[Input] = "json"

    def __post_init__(self) -> None:
        object.__setattr__(self, "plan", Plan(self.runs))

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
            samples: documents (JSON text) to run through `function` before the capture, so that the image has what the
                engine learns from them. It also holds what the function leaves in the plugin's own variables.
            function: the function to run on the samples; required with them.
            limits: bounds on the load and on each sample's run.
            may_eval: whether the plugin may turn strings into code.
            host: names of the host functions that it may call in jobs, but not while it is loaded.

        Raises:
            PluginError: the source does not compile, its top level throws, or a sample fails.
            JobTimeout: the load takes longer than the limits allow.
            FuelExhausted: it takes more instructions than they allow.
            MemoryLimitExceeded: it takes more memory than they allow.
            ValueError: there are samples, but no `function`.
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

    def fill(self, instance: JavaScriptInstance) -> None:
        """Make a new instance, whose memory above its own data is zero, this image's."""
        fresh = instance.size()
        instance.grow_to(self.memory_size)
        self.plan.apply(instance, min(fresh, self.memory_size), UNUSED_STACK)
        for name, value in self.globals.items():
            instance.set_global(name, value)

    def to_bytes(self) -> bytes:
        header = {
            "build_id": self.build_id,
            "plugin_name": self.plugin_name,
            "memory_size": self.memory_size,
            "globals": self.globals,
            "input_ptr": self.input_ptr,
            "runs": [(address, len(content)) for address, content in self.runs],
        }
        return image_file.dump(IMAGE_MAGIC, header, (content for _address, content in self.runs))

    @classmethod
    def from_bytes(cls, buffer: Any) -> MemoryImage:
        """Return the image that `to_bytes` wrote; its runs are views of `buffer` (any bytes-like object), not copies.

        Raises:
            PluginError: it is not an image, has another format version or engine build, is damaged or cut short.
        """
        header, content = image_file.load(IMAGE_MAGIC, buffer)
        match header:
            case {
                "build_id": str(build_id),
                "plugin_name": str(name),
                "memory_size": int(size),
                "globals": dict(values),
                "input_ptr": int(input_ptr),
                "runs": list(lengths),
                **others,
            } if not others:
                pass
            case _:
                raise PluginError("the memory image's header is not one that this release writes")
        if build_id != Engine.shared().build_id:
            raise PluginError("the memory image belongs to another build of the engine; capture it again")
        if values.keys() != Engine.shared().mutable_globals:
            raise PluginError("the memory image has other globals than the engine")
        if not all(isinstance(value, int) and -(1 << 31) <= value < 1 << 31 for value in values.values()):
            raise PluginError("the memory image has a global that is not an integer of 32 bits")
        runs = image_file.cut(lengths, content, size)
        if size % WASM_PAGE or size > MOST_MEMORY or not runs:
            raise PluginError(f"the memory image's runs do not fit its memory of {size} bytes")
        if not 0 <= input_ptr <= size:
            raise PluginError(f"the memory image's input would go to {input_ptr}, outside its memory")
        return cls(
            plugin_name=name, build_id=build_id, memory_size=size, globals=values, input_ptr=input_ptr, runs=runs
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the image to a file, whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        target = Path(path)
        temporary = target.with_name(f"{target.name}.{secrets.token_hex(4)}.tmp")
        content = self.to_bytes()
        # Not tempfile, whose files only their owner may read.
        with open(temporary, "xb") as file:
            try:
                file.write(content)
                file.close()
                temporary.replace(target)
            except BaseException:
                temporary.unlink()
                raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MemoryImage:
        """Read an image from a file.

        Raises:
            PluginError: the file cannot be read, or is refused by `from_bytes`.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise PluginError(f"cannot read the memory image {os.fspath(path)}: {error.strerror}") from None
        try:
            return cls.from_bytes(content)
        except PluginError as error:
            raise error.at(plugin=os.fspath(path)) from None


def _warm_up(driver: Driver, function: str | None, sample: bytes, index: int) -> None:
    if function is None:
        raise ValueError("samples need the name of the function that is to run on them")
    driver.put(sample, name=function)
    try:
        driver.call("engine_job")
    except PexecError as error:
        raise PluginError(f"the warm-up with sample {index} fails: {error}").at(function=function) from None
