"""What a pool of threads has in common with one of processes: limits, deployments, statistics, events."""

from __future__ import annotations

import parallel_exec as px
from parallel_exec.pool import Pool, PoolEvent
from tests.pool.conftest import Tools


def test_limits_of_plugin_and_function_hold(tools: Tools) -> None:
    small = px.Limits(output_bytes=100)
    with Pool(1, backend="thread") as pool:
        assert len(pool.submit(tools.function("long"), 500).result()) == 500
        tight = tools.plugin.function("long", limits=small)
        assert isinstance(pool.submit(tight, 500).exception(), px.OutputTooLarge)
        plugin = px.Plugin("function f(n) { return 'x'.repeat(n) }", limits=small)
        assert isinstance(pool.submit(plugin.function("f"), 500).exception(), px.OutputTooLarge)
        stats = pool.stats()
    assert (stats.jobs, stats.failures, stats.run.count) == (3, {"OutputTooLarge": 2}, 3)


def test_deployments_are_swapped() -> None:
    events: list[PoolEvent] = []
    with Pool(2, backend="thread", on_event=events.append) as pool:
        futures = []
        for number in range(1, 101):
            pool.deploy("d", px.Plugin(f"function f(x) {{ return [{number}, x] }}"))
            function = pool.deployment("d").function("f")
            pool.warm_up(function)
            futures += [pool.submit(function, number) for _ in range(3)]
        for future in futures:
            assert future.version is not None
            assert future.result() == [future.version.number, future.version.number]
        versioned = list(pool.map(function, [1, 2], versions=True))
    assert [(version.number, value) for version, value in versioned if version] == [(100, [100, 1]), (100, [100, 2])]
    assert [event.kind for event in events] == ["deployment swapped"] * 100
