"""Host functions in workers: what they raise is an error in JavaScript and is logged in the parent."""

from __future__ import annotations

import logging
import operator
import sys

import pytest

import parallel_exec as px
from parallel_exec.pool import Pool
from tests.pool.conftest import Tools


def test_a_failure_is_logged_in_the_parent(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    plugin = px.Plugin("const f = d => item(d, 'absent\\ud800')", host={"item": operator.getitem})
    with caplog.at_level(logging.DEBUG), pytest.raises(px.JSError, match="KeyError: 'absent"):
        pool.submit(plugin.function("f"), {"a": 1}).result()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "the host function item() failed" in record.getMessage() and "Traceback" in caplog.text
    assert pool.submit(px.Plugin("const f = d => d").function("f"), 1).result() == 1
    assert len(caplog.records) == 1


def test_a_host_function_that_exits_ends_one_job(pool: Pool) -> None:
    source = "const f = d => { try { exit(d) } catch { return 1 } finally { return 2 } }"
    plugin = px.Plugin(source, host={"exit": sys.exit})
    with pytest.raises(px.PexecError):
        pool.submit(plugin.function("f"), 3).result()
    assert pool.submit(px.Plugin("const f = d => d").function("f"), 1).result() == 1


def test_host_functions_that_workers_cannot_import_are_refused(tools: Tools) -> None:
    plugin = px.Plugin("function f(x) { return twice(x) }", host={"twice": lambda x: 2 * x})
    with Pool(1) as pool:
        with pytest.raises(px.PluginError, match=r"'twice' .* cannot be sent to another process"):
            pool.submit(plugin.function("f"), 1).result()
        assert pool.submit(tools.function("double"), 1).result() == 2
    assert plugin.function("f")(2) == 4


def test_host_functions_of_threads_need_not_be_importable() -> None:
    prices = {"tea": 3}
    plugin = px.Plugin("const f = d => price(d)", host={"price": lambda name: operator.getitem(prices, name)})
    with Pool(2, backend="thread") as pool:
        assert list(pool.map(plugin.function("f"), ["tea"] * 10)) == [3] * 10
