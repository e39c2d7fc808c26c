"""One instance driven export by export, as a sandbox never does it.

A sandbox calls one export per job. Loading a plugin, capturing an image, comparing strategies and timing the parts of
a job need the guest's other exports, one at a time; only this module knows how each is called.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Self

import orjson
import wasmtime

from parallel_exec._codec.arrays import Encoded
from parallel_exec.errors import JSError, PluginError
from parallel_exec.limits import Limits
from parallel_exec.sandbox._engine.deadline import Deadline
from parallel_exec.sandbox._engine.engine import Engine
from parallel_exec.sandbox._engine.memory import MemoryRefused
from parallel_exec.sandbox._engine.raw import Trapped
from parallel_exec.sandbox._image_file import Runs, changed
from parallel_exec.sandbox._js.instance import JavaScriptInstance, JobWriter
from parallel_exec.sandbox._js.mailbox import LoadKind, Reply, Status
from parallel_exec.sandbox._js.outcome import job_error, load_error, trap_error
from parallel_exec.sandbox._limit_errors import out_of_memory

SourceKind = Literal["auto", "script", "module"]
"""What a plugin's source is; "auto" finds out by compiling it."""

_OURS = ("engine_start", "engine_freeze")  # exports that run nothing of the plugin's


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Linear memory and globals of an instance at one moment; `bake` makes a module of it.

    Attributes:
        memory_size: bytes of linear memory, a multiple of 64 KiB.
        globals: values of the exported mutable globals.
        input_ptr: address at which the next input goes.
        runs: the pages that are not all zero: ascending, disjoint runs of (address, bytes).
    """

    memory_size: int
    globals: dict[str, int]
    input_ptr: int
    runs: Runs


class Driver:
    """Calls the exports of one instance, each under the limits' deadline. It is a context manager and belongs to one
    thread.

    Every call gets the same seed, so that the next one finds what one call hashed (a Map of the plugin's).

    Args:
        instance: an instance of the engine, or of a module baked from it.
        limits: bounds on each call.
    """

    def __init__(self, instance: JavaScriptInstance, limits: Limits) -> None:
        self.instance = instance
        self.limits = limits
        self._writer = JobWriter(limits, random.SystemRandom().getrandbits(64) if limits.seed is None else limits.seed)
        self._function = ""
        self._calls: dict[str, Callable[[], None]] = {}
        self._deadline = Deadline(instance, limits)

    @classmethod
    def open(cls, limits: Limits, module: wasmtime.Module | None = None) -> Self:
        """Make an instance of a baked module or, by default, of the engine, which has yet to be started.

        Raises:
            MemoryLimitExceeded: the module's memory is larger than the limits allow.
        """
        engine = Engine.for_limits(limits) if module is None else Engine.shared()
        try:
            instance = JavaScriptInstance(module or engine.module, memory_bytes=limits.memory_bytes, engine=engine)
        except MemoryRefused as refused:
            raise out_of_memory(limits, refused.wanted) from None
        return cls(instance, limits)

    def start(self) -> None:
        """Initialise the C library and start the engine: the first call on an instance of the engine itself."""
        self.instance.bind("_initialize")()
        self.put()
        self.call("engine_start")

    def configure(self, *, may_eval: bool, host: Iterable[str]) -> None:
        """Set what the plugin that is loaded next may do.

        Args:
            may_eval: whether it may turn strings into code.
            host: names of the host functions that it may call.

        Raises:
            PluginError: a host function has the name of one of the engine's globals.
        """
        self.put(orjson.dumps([may_eval, *host]))
        reply = self._run("engine_configure")
        if reply.status != Status.OK:
            raise load_error(self.instance, reply, self.limits)

    def load(self, source: str, name: str, kind: SourceKind = "auto") -> None:
        """Load a plugin.

        Raises:
            PluginError: its source does not compile, or its top level throws.
            JobTimeout: the load takes longer than the limits allow.
            FuelExhausted: it takes more instructions than they allow.
            MemoryLimitExceeded: it takes more memory than they allow.
        """
        try:
            text = source.encode()
        except UnicodeEncodeError as error:
            raise PluginError(f"the plugin's source is not Unicode text: {error.reason}") from None
        self.put(text, name=name, kind=LoadKind[kind.upper()])
        try:
            reply = self._run("engine_load")
        except JSError as error:
            raise PluginError(f"the plugin brings the engine down: {error.message}") from None
        if reply.status != Status.OK:
            raise load_error(self.instance, reply, self.limits)

    def put(self, data: Encoded = b"", *, name: str = "", kind: LoadKind = LoadKind.AUTO) -> None:
        """Write the request and the input of the next call into linear memory.

        Args:
            data: the input: a document or a source text.
            name: the function to call, or the file name of a plugin that is loaded.
            kind: what the plugin's source is, for a load; 0, which also says that a document is JSON, for anything
                else.

        Raises:
            MemoryLimitExceeded: the input does not fit the limits.
            PluginError: the name is too long.
        """
        self._function = name
        address = self.instance.reply().input_ptr if data else 0  # a call without input may come before there is room
        self._writer.write(self.instance, name, data, kind, address)

    def call(self, export: str) -> Reply:
        """Call an export on what `put` has written.

        Raises:
            PexecError: the guest reports anything but success; the subclass says what.
        """
        reply = self._run(export)
        if reply.status != Status.OK:
            raise job_error(self.instance, reply, self.limits, self._function)
        return reply

    def output(self) -> bytes:
        """Return the output of the last call."""
        reply = self.instance.reply()
        return self.instance.read(reply.output_ptr, reply.output_len)

    def snapshot(self) -> Snapshot:
        """Copy linear memory, without the pages that are all zero."""
        instance = self.instance
        memory = instance.read(0, instance.size())
        return Snapshot(
            memory_size=len(memory),
            globals=instance.globals(),
            input_ptr=instance.reply().input_ptr,
            runs=changed(memory),
        )

    def close(self) -> None:
        """Forget the instance. Calling it again does nothing."""
        if hasattr(self, "instance"):
            self._deadline.close()
            self._calls.clear()
            del self.instance

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # __init__ did not get as far
            self.close()

    def _run(self, export: str) -> Reply:
        call = self._calls.get(export)
        if call is None:
            call = self._calls[export] = self.instance.bind(export)
        self._deadline.begin(self._writer.job, metered=export not in _OURS)
        try:
            call()
        except Trapped as trap:
            raise trap_error(self.instance.reply(), self.limits, trap, self._function) from None
        finally:
            self._deadline.end()
        return self.instance.reply()
