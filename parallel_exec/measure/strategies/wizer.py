"""The engine is started in a baked module: each job makes an instance of it and hands it script and data as source
text.
"""

from __future__ import annotations

from parallel_exec.measure.strategies.fresh import FreshInstance, baked, read_source
from parallel_exec.measure.strategies.strategy import Clock, Stage
from parallel_exec.sandbox._js.driver import Driver


class Wizer(FreshInstance):
    name = "wizer"
    cached = "the started engine"

    def prepare(self) -> None:
        self.module = baked(self.work, plugin=False)

    def job(self, driver: Driver, clock: Clock) -> None:
        work = self.work
        driver.load(work.plugin.source, work.plugin.name, work.plugin.kind)
        clock.lap(Stage.LOAD_SCRIPT)
        read_source(driver, work, clock)
