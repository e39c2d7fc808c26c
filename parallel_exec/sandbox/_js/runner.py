"""Runs a JavaScript plugin's jobs, each from the plugin's memory image, which is put back in place after it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping

from parallel_exec._codec import arrays
from parallel_exec._codec.arrays import Encoded
from parallel_exec.errors import InvalidDocument, PexecError
from parallel_exec.host import HostFunction
from parallel_exec.limits import Limits
from parallel_exec.sandbox._console import OnConsole, hand_out
from parallel_exec.sandbox._engine.deadline import Deadline
from parallel_exec.sandbox._engine.engine import Engine
from parallel_exec.sandbox._engine.memory import MemoryRefused
from parallel_exec.sandbox._engine.raw import Trapped
from parallel_exec.sandbox._js.host_calls import JavaScriptHostCalls
from parallel_exec.sandbox._js.image import MemoryImage
from parallel_exec.sandbox._js.instance import JavaScriptInstance, JobWriter
from parallel_exec.sandbox._js.mailbox import Reply, Status
from parallel_exec.sandbox._js.outcome import console_records, job_error, trap_error
from parallel_exec.sandbox._limit_errors import out_of_memory
from parallel_exec.sandbox._runner import Runner

# An instance whose memory has grown by more than this beyond the image's is dropped, not kept for the next job.
KEEP_MEMORY = 64 << 20


class JavaScriptRunner(Runner[JavaScriptInstance]):
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
        self._host = JavaScriptHostCalls(host, limits) if host else None
        self._on_console = on_console
        self._engine = Engine.for_limits(limits)
        # A job pays fuel for every page that memory grows by; it must not save that because an earlier job grew it.
        self._keep_memory = 0 if self._engine.metered else KEEP_MEMORY
        self._writer = _job_writer(limits)
        self._run: Callable[[], None]
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
        content: Encoded,
        kind: int,
        stopped: Callable[[], bool] | None,
    ) -> tuple[int, bytes]:
        if kind == arrays.MESSAGE_PACK:
            raise InvalidDocument("a JavaScript function takes JSON or a typed array, not MessagePack")
        if self._dirty:
            self.check_idle()
            self.drop()  # an exception, such as Ctrl-C, cut the last job short somewhere below
        instance = self._instance or self._open()
        self._dirty = True
        input_end = self._writer.write(instance, function, content, kind, self._image.input_ptr)
        if self._host is not None:
            self._host.begin()
        deadline = self._deadline
        deadline.begin(self._writer.job)
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
                raise job_error(instance, reply, self.limits, function, content)
            return reply.output_kind, instance.read(reply.output_ptr, reply.output_len)
        finally:
            self._finish(instance, reply, input_end)

    def _finish(self, instance: JavaScriptInstance, reply: Reply, input_end: int) -> None:
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
            hand_out(console_records(console), reply.console_dropped, self._on_console)

    def _trapped(self, instance: JavaScriptInstance, function: str, trap: Trapped) -> PexecError:
        reply = instance.reply()
        console = self._console(instance, reply)
        self.reached = instance.size()
        self.fuel_used = self._deadline.fuel_used
        self.drop()
        if console is not None:
            hand_out(console_records(console), reply.console_dropped, self._on_console)
        return trap_error(reply, self.limits, trap, function)

    def _console(self, instance: JavaScriptInstance, reply: Reply) -> bytes | None:
        """Copy what the job wrote to the console, before its memory is reset, or None if it wrote nothing."""
        if not reply.console_len and not reply.console_dropped:
            return None
        return instance.read(reply.console_ptr, min(reply.console_len, self.limits.console_bytes))

    def _open(self) -> JavaScriptInstance:
        self.check_open()
        engine = self._engine
        try:
            instance = JavaScriptInstance(engine.module, memory_bytes=self.limits.memory_bytes, engine=engine)
            self._image.fill(instance)
        except MemoryRefused:
            raise out_of_memory(self.limits, self._image.memory_size) from None
        self._deadline = Deadline(instance, self.limits)
        self._run = instance.bind("engine_job")
        if self._host is not None:
            self._host.attach(instance, self._deadline)
        self._instance = instance
        return instance


def _job_writer(limits: Limits) -> JobWriter:
    if limits.seed is not None:
        return JobWriter(limits, limits.seed)
    if limits.fuel is not None:
        return JobWriter(limits, 1)
    # A Weyl sequence from a random start; the engine's generator mixes it (xorshift64*).
    return JobWriter(limits, random.SystemRandom().getrandbits(64), 0x9E3779B97F4A7C15)
