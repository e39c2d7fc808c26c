"""The plugin is loaded in a baked module, one module per plugin as Javy does it: each job makes an instance of it and
hands it the data as source text.
"""

from __future__ import annotations

from parallel_exec.measure.strategies.fresh import FreshInstance, baked, read_source
from parallel_exec.measure.strategies.strategy import Clock
from parallel_exec.sandbox._js.driver import Driver


class WizerPlus(FreshInstance):
    name = "wizer-plus"
    cached = "engine and plugin"

    def prepare(self) -> None:
        self.module = baked(self.work, plugin=True)

    def job(self, driver: Driver, clock: Clock) -> None:
        read_source(driver, self.work, clock)
