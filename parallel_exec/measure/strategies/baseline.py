"""Nothing is cached: each job makes a new instance, starts the engine, and hands it script and data as source text."""

from __future__ import annotations

from parallel_exec.measure.strategies.fresh import FreshInstance, read_source
from parallel_exec.measure.strategies.strategy import Clock, Stage
from parallel_exec.sandbox._engine.engine import Engine
from parallel_exec.sandbox._js.driver import Driver


class Baseline(FreshInstance):
    name = "baseline"
    cached = "nothing"

    def prepare(self) -> None:
        self.module = Engine.shared().module

    def job(self, driver: Driver, clock: Clock) -> None:
        work = self.work
        driver.start()
        clock.lap(Stage.INITIALISE)
        driver.load(work.plugin.source, work.plugin.name, work.plugin.kind)
        clock.lap(Stage.LOAD_SCRIPT)
        read_source(driver, work, clock)
