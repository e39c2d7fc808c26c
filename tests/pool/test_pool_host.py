"""Host functions in workers: imported there, their errors JavaScript's, their failures in the parent's log."""

from __future__ import annotations

import logging
import operator
import sys

import pytest

import parallel_exec as px
from parallel_exec.pool import Pool


def test_a_failure_is_logged_in_the_parent(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    plugin = px.Plugin("const f = d => item(d, 'absent\\ud800')", host={"item": operator.getitem})
    with caplog.at_level(logging.DEBUG), pytest.raises(px.JSError, match="KeyError: 'absent"):
        pool.submit(plugin.function("f"), {"a": 1}).result(timeout=60)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "the host function item() failed" in record.getMessage() and "Traceback" in caplog.text
    assert pool.submit(px.Plugin("const f = d => d").function("f"), 1).result(timeout=60) == 1
    assert len(caplog.records) == 1


def test_what_is_no_exception_ends_one_job(pool: Pool) -> None:
    source = "const f = d => { try { exit(d) } catch { return 1 } finally { return 2 } }"
    plugin = px.Plugin(source, host={"exit": sys.exit})
    with pytest.raises(px.PexecError):
        pool.submit(plugin.function("f"), 3).result(timeout=60)
    assert pool.submit(px.Plugin("const f = d => d").function("f"), 1).result(timeout=60) == 1
