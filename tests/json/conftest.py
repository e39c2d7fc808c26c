"""What the tests of our JSON share: a sandbox with the plugin that holds the oracle."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import parallel_exec as px
from tests.json.oracle import ORACLE


@pytest.fixture(scope="session")
def oracle() -> Iterator[px.Sandbox]:
    """A sandbox of oracle.js; every call is a fresh job."""
    limits = px.Limits(time_s=None, memory_bytes=1 << 30, output_bytes=256 << 20)
    with px.Sandbox(ORACLE, limits=limits) as sandbox:
        yield sandbox
