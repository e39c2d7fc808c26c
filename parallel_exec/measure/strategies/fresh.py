"""The strategies that make a new instance for each job; they differ in what the instance's module already holds."""

from __future__ import annotations

from abc import abstractmethod

import wasmtime

from parallel_exec.errors import PexecError
from parallel_exec.measure.strategies.strategy import JobStage, StageClock, Strategy
from parallel_exec.sandbox._binary.bake import bake
from parallel_exec.sandbox._engine.engine import Engine
from parallel_exec.sandbox._js.driver import Driver


class FreshInstance(Strategy):
    """A strategy that makes an instance of `module` for each job, and discards it afterwards."""

    module: wasmtime.Module

    @abstractmethod
    def begin(self, driver: Driver, clock: StageClock) -> None:
        """Do in a new instance what a job needs before its function is called, and time it by stages."""

    def run(self) -> bytes:
        return self._run(StageClock())

    def stages(self) -> dict[JobStage, float]:
        clock = StageClock()
        self._run(clock)
        clock.lap(JobStage.RESET)  # the instance was discarded when `_run` returned
        return clock.seconds

    def _run(self, clock: StageClock) -> bytes:
        work = self.work
        try:
            with Driver.open(work.limits, self.module) as driver:
                clock.lap(JobStage.INSTANTIATE)
                self.begin(driver, clock)
                driver.call("engine_invoke")
                clock.lap(JobStage.RUN)
                driver.call("engine_write")
                clock.lap(JobStage.WRITE)
                result = driver.output()
                clock.lap(JobStage.COPY_OUT)
        except PexecError as error:
            raise error.at(plugin=work.plugin.name, function=work.function) from None
        return result

    def _load_plugin(self, driver: Driver) -> None:
        plugin = self.work.plugin
        driver.load(plugin.source, plugin.name, plugin.kind)

    def _read_source(self, driver: Driver, clock: StageClock) -> None:
        """Give the document to the engine as source text.

        JSON is a subset of JavaScript's expressions, with one exception: here a key ``__proto__`` sets the prototype,
        and for JSON.parse it is a key like any other. The parentheses keep an object from being read as a block.
        """
        driver.put(b"(%b)" % self.work.document, name=self.work.function)
        clock.lap(JobStage.COPY_IN)
        driver.call("engine_read_source")
        clock.lap(JobStage.PARSE)

    def _bake(self, *, plugin: bool, document: bool = False) -> wasmtime.Module:
        """Return a module that starts with the engine running and, if asked for, plugin and document loaded.

        It is compiled here and now, not taken from the cache of compiled modules: each new plugin, or document, is a
        new module, and what that costs is part of the comparison.
        """
        work = self.work
        try:
            with Driver.open(work.limits) as driver:
                driver.start()
                if plugin:
                    self._load_plugin(driver)
                if document:
                    driver.put(work.document)
                    driver.call("engine_read")
                driver.put()
                driver.call("engine_freeze")
                engine = Engine.shared()
                return engine.compile(bake(engine.wasm, driver.snapshot()), cached=False)
        except PexecError as error:
            raise error.at(plugin=work.plugin.name) from None


class Baseline(FreshInstance):
    """Nothing is cached: each job starts the engine, and gives it script and data as source text."""

    name = "baseline"
    cached = "nothing"

    def prepare(self) -> None:
        self.module = Engine.shared().module

    def begin(self, driver: Driver, clock: StageClock) -> None:
        driver.start()
        clock.lap(JobStage.INITIALISE)
        self._load_plugin(driver)
        clock.lap(JobStage.LOAD_SCRIPT)
        self._read_source(driver, clock)


class Wizer(FreshInstance):
    """The engine is started in a baked module: each job gives it script and data as source text."""

    name = "wizer"
    cached = "the started engine"

    def prepare(self) -> None:
        self.module = self._bake(plugin=False)

    def begin(self, driver: Driver, clock: StageClock) -> None:
        self._load_plugin(driver)
        clock.lap(JobStage.LOAD_SCRIPT)
        self._read_source(driver, clock)


class WizerPlus(FreshInstance):
    """The plugin is loaded in a baked module, as with Javy: each job gives it the data as source text."""

    name = "wizer-plus"
    cached = "engine and plugin"

    def prepare(self) -> None:
        self.module = self._bake(plugin=True)

    def begin(self, driver: Driver, clock: StageClock) -> None:
        self._read_source(driver, clock)


class Cached(FreshInstance):
    """Everything is in a baked module, the data too: each job only calls the function."""

    name = "cached"
    cached = "engine, plugin and data"

    def prepare(self) -> None:
        self.module = self._bake(plugin=True, document=True)

    def begin(self, driver: Driver, clock: StageClock) -> None:
        driver.put(name=self.work.function)
        clock.lap(JobStage.COPY_IN)


class Parser(FreshInstance):
    """As `wizer-plus`, but the data goes through our JSON reader rather than the parser of source text."""

    name = "parser"
    cached = "engine and plugin; our reader"

    def prepare(self) -> None:
        self.module = self._bake(plugin=True)

    def begin(self, driver: Driver, clock: StageClock) -> None:
        driver.put(self.work.document, name=self.work.function)
        clock.lap(JobStage.COPY_IN)
        driver.call("engine_read")
        clock.lap(JobStage.PARSE)
