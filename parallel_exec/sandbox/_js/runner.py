"""Runs a JavaScript plugin's jobs: the engine's mailbox, its memory image, and the reset in place after each job."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from parallel_exec._codec import arrays
from parallel_exec.errors import InvalidDocument, PexecError
from parallel_exec.host import HostFunction
from parallel_exec.limits import Limits
from parallel_exec.sandbox import _outcome as outcome
from parallel_exec.sandbox._chain import locate, stage_name
from parallel_exec.sandbox._console import OnConsole, records
from parallel_exec.sandbox._engine.deadline import Deadline
from parallel_exec.sandbox._engine.engine import Engine
from parallel_exec.sandbox._engine.instance import Instance, MemoryRefused
from parallel_exec.sandbox._engine.raw import Trapped
from parallel_exec.sandbox._host_calls import HostCalls
from parallel_exec.sandbox._js.mailbox import INPUT_PADDING, Reply, Request, Status
from parallel_exec.sandbox._reset import fill_new
from parallel_exec.sandbox._runner import Runner

if TYPE_CHECKING:
    from parallel_exec.sandbox._js.image import MemoryImage

# An instance whose memory has grown by more than this beyond the image's is dropped, not kept for the next job.
KEEP_MEMORY = 64 << 20


class JavaScriptRunner(Runner[Instance]):
    """`Runner` for the engine's guest.

    Args:
        image: of the plugin.
        limits: on each job.
        on_console: receives console records.
        host: host functions by name.
    """

    def __init__(
        self,
        image: MemoryImage,
        limits: Limits,
        on_console: OnConsole,
        host: Mapping[str, HostFunction] | None,
    ) -> None:
        super().__init__(limits)
        self._image = image
        self._host = HostCalls(host, limits) if host else None
        self._on_console = on_console
        self._engine = Engine.for_limits(limits)
        # Every page that memory grows by takes fuel: not so if an earlier job has grown it.
        self._keep_memory = 0 if self._engine.metered else KEEP_MEMORY
        self._requests: dict[str, Request] = {}
        self._run: Callable[[], None]
        self._seeds = random.SystemRandom().getrandbits(64)
        self._open()

    @property
    def busy(self) -> bool:
        return self._host is not None and self._host.busy

    def drop(self) -> None:
        if self._instance is not None:
            super().drop()
            del self._run  # it holds the store

    def run(
        self,
        function: str,
        content: bytes | bytearray | memoryview,
        kind: int,
        stopped: Callable[[], bool] | None,
    ) -> tuple[int, bytes]:
        limits = self.limits
        length = len(content)
        if kind == arrays.MESSAGE_PACK:
            raise InvalidDocument("a JavaScript function takes JSON or a typed array, not MessagePack")
        if self._dirty:
            self.check_idle()
            self.drop()  # an exception, such as Ctrl-C, tore the last job out of one of the lines below
        instance = self._instance or self._open()
        self._dirty = True
        input_end = self._put(instance, function, content, length, kind)
        if self._host is not None:
            self._host.begin()
        deadline = self._deadline
        deadline.begin(self._job)
        if stopped is not None and stopped():
            deadline.stop()
        try:
            if self._host is None:
                self._run()
            else:
                with self._host.callbacks:
                    self._run()
        except Trapped as trap:
            deadline.end()  # before the instance goes, for its fuel
            raise self._trapped(instance, function, trap) from None
        except BaseException:
            raised = self._host.end() if self._host is not None else None
            if raised is None:
                raise
            self.drop()
            raise raised from None
        finally:
            deadline.end()
        reply = instance.reply()
        try:
            if reply.status != Status.OK:
                error = outcome.job_error(instance, reply, limits, stage_name(function, reply), content)
                raise locate(error, function, reply)
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
        self.reached = reached = min(max(reply.high_water, input_end), size)
        self.fuel_used = self._deadline.fuel_used
        if reply.memory_wanted or size - image.memory_size > self._keep_memory:
            self.drop()
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
        self.reached = instance.size()
        self.fuel_used = self._deadline.fuel_used
        self.drop()
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

    def _request(self, function: str) -> Request:
        self.check_open()
        limits = self.limits
        request = Request(
            function, memory=limits.memory_bytes, output=limits.output_bytes, console=limits.console_bytes
        )
        if len(self._requests) >= 64:
            self._requests.clear()
        self._requests[function] = request
        return request

    def _open(self) -> Instance:
        self.check_open()
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
