"""What `Sandbox` does: the plugin's memory image lies in a resident instance, and is put back in place after each
job.
"""

from __future__ import annotations

from parallel_exec.errors import PexecError
from parallel_exec.measure.strategies.strategy import Clock, Stage, Strategy, Work
from parallel_exec.sandbox import MemoryImage, Sandbox
from parallel_exec.sandbox._js.driver import Driver
from parallel_exec.sandbox._js.mailbox import INPUT_PADDING


class Image(Strategy):
    name = "image"
    cached = "engine and plugin, in place"

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self._image: MemoryImage | None = None
        self._sandbox: Sandbox | None = None
        self._driver: Driver | None = None

    def prepare(self) -> None:
        work = self.work
        # Not plugin.image(): that may be there from before, and what a capture costs is part of the comparison.
        self._image = MemoryImage.capture(
            work.plugin.source, name=work.plugin.name, kind=work.plugin.kind, limits=work.limits
        )
        self._sandbox = Sandbox(self._image, limits=work.limits)

    def run(self) -> bytes:
        assert self._sandbox is not None, "prepare() comes first"
        return self._sandbox.call_bytes(self.work.function, self.work.document)

    def stages(self) -> dict[Stage, float]:
        work, image = self.work, self._image
        assert image is not None, "prepare() comes first"
        if self._driver is None:
            self._driver = Driver.open(work.limits)
            image.fill(self._driver.instance)
        driver = self._driver
        clock = Clock()
        try:
            driver.put(work.document, name=work.function)
            clock.lap(Stage.COPY_IN)
            driver.call("engine_read")
            clock.lap(Stage.PARSE)
            driver.call("engine_invoke")
            clock.lap(Stage.RUN)
            driver.call("engine_write")
            clock.lap(Stage.WRITE)
            driver.output()
            clock.lap(Stage.COPY_OUT)
        except PexecError as error:
            driver.close()
            self._driver = None
            raise error.at(plugin=work.plugin.name, function=work.function) from None
        reply = driver.instance.reply()
        used = max(reply.high_water, image.input_ptr + len(work.document) + INPUT_PADDING)
        image.plan.apply(driver.instance, min(used, driver.instance.size()), reply.stack_low)
        clock.lap(Stage.RESET)
        return clock.seconds

    def close(self) -> None:
        if self._driver is not None:
            self._driver.close()
            self._driver = None
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None
