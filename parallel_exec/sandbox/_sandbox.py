"""The sandbox: one plugin's jobs in this process, each from the same memory image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from parallel_exec._codec import arrays
from parallel_exec._codec.documents import Input, Output, prepare, result_value
from parallel_exec.errors import InvalidDocument, PexecError
from parallel_exec.host import HostFunction
from parallel_exec.limits import Limits
from parallel_exec.sandbox._console import OnConsole, log_record
from parallel_exec.sandbox._runner import Image
from parallel_exec.sandbox._stats import JobStats

if TYPE_CHECKING:
    from parallel_exec.plugins._base import AnyPlugin


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
        PluginError: the plugin cannot be loaded. JobTimeout, MemoryLimitExceeded: loading it exceeds the limits.

    >>> import parallel_exec as px
    >>> with px.Sandbox(px.Plugin("function area(d) { return d.width * d.height }")) as sandbox:
    ...     sandbox.call("area", {"width": 2, "height": 4.5})
    9
    """

    def __init__(
        self,
        plugin: AnyPlugin | Image,
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
        self._runner = image.runner(self.limits, on_console or log_record, host)

    def call(self, function: str, document: Any, *, input: Input | None = None, output: Output = "value") -> Any:
        """Call the plugin's function on a document and return the result.

        Args:
            function: a function that a script declares at its top level or a module exports; of a WebAssembly module
                the name of an operation.
            document: what goes with `input`.
            input: ``"json"``: JSON text as ``bytes``, ``bytearray`` or ``memoryview``, or a Python value;
                ``"msgpack"``, for a WebAssembly module: likewise in MessagePack; ``"binary"``: any object with the
                buffer protocol. By default JSON for JavaScript, and MessagePack for a module.
            output: ``"value"`` for a Python value, ``"bytes"`` for the encoded text, ``"numpy"`` for a NumPy array. A
                typed array or ArrayBuffer that a JavaScript function returns, and what a module makes of binary input,
                is its bytes, unless a NumPy array is asked for.

        Raises:
            JSError, WasmError: the function threw, or failed. InvalidDocument: the document is not JSON, or too large.
            JobTimeout, MemoryLimitExceeded, OutputTooLarge: a limit was reached. PluginError: there is no such
            function.
        """
        try:
            kind, content = self.run(function, *prepare(document, input or self._input))
            return result_value(kind, content, output)
        except PexecError as error:
            raise error.at(plugin=self._name, function=function) from None

    def call_bytes(self, function: str, document: Any) -> bytes:
        """Like `call`, but return the result as JSON text (a module's in MessagePack), never decoded."""
        try:
            return self.run(function, *prepare(document, self._input))[1]
        except PexecError as error:
            raise error.at(plugin=self._name, function=function) from None

    @property
    def last_job(self) -> JobStats:
        """What the last job that ran used, whether it failed or not."""
        return JobStats(memory_bytes=self._runner.reached, fuel=self._runner.fuel_used)

    @property
    def fuel_used(self) -> int | None:
        """WebAssembly instructions that the last call took, or None where they are not counted."""
        return self._runner.fuel_used

    @property
    def reset_ns(self) -> int:
        """Nanoseconds that it took after the last call to be ready for another; 0 if that needs a new instance."""
        return self._runner.reset_ns

    @property
    def memory_bytes(self) -> int:
        """Bytes of linear memory that the sandbox has now."""
        return self._runner.memory_bytes

    def close(self) -> None:
        """Give the sandbox's memory back. Calling it again does nothing; any other call raises ValueError."""
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # __init__ did not get as far
            self._runner.drop()

    def stop(self) -> None:
        """Have the call that another thread makes end with `JobTimeout`, as at its deadline; a call that has begun no
        job yet does not see it.
        """
        self._runner.stop()

    def run(
        self,
        function: str,
        content: bytes | bytearray | memoryview,
        kind: int = arrays.JSON,
        *,
        stopped: Callable[[], bool] | None = None,
    ) -> tuple[int, bytes]:
        """Run one job on bytes that are encoded already; return the result's kind and bytes. `call` is the friendlier
        way.

        Args:
            function: name of the function.
            content: the document: JSON text or, if `kind` says so, MessagePack or the elements of a typed array.
            kind: what the content is (`arrays`).
            stopped: whether the job has to stop, asked once when it has begun: for who calls `stop` in another thread.
        """
        runner = self._runner
        runner.fuel_used, runner.reset_ns = None, 0  # where the job is refused, or its instance replaced
        length = len(content)
        if length > self.limits.document_bytes:
            raise InvalidDocument(
                f"a document of {length} bytes exceeds Limits.document_bytes={self.limits.document_bytes}"
            )
        return runner.run(function, content, kind, stopped)
