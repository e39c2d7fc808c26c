"""The sandbox: one plugin's jobs in this process, each from the same memory image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from parallel_exec._codec import arrays
from parallel_exec._codec.arrays import Encoded
from parallel_exec._codec.documents import Input, Output, prepare, result_value
from parallel_exec.errors import InvalidDocument, PexecError
from parallel_exec.host import HostFunction
from parallel_exec.limits import Limits
from parallel_exec.sandbox._console import OnConsole, log_record
from parallel_exec.sandbox._engine.memory import LinearMemory
from parallel_exec.sandbox._js.image import MemoryImage
from parallel_exec.sandbox._js.runner import JavaScriptRunner
from parallel_exec.sandbox._runner import Image, Runner
from parallel_exec.sandbox._wasm.image import WASM_IMAGE_MAGIC, WasmImage
from parallel_exec.sandbox._wasm.runner import WasmRunner


class Runnable(Protocol):
    """What a sandbox needs of a plugin."""

    @property
    def host(self) -> Mapping[str, HostFunction]:
        """Python functions that it may call, by name."""

    @property
    def limits(self) -> Limits | None:
        """Bounds on its jobs, or None."""

    def image(self, *, limits: Limits | None = None) -> Image:
        """Return its image, captured within these limits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobStats:
    """What one job used of what `Limits` bounds.

    Attributes:
        memory_bytes: bytes of linear memory, from its start to the end of what the job reached, the image included. For
            a job that ended in a trap, all of the memory that its instance had.
        fuel: WebAssembly instructions, or None where they are not counted (``Limits.fuel``).
    """

    memory_bytes: int
    fuel: int | None


def load_image(buffer: Any) -> Image:
    """Return the image, of either kind, whose file lies in `buffer` (any bytes-like object).

    Raises:
        PluginError: it is not an image, has another format version or engine build, is damaged or cut short.
    """
    is_wasm = memoryview(buffer).cast("B")[: len(WASM_IMAGE_MAGIC)] == WASM_IMAGE_MAGIC
    return (WasmImage if is_wasm else MemoryImage).from_bytes(buffer)


