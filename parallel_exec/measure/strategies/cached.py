"""Everything is in a baked module, the data too: each job makes an instance of it and only calls the function."""

from __future__ import annotations

from parallel_exec.measure.strategies.fresh import FreshInstance, baked
from parallel_exec.measure.strategies.strategy import Clock, Stage
from parallel_exec.sandbox._js.driver import Driver


class Cached(FreshInstance):
    name = "cached"
    cached = "engine, plugin and data"

    def prepare(self) -> None:
        self.module = baked(self.work, plugin=True, document=True)

    def job(self, driver: Driver, clock: Clock) -> None:
        driver.put(name=self.work.function)
        clock.lap(Stage.COPY_IN)
