"""As `wizer-plus`, but the data goes through our JSON reader instead of the parser of source text."""

from __future__ import annotations

from parallel_exec.measure.strategies.fresh import FreshInstance, baked
from parallel_exec.measure.strategies.strategy import Clock, Stage
from parallel_exec.sandbox._js.driver import Driver


class Parser(FreshInstance):
    name = "parser"
    cached = "engine and plugin; our reader"

    def prepare(self) -> None:
        self.module = baked(self.work, plugin=True)

    def job(self, driver: Driver, clock: Clock) -> None:
        driver.put(self.work.document, name=self.work.function)
        clock.lap(Stage.COPY_IN)
        driver.call("engine_read")
        clock.lap(Stage.PARSE)
