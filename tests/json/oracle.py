"""The plugin that compares our JSON with the engine's own, and how many examples the tests try with it."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, settings

import parallel_exec as px

ORACLE = px.Plugin.from_file(Path(__file__).with_name("oracle.js"))


def examples(count: int) -> settings:
    """Try so many examples, without a deadline, because the machine may be busy."""
    return settings(deadline=None, max_examples=count, suppress_health_check=list(HealthCheck))
