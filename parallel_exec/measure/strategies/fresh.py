"""What the strategies with a new instance per job have in common; they differ in what the module holds already."""

from __future__ import annotations

from abc import abstractmethod

import wasmtime

from parallel_exec.errors import PexecError
from parallel_exec.measure.strategies.strategy import Clock, Stage, Strategy, Work
from parallel_exec.sandbox._binary.bake import bake
from parallel_exec.sandbox._engine.engine import Engine
from parallel_exec.sandbox._js.driver import Driver


class FreshInstance(Strategy):
    """A strategy whose every job makes an instance of `module`, and throws it away."""

    module: wasmtime.Module

    @abstractmethod
    def job(self, driver: Driver, clock: Clock) -> None:
        """Do in a new instance what a job needs before its function is called, booking it by stages."""

    def run(self) -> bytes:
        return self._run(Clock())

    def stages(self) -> dict[Stage, float]:
        clock = Clock()
        self._run(clock)
        clock.lap(Stage.RESET)  # the instance is gone since `_run` has returned
        return clock.seconds

    def _run(self, clock: Clock) -> bytes:
        work = self.work
        try:
            with Driver.open(work.limits, self.module) as driver:
                clock.lap(Stage.INSTANTIATE)
                self.job(driver, clock)
                driver.call("engine_invoke")
                clock.lap(Stage.RUN)
                driver.call("engine_write")
                clock.lap(Stage.WRITE)
                result = driver.output()
                clock.lap(Stage.COPY_OUT)
        except PexecError as error:
            raise error.at(plugin=work.plugin.name, function=work.function) from None
        return result


def read_source(driver: Driver, work: Work, clock: Clock) -> None:
    """Give the document to the engine as source text.

    JSON is a subset of JavaScript's expressions, with one exception: a key ``__proto__`` sets the prototype here, and
    is a key like any other to JSON.parse. Parentheses keep an object from being taken for a block.
    """
    driver.put(b"(%b)" % work.document, name=work.function)
    clock.lap(Stage.COPY_IN)
    driver.call("engine_read_source")
    clock.lap(Stage.PARSE)


def baked(work: Work, *, plugin: bool, document: bool = False) -> wasmtime.Module:
    """Return a module that starts with the engine running and, if so told, the plugin loaded and the document read.

    It is compiled here and now, not taken from the cache of compiled modules: a new plugin, or a new document, is a
    new module, and what that costs is part of the comparison.
    """
    try:
        with Driver.open(work.limits) as driver:
            driver.start()
            if plugin:
                driver.load(work.plugin.source, work.plugin.name, work.plugin.kind)
            if document:
                driver.put(work.document)
                driver.call("engine_read")
            driver.put()
            driver.call("engine_freeze")
            engine = Engine.shared()
            return engine.compile(bake(engine.wasm, driver.snapshot()), cached=False)
    except PexecError as error:
        raise error.at(plugin=work.plugin.name) from None
