"""The strategies that keep an instance and reset it after each job: in this process, and in a pool's workers."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from parallel_exec.errors import PexecError
from parallel_exec.measure.strategies.strategy import JobStage, StageClock, Strategy, Work
from parallel_exec.sandbox import MemoryImage, Sandbox
from parallel_exec.sandbox._js.driver import Driver
from parallel_exec.sandbox._js.mailbox import INPUT_PADDING

if TYPE_CHECKING:
    from parallel_exec.pool import Pool


class Resident(Strategy):
    """What `Sandbox` does: the plugin's memory image lies in a resident instance, and is restored after each job."""

    name = "image"
    cached = "engine and plugin, in place"

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self._image: MemoryImage | None = None
        self._sandbox: Sandbox | None = None
        self._driver: Driver | None = None

    def prepare(self) -> None:
        work = self.work
        # Not plugin.image(), which may have been captured before: what a capture costs is part of the comparison.
        self._image = MemoryImage.capture(
            work.plugin.source, name=work.plugin.name, kind=work.plugin.kind, limits=work.limits
        )
        self._sandbox = Sandbox(self._image, limits=work.limits)

    def run(self) -> bytes:
        assert self._sandbox is not None, "prepare() comes first"
        return self._sandbox.call_bytes(self.work.function, self.work.document)

    def stages(self) -> dict[JobStage, float]:
        work, image = self.work, self._image
        assert image is not None, "prepare() comes first"
        if self._driver is None:
            self._driver = Driver.open(work.limits)
            image.fill(self._driver.instance)
        driver = self._driver
        clock = StageClock()
        try:
            driver.put(work.document, name=work.function)
            clock.lap(JobStage.COPY_IN)
            driver.call("engine_read")
            clock.lap(JobStage.PARSE)
            driver.call("engine_invoke")
            clock.lap(JobStage.RUN)
            driver.call("engine_write")
            clock.lap(JobStage.WRITE)
            driver.output()
            clock.lap(JobStage.COPY_OUT)
        except PexecError as error:
            driver.close()
            self._driver = None
            raise error.at(plugin=work.plugin.name, function=work.function) from None
        reply = driver.instance.reply()
        used = max(reply.high_water, image.input_ptr + len(work.document) + INPUT_PADDING)
        image.plan.apply(driver.instance, min(used, driver.instance.size()), reply.stack_low)
        clock.lap(JobStage.RESET)
        return clock.seconds

    def close(self) -> None:
        if self._driver is not None:
            self._driver.close()
            self._driver = None
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None


class Parallel(Strategy):
    """As `image`, in the worker processes of a pool: jobs overlap, so what counts is how many finish per second."""

    name = "parallel"
    cached = "as image, in every worker"
    batched = True

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self._function = work.plugin.function(work.function, output="bytes")
        self._pool: Pool | None = None
        self._here: Resident | None = None

    def prepare(self) -> None:
        from parallel_exec.pool import Pool

        self._pool = Pool(max_workers=self.work.workers, limits=self.work.limits)

    def run(self) -> bytes:
        """Run one job alone: there and back, with nothing else in flight."""
        assert self._pool is not None, "prepare() comes first"
        result = self._pool.submit(self._function, self.work.document).result()
        assert isinstance(result, bytes)
        return result

    def run_many(self, jobs: int) -> list[bytes]:
        assert self._pool is not None, "prepare() comes first"
        return list(self._pool.map(self._function, itertools.repeat(self.work.document, jobs)))

    def stages(self) -> dict[JobStage, float]:
        """Time the stages of a job in this process; transport is how much longer a job alone takes in the pool."""
        if self._here is None:
            self._here = Resident(self.work)
            self._here.prepare()
            self.run_many(2 * self.work.workers)  # each worker has its sandbox before a round trip is timed
        start = time.perf_counter()
        self._here.run()
        here = time.perf_counter()
        self.run()
        there = time.perf_counter()
        return self._here.stages() | {JobStage.TRANSPORT: (there - here) - (here - start)}

    def close(self) -> None:
        if self._here is not None:
            self._here.close()
            self._here = None
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
