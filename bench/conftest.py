"""How fast the parts are, by pytest-benchmark: `pytest bench`. For whole jobs there is `pexec bench`."""

from __future__ import annotations

import pytest

from parallel_exec import MemoryImage, Plugin
from parallel_exec.measure.fixture import document_path, plugin_path


@pytest.fixture(scope="session")
def plugin() -> Plugin:
    return Plugin.from_file(plugin_path())


@pytest.fixture(scope="session")
def document() -> bytes:
    return document_path().read_bytes()


@pytest.fixture(scope="session")
def image(plugin: Plugin) -> MemoryImage:
    return plugin.image()


@pytest.fixture(scope="session")
def identity() -> Plugin:
    return Plugin("function identity(d) { return d }", name="identity.js")