class Sandbox:
    """Runs a plugin's functions over documents, each call from the plugin's memory image, so that no call sees another.

    A sandbox belongs to one thread at a time. It is a context manager; closing it gives its memory back.

    Args:
        plugin: the plugin, JavaScript or a WebAssembly module, or an image of it.
        limits: bounds on each call, in addition to the plugin's own.
        on_console: receives the plugin's console output, record by record, after the call that wrote it; by default it
            goes to the logger ``parallel_exec.console``.
        host: host functions by name, for a memory image; a plugin brings its own.

    Attributes:
        limits: on each call.

    Raises:
        PluginError: the plugin cannot be loaded.
        JobTimeout: loading it takes longer than the limits allow.
        FuelExhausted: it takes more instructions than they allow.
        MemoryLimitExceeded: it takes more memory than they allow.
        TypeError: `host` is given with a plugin.

    >>> import parallel_exec as px
    >>> with px.Sandbox(px.Plugin("function area(d) { return d.width * d.height }")) as sandbox:
    ...     sandbox.call("area", {"width": 2, "height": 4.5})
    9
    """

    def __init__(
        self,
        plugin: Runnable | Image,
        *,
        limits: Limits | None = None,
        on_console: OnConsole | None = None,
        host: Mapping[str, HostFunction] | None = None,
    ) -> None:
        image: Image
        if isinstance(plugin, Image):
            self.limits = limits or Limits()
            image = plugin
        elif host is not None:
            raise TypeError("host= goes with a memory image; a plugin brings its own: Plugin(source, host=...)")
        else:
            self.limits = Limits.tightest(limits, plugin.limits)
            image, host = plugin.image(limits=self.limits), plugin.host
        self._name = image.plugin_name
        self._input = image.input
        self._runner = _runner_of(image, self.limits, on_console or log_record, host)

    def call(self, function: str, document: Any, *, input: Input | None = None, output: Output = "value") -> Any:
        """Call the plugin's function on a document and return the result.

        Args:
            function: a function that a script declares at its top level or a module exports; for a WebAssembly module,
                the name of an operation.
            document: the document, as `input` says.
            input: ``"json"``: JSON text as ``bytes``, ``bytearray`` or ``memoryview``, or a Python value;
                ``"msgpack"``, for a WebAssembly module: the same in MessagePack; ``"binary"``: any object with the
                buffer protocol. By default JSON for JavaScript, and MessagePack for a module.
            output: ``"value"`` for a Python value, ``"bytes"`` for the encoded text, ``"numpy"`` for a NumPy array. A
                typed array or ArrayBuffer that a JavaScript function returns, and a module's answer to binary input,
                becomes bytes unless a NumPy array is asked for.

        Raises:
            JSError: the JavaScript function threw, or its promise was rejected.
            WasmError: the WebAssembly module's function failed.
            PluginError: there is no such function, or its result cannot be had as `output` asks.
            InvalidDocument: the document is not JSON, or too large.
            JobTimeout: the job reached its deadline.
            FuelExhausted: it used up its instructions.
            MemoryLimitExceeded: it asked for more memory than the limits allow.
            OutputTooLarge: its result is larger than they allow.
            ValueError: the sandbox is closed.
        """
        try:
            kind, content = self.run(function, *prepare(document, input or self._input))
            return result_value(kind, content, output)
        except PexecError as error:
            raise error.at(plugin=self._name, function=function) from None

    def call_bytes(self, function: str, document: Any) -> bytes:
        """Do as `call`, but return the result as JSON text (a module's in MessagePack), never decoded.

        Raises:
            PexecError: as `call`.
            ValueError: the sandbox is closed.
        """
        try:
            return self.run(function, *prepare(document, self._input))[1]
        except PexecError as error:
            raise error.at(plugin=self._name, function=function) from None

    @property
    def last_job(self) -> JobStats:
        """What the last job used, whether it failed or not."""
        return JobStats(memory_bytes=self._runner.reached, fuel=self._runner.fuel_used)

    @property
    def fuel_used(self) -> int | None:
        """WebAssembly instructions that the last call took, or None where they are not counted."""
        return self._runner.fuel_used

    @property
    def reset_ns(self) -> int:
        """Nanoseconds from the last call to readiness for another; 0 if that needs a new instance."""
        return self._runner.reset_ns

    @property
    def memory_bytes(self) -> int:
        """Bytes of linear memory that the sandbox has now."""
        return self._runner.memory_bytes

    def close(self) -> None:
        """Give the sandbox's memory back. Calling it again does nothing; any other call raises ValueError.

        Raises:
            PexecError: one of its host functions is running.
        """
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # __init__ did not get as far
            self._runner.drop()

    def stop(self) -> None:
        """End the call that another thread makes with `JobTimeout`, as at its deadline. A call whose job has not begun
        yet goes on.
        """
        self._runner.stop()

    def run(
        self,
        function: str,
        content: Encoded,
        kind: int = arrays.JSON,
        *,
        stopped: Callable[[], bool] | None = None,
    ) -> tuple[int, bytes]:
        """Run one job on bytes that are encoded already; return the result's kind and bytes. `call` is easier to use.

        Args:
            function: name of the function.
            content: the document: JSON text or, if `kind` says so, MessagePack or the elements of a typed array.
            kind: what the content is (`arrays`).
            stopped: says whether the job has to stop, asked once when it has begun. Together with `stop` it lets
                another thread end the job at any time.

        Raises:
            PexecError: as `call`.
            ValueError: the sandbox is closed.
        """
        runner = self._runner
        runner.fuel_used, runner.reset_ns = None, 0  # for a job that is refused, or whose instance is replaced
        length = len(content)
        if length > self.limits.document_bytes:
            raise InvalidDocument(
                f"a document of {length} bytes exceeds Limits.document_bytes={self.limits.document_bytes}"
            )
        return runner.run(function, content, kind, stopped)


def _runner_of(
    image: Image, limits: Limits, on_console: OnConsole, host: Mapping[str, HostFunction] | None
) -> Runner[LinearMemory]:
    if isinstance(image, MemoryImage):
        return JavaScriptRunner(image, limits, on_console, host)
    if isinstance(image, WasmImage):
        return WasmRunner(image, limits, on_console, host)
    raise TypeError(f"a sandbox runs no images of the type {type(image).__name__}")
