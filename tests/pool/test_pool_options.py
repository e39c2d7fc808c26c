"""The pool's options: domains kept apart, workers renewed, crashed jobs retried."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import parallel_exec as px
from parallel_exec.pool import Pool

WHERE = "function where() { return pid() }"
HOST: dict[str, Callable[..., Any]] = {"pid": os.getpid, "kill": os.kill, "mkdir": os.mkdir}


def where(domain: str | None) -> px.PluginFunction:
    return px.Plugin(WHERE, host={"pid": os.getpid}, domain=domain).function("where")


@pytest.mark.parametrize("workers", [1, 2])
def test_isolated_domains_never_share_a_process(workers: int) -> None:
    functions = [where(domain) for domain in ("a", "b", "c", None)]
    with Pool(workers, isolation="process") as pool:
        futures = [[pool.submit(function, 0) for function in functions] for _ in range(10)]
        futures += [[future] for future in (pool.submit(functions[0], 0) for _ in range(10))]
        pids: list[set[int]] = [set() for _ in functions]
        for row in futures:
            for number, future in enumerate(row):
                pids[number].add(future.result())
        assert sum(map(len, pids)) == len(set.union(*pids))
        assert set(pool.map(functions[1], range(20))).isdisjoint(pids[0] | pids[2] | pids[3])


def test_domains_share_processes_by_default() -> None:
    with Pool(1) as pool:
        assert len({pool.submit(where(domain), 0).result() for domain in ("a", "b", None)}) == 1


def test_workers_are_renewed_after_their_number_of_jobs() -> None:
    with Pool(2, max_jobs_per_worker=5) as pool:
        pids = list(pool.map(where(None), range(60)))
    assert len(pids) == 60 and all(pids.count(pid) <= 5 for pid in pids)


@pytest.mark.parametrize("retries", [0, 1])
def test_a_job_whose_worker_died_is_run_again_if_asked(retries: int, tmp_path: Path) -> None:
    source = "function f(path) { try { mkdir(path) } catch { return 'second' } kill(pid(), 9) }"
    with Pool(1, retries=retries) as pool:
        future = pool.submit(px.Plugin(source, host=HOST).function("f"), str(tmp_path / "mark"))
        if retries:
            assert future.result() == "second"
        else:
            assert isinstance(future.exception(), px.WorkerCrashed)


def test_retries_end_and_a_plugins_failure_is_not_retried(tmp_path: Path) -> None:
    source = """
    function die() { kill(pid(), 9) }
    function fail(path) { mkdir(path); throw new Error('mine') }
    """
    plugin = px.Plugin(source, host=HOST)
    with Pool(1, retries=2) as pool:
        assert isinstance(pool.submit(plugin.function("die"), 0).exception(), px.WorkerCrashed)
        with pytest.raises(px.JSError, match="mine"):
            pool.submit(plugin.function("fail"), str(tmp_path / "mark")).result()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"isolation": "thread"}, "isolation must be"),
        ({"max_jobs_per_worker": -1}, "max_jobs_per_worker must be"),
        ({"retries": -1}, "retries must be"),
        ({"retries": True}, "retries must be"),
    ],
)
def test_options_out_of_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pool(1, **options)
