"""Signed messages from one end to the other while a worker, the consumer and Redis are killed."""

from __future__ import annotations

import json

import pytest

from tests.service.programs import Start

pytest.importorskip("coincurve", reason="pip install coincurve")
pytest.importorskip("ziglang", reason="pip install ziglang")


@pytest.mark.usefixtures("redis_server")  # skips where there is none
def test_every_message_is_answered_rightly_whatever_is_killed(start: Start) -> None:
    process = start("verify-demo", "--workers", "2", "--chaos", "--json", "-")
    out, errors = process.popen.communicate()
    assert process.popen.returncode == 0, errors
    told = json.loads(out)
    assert (told["messages"], told["right"]) == (1024, 1024)
    assert (told["wrong"], told["lost"], told["twice"]) == (0, 0, 0)
    assert [each.split()[0] for each in told["killed"]] == ["worker", "consumer", "redis-server"]
    assert errors.count("killed ") == 3 and "it runs as version 2" in errors
    assert "Redis is lost" in errors


def test_too_few_messages(start: Start) -> None:
    assert start("verify-demo", "--messages", "7").end(None) == (
        2,
        "pexec: error: --messages must be at least 8; got 7\n",
    )
