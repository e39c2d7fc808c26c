"""The sandboxes and pools that are attacked, and an end to a test run that hangs."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator

import pytest

from tests.attacks.attack import Pools, Sandboxes


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[Sandboxes]:
    found = Sandboxes()
    yield found
    found.close()


@pytest.fixture(scope="module")
def pools() -> Iterator[Pools]:
    found = Pools()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """A job that nothing stops would hold this process forever."""
    faulthandler.dump_traceback_later(300, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
