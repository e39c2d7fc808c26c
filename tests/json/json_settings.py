"""Hypothesis settings of the tests here: no deadline, because the machine may be busy."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def examples(count: int) -> settings:
    """Settings for a test that looks at so many examples."""
    return settings(deadline=None, max_examples=count, suppress_health_check=list(HealthCheck))
