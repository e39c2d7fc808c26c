"""That every strategy does what its name says, and that no job sees another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import wasmtime

from parallel_exec import JSError, Limits, Plugin, PluginError
from parallel_exec.measure.strategies import STRATEGIES, Strategy, Work
from parallel_exec.sandbox import Engine

IN_PROCESS = [name for name in STRATEGIES if name != "parallel"]
BAKED = ("wizer", "wizer-plus", "cached", "parser")


def work(source: str, document: bytes = b"1", function: str = "f") -> Work:
    limits = Limits(seed=1, time=0.0)
    return Work(plugin=Plugin(source, name="p.js"), function=function, document=document, limits=limits)


Make = Callable[[str, Work], Strategy]


@pytest.fixture
def made() -> Iterator[Make]:
    """Makes strategies, which are prepared, and closed at the end."""
    strategies: list[Strategy] = []

    def make(name: str, of: Work) -> Strategy:
        strategy = STRATEGIES[name](of)
        strategies.append(strategy)
        strategy.prepare()
        return strategy

    yield make
    for strategy in strategies:
        strategy.close()
        strategy.close()


# Baking and compiling takes a second for four of the strategies: each test asks for much of one preparation.


@pytest.mark.parametrize("name", STRATEGIES)
def test_jobs_of_a_module_do_not_see_each_other(made: Make, name: str) -> None:
    source = """
        let n = 0;
        const m = new Map(Array.from({length: 1000}, (_, i) => [i / 2, i]));
        export const f = async d => {
            globalThis.g = (globalThis.g ?? 0) + 1;
            d.x.push(1);
            return { counts: [++n, g, d.x.length], found: m.get(7.5), d: await d };
        }
    """
    strategy = made(name, work(source, b'{"x": [1.5, null, "\xe2\x80\xa8"]}'))
    answer = b'{"counts":[1,1,4],"found":15,"d":{"x":[1.5,null,"\xe2\x80\xa8",1]}}'
    assert strategy.run() == answer
    assert strategy.run_many(5) == [answer] * 5
    strategy.stages()
    assert strategy.run() == answer


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_job_that_fails_says_where_and_the_next_one_works(made: Make, name: str) -> None:
    strategy = made(name, work("function f(d) { throw new TypeError('no') }"))
    for _ in range(2):
        with pytest.raises(JSError, match=r"^p\.js: f\(\): TypeError: no \(at p\.js:1:"):
            strategy.run()


@pytest.mark.parametrize("name", IN_PROCESS)
def test_a_plugin_that_does_not_compile(made: Make, name: str) -> None:
    with pytest.raises(PluginError, match=r"^p\.js: "):
        made(name, work("function f( {")).run()


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_is_cached_is_and_what_is_not_is_not(made: Make, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job after `prepare` with another document, and with another plugin, shows what the module holds."""
    compiled: list[bool] = []
    compile_module = Engine.compile

    def noted(self: Engine, wasm: bytes, *, cached: bool = True) -> wasmtime.Module:
        compiled.append(cached)
        return compile_module(self, wasm, cached=cached)

    monkeypatch.setattr(Engine, "compile", noted)
    # As source text, the key sets the prototype; JSON.parse makes it a key like any other.
    as_source = name in ("baseline", "wizer", "wizer-plus")
    of = work("const f = d => ['old', d.n, d.inherited ?? 0]", b'{"n": 1, "__proto__": {"inherited": 1}}')
    old = b'["old",1,%d]' % as_source
    strategy = made(name, of)
    assert strategy.run() == old
    # A baked module is compiled anew for each plugin, without a cache; of the others the engine's is there.
    assert [cached for cached in compiled if not cached] == ([False] if name in BAKED else [])
    if name == "parallel":
        return
    strategy.work = replace(of, document=b'{"n": 2}')
    assert strategy.run() == (old if name == "cached" else b'["old",2,0]')
    strategy.work = replace(of, plugin=Plugin("const f = d => ['new', d.n]"))
    assert strategy.run() == (b'["new",1]' if name in ("baseline", "wizer") else old)
