"""The sandbox: one plugin's jobs in this process, each from the same memory image."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from .. import arrays
from ..documents import Input, Output, encode, prepare, result_value
from ..errors import InvalidDocument, PexecError
from ..host import HostFunction
from ..limits import Limits
from . import outcome
from .chain import locate, stage_name
from .console import OnConsole, log_record, records
from .deadline import Deadline
from .engine import Engine
from .host import HostCalls
from .image import MemoryImage
from .instance import Instance, MemoryRefused
from .mailbox import INPUT_PADDING, Reply, Request, Status
from .raw import Trapped
from .reset import fill_new
from .stats import JobStats

if TYPE_CHECKING:
    from ..plugin import Plugin

# An instance whose memory has grown by more than this beyond the image's is dropped, not kept for the next job.
KEEP_MEMORY = 64 << 20


class Sandbox:
    """Runs a plugin's functions over documents, each call from the plugin's memory image, so that no call sees another.

    A sandbox belongs to one thread at a time. It is a context manager; closing it gives its memory back.

    Args:
        plugin: the plugin, or a memory image of it.
        limits: bounds on each call, in addition to the plugin's own.
        on_console: receives the plugin's console output, record by record, after the call that wrote it; by default it
            goes to the logger ``parallel_exec.console``.
        host: host functions by name, for a memory image; a plugin brings its own.

    Attributes:
        limits: on each call.
        fuel_used: WebAssembly instructions that the last call took, or None where they are not counted.
        reset_ns: nanoseconds that it took after a call, the last time, to be ready for the next one.

    Raises:
        PluginError: the plugin cannot be loaded. JobTimeout, MemoryLimitExceeded: loading it exceeds the limits.

    >>> import parallel_exec as px
    >>> with px.Sandbox(px.Plugin("function area(d) { return d.width * d.height }")) as sandbox:
    ...     sandbox.call("area", {"width": 2, "height": 4.5})
    9
    """

    def __init__(
        self,
        plugin: Plugin | MemoryImage,
        *,
        limits: Limits | None = None,
        on_console: OnConsole | None = None,
        host: Mapping[str, HostFunction] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        if isinstance(plugin, MemoryImage):
            self._image = plugin
        elif host is not None:
            raise TypeError("host= goes with a memory image; a plugin brings its own: Plugin(source, host=...)")
        else:
            self.limits = Limits.tightest(limits, plugin.limits)
            self._image, host = plugin.image(limits=self.limits), plugin.host
        self._host = HostCalls(host, self.limits) if host else None
        self._on_console = on_console or log_record
        self._engine = Engine.for_limits(self.limits)
        # Every page that memory grows by takes fuel: not so if an earlier job has grown it.
        self._keep_memory = 0 if self._engine.metered else KEEP_MEMORY
        self._requests: dict[str, Request] = {}
        self._job = 0
        self._closed = False
        self._dirty = False  # whether a job may have left something in the instance's memory
        self._instance: Instance | None = None
        self._run: Callable[[], None]
        self._deadline: Deadline
        self._reached = 0  # how far the last job's memory reached
        self.fuel_used: int | None = None
        self.reset_ns = 0
        self._seeds = random.SystemRandom().getrandbits(64)
        self._open()

    def call(self, function: str, document: Any, *, input: Input = "json", output: Output = "value") -> Any:
        """Call the plugin's function on a document and return the result.

        Args:
            function: a function that a script declares at its top level or a module exports.
            document: JSON text as ``bytes``, ``bytearray`` or ``memoryview``, or a Python value; with binary input any
                object with the buffer protocol.
            input: ``"json"``, or ``"binary"`` to hand the function a typed array over the document's elements.
            output: ``"value"`` for a Python value, ``"bytes"`` for JSON text, ``"numpy"`` for a NumPy array. A typed
                array or ArrayBuffer that the function returns is its bytes, unless a NumPy array is asked for.

        Raises:
            JSError: the function threw. InvalidDocument: the document is not JSON, or too large. JobTimeout,
            MemoryLimitExceeded, OutputTooLarge: a limit was reached. PluginError: there is no such function.
        """
        try:
            kind, content = self.run(function, *prepare(document, input))
            return result_value(kind, content, output)
        except PexecError as error:
            raise error.at(plugin=self._image.plugin_name, function=function) from None

    def call_bytes(self, function: str, document: Any) -> bytes:
        """Like `call`, but return the result as JSON text, never decoded."""
        try:
            return self.run(function, encode(document))[1]
        except PexecError as error:
            raise error.at(plugin=self._image.plugin_name, function=function) from None

    @property
    def last_job(self) -> JobStats:
        """What the last job that ran used, whether it failed or not."""
        return JobStats(memory_bytes=self._reached, fuel=self.fuel_used)

    @property
    def memory_bytes(self) -> int:
        """Bytes of linear memory that the sandbox has now."""
        return 0 if self._instance is None else self._instance.size()

    def close(self) -> None:
        """Give the sandbox's memory back. Calling it again does nothing; any other call raises ValueError."""
        self._check_idle()
        self._closed = True
        self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # __init__ did not get as far
            self._drop()

    def stop(self) -> None:
        """Have the call that another thread makes end with `JobTimeout`, as at its deadline; a call that has begun no
        job yet does not see it.
        """
        self._deadline.stop(self._job)

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
            content: the document: JSON text or, if `kind` says so, the elements of a typed array.
            kind: what the content is (`arrays`).
            stopped: whether the job has to stop, asked once when it has begun: for who calls `stop` in another thread.
        """
        limits = self.limits
        length = len(content)
        if length > limits.document_bytes:
            raise InvalidDocument(f"a document of {length} bytes exceeds Limits.document_bytes={limits.document_bytes}")
        if self._dirty:
            self._check_idle()
            self._drop()  # an exception, such as Ctrl-C, tore the last job out of one of the lines below
        instance = self._instance or self._open()
        self._dirty = True
        input_end = self._put(instance, function, content, length, kind)
        if self._host is not None:
            self._host.begin()
        deadline = self._deadline
        deadline.begin(self._job)
        if stopped is not None and stopped():
            deadline.stop(self._job)
        try:
            self._run()
        except Trapped as trap:
            deadline.end()  # before the instance goes, for its fuel
            raise self._trapped(instance, function, trap) from None
        except BaseException:
            raised = self._host.end() if self._host is not None else None
            if raised is None:
                raise
            self._drop()
            raise raised from None
        finally:
            deadline.end()
        reply = instance.reply()
        try:
            if reply.status != Status.OK:
                raise locate(outcome.job_error(instance, reply, limits, stage_name(function, reply)), function, reply)
            return reply.output_kind, instance.read(reply.output_ptr, reply.output_len)
        finally:
            self._finish(instance, reply, input_end)

    def _put(
        self,
        instance: Instance,
        function: str,
        content: bytes | bytearray | memoryview,
        length: int,
        kind: int = arrays.JSON,
    ) -> int:
        """Write request and document into linear memory; return the address at which the document's room ends."""
        limits = self.limits
        request = self._requests.get(function)
        if request is None:
            request = self._request(function)
        self._job = self._job % 0xFFFFFFFF + 1
        seed = limits.seed
        if seed is None and limits.fuel is not None:
            seed = 1
        elif seed is None:
            # A Weyl sequence from a random start; the engine's generator mixes it (xorshift64*).
            self._seeds = seed = (self._seeds + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        else:
            seed &= 0xFFFFFFFFFFFFFFFF
        clock = time.time() if limits.time is None else limits.time
        filled = request.fill(self._job, length, kind, seed, clock * 1000.0)
        address = self._image.input_ptr
        end = address + length + INPUT_PADDING
        try:
            instance.grow_to(end)
        except MemoryRefused as refused:
            raise outcome.out_of_memory(limits, refused.wanted) from None
        view = instance.view
        view[instance.mailbox : instance.mailbox + len(filled)] = filled
        view[address : address + length] = content
        return end

    def _finish(self, instance: Instance, reply: Reply, input_end: int) -> None:
        """Hand out the console's records and make the sandbox ready for the next job."""
        console = self._console(instance, reply)
        image, size = self._image, instance.size()
        self._reached = reached = min(max(reply.high_water, input_end), size)
        self.fuel_used = self._deadline.fuel_used
        if reply.memory_wanted or size - image.memory_size > self._keep_memory:
            self._drop()
        else:
            start = time.perf_counter_ns()
            image.plan.apply(instance, reached, reply.stack_low)
            self.reset_ns = time.perf_counter_ns() - start
            self._dirty = False
        if console is not None:
            self._tell(console, reply)

    def _trapped(self, instance: Instance, function: str, trap: Trapped) -> PexecError:
        reply = instance.reply()
        console = self._console(instance, reply)
        self._reached = instance.size()
        self.fuel_used = self._deadline.fuel_used
        self._drop()
        if console is not None:
            self._tell(console, reply)
        return locate(outcome.trap_error(reply, self.limits, trap), function, reply)

    def _console(self, instance: Instance, reply: Reply) -> bytes | None:
        if not reply.console_len and not reply.console_dropped:
            return None
        return instance.read(reply.console_ptr, min(reply.console_len, self.limits.console_bytes))

    def _tell(self, console: bytes, reply: Reply) -> None:
        for level, line in records(console, reply.console_dropped):
            self._on_console(level, line)

    def _check_idle(self) -> None:
        if self._host is not None and self._host.busy:
            raise PexecError("the sandbox is running the job that called this host function; use another sandbox here")

    def _request(self, function: str) -> Request:
        if self._closed:
            raise ValueError("the sandbox is closed")
        limits = self.limits
        request = Request(
            function, memory=limits.memory_bytes, output=limits.output_bytes, console=limits.console_bytes
        )
        if len(self._requests) >= 64:
            self._requests.clear()
        self._requests[function] = request
        return request

    def _open(self) -> Instance:
        if self._closed:
            raise ValueError("the sandbox is closed")
        engine = self._engine
        try:
            instance = Instance(engine.module, memory_bytes=self.limits.memory_bytes, engine=engine)
            fill_new(instance, self._image, self._image.plan)
        except MemoryRefused:
            raise outcome.out_of_memory(self.limits, self._image.memory_size) from None
        self._deadline = Deadline(instance, self.limits)
        self._run = instance.bind("engine_job")
        if self._host is not None:
            self._host.attach(instance, self._deadline)
        self._instance = instance
        return instance

    def _drop(self) -> None:
        if self._instance is not None:
            self._deadline.close()
            self._instance = None
            self._dirty = False
            del self._run
