"""That every strategy does what its name says, and that no job sees another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from parallel_exec import JSError, Limits, Plugin, PluginError
from parallel_exec.strategies import STRATEGIES, Work

IN_PROCESS = [name for name in STRATEGIES if name != "parallel"]


def work(source: str, document: bytes = b"1", function: str = "f", **options: object) -> Work:
    limits = Limits(seed=1, time=0.0)
    return Work(plugin=Plugin(source, name="p.js"), function=function, document=document, limits=limits, **options)


@pytest.fixture
def made():
    """Strategies, closed at the end."""
    strategies = []

    def make(name: str, of: Work):
        strategy = STRATEGIES[name](of)
        strategies.append(strategy)
        strategy.prepare()
        return strategy

    yield make
    for strategy in strategies:
        strategy.close()
        strategy.close()


@pytest.mark.parametrize("name", STRATEGIES)
def test_jobs_do_not_see_each_other(made, name):
    source = (
        "let n = 0; const f = d => { globalThis.m = (globalThis.m ?? 0) + 1; d.push(1); return [++n, m, d.length] }"
    )
    strategy = made(name, work(source, b"[]"))
    assert strategy.run() == b"[1,1,1]"
    assert strategy.run_many(5) == [b"[1,1,1]"] * 5
    strategy.stages()
    assert strategy.run() == b"[1,1,1]"


@pytest.mark.parametrize("name", STRATEGIES)
def test_maps_of_the_plugin_find_their_keys(made, name):
    source = "const m = new Map(Array.from({length: 1000}, (_, i) => [i / 2, i])); const f = d => m.get(d)"
    assert made(name, work(source, b"7.5")).run() == b"15"


@pytest.mark.parametrize("name", STRATEGIES)
def test_modules_and_promises(made, name):
    strategy = made(name, work("export const f = async d => ({ d: await d })", b'{"x": [1.5, null, "\xe2\x80\xa8"]}'))
    assert strategy.run() == b'{"d":{"x":[1.5,null,"\xe2\x80\xa8"]}}'


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_job_that_fails_says_where_and_the_next_one_works(made, name):
    strategy = made(name, work("function f(d) { throw new TypeError('no') }"))
    for _ in range(2):
        with pytest.raises(JSError, match=r"^p\.js: f\(\): TypeError: no \(at p\.js:1:"):
            strategy.run()


@pytest.mark.parametrize("name", IN_PROCESS)
def test_a_plugin_that_does_not_compile(made, name):
    with pytest.raises(PluginError, match=r"^p\.js: "):
        made(name, work("function f( {")).run()


@pytest.mark.parametrize("name", ["baseline", "wizer", "wizer-plus"])
def test_data_as_source_text_goes_through_the_engines_parser(made, name):
    # As source text, the key sets the prototype; JSON.parse makes it a key like any other.
    source = "const f = d => [Object.keys(d).length, d.inherited]"
    assert made(name, work(source, b'{"__proto__": {"inherited": 1}}')).run() == b"[0,1]"


@pytest.mark.parametrize("name", ["cached", "parser", "image", "parallel"])
def test_data_as_json_does_not(made, name):
    source = "const f = d => [Object.keys(d).length, d.inherited]"
    assert made(name, work(source, b'{"__proto__": {"inherited": 1}}')).run() == b"[1,null]"


@pytest.mark.parametrize("name", IN_PROCESS)
def test_what_is_cached_is_and_what_is_not_is_not(made, name):
    """A job after `prepare` with another document, and with another plugin, shows what the module holds."""
    of = work("const f = d => 'old ' + d", b"1")
    strategy = made(name, of)
    strategy.work = replace(of, document=b"2")
    holds_data = name == "cached"
    assert strategy.run() == (b'"old 1"' if holds_data else b'"old 2"')
    strategy.work = replace(of, plugin=Plugin("const f = d => 'new ' + d"))
    holds_plugin = name not in ("baseline", "wizer")
    assert strategy.run() == (b'"old 1"' if holds_plugin else b'"new 1"')


@pytest.mark.parametrize("name", ["wizer", "wizer-plus", "cached", "parser"])
def test_baked_modules_are_compiled_each_time(made, name, monkeypatch):
    from parallel_exec.sandbox import Engine

    compiled = []
    compile_module = Engine.compile
    monkeypatch.setattr(
        Engine,
        "compile",
        lambda self, wasm, *, cached=True: compiled.append(cached) or compile_module(self, wasm, cached=cached),
    )
    made(name, work("const f = d => d")).run()
    assert compiled == [False]
