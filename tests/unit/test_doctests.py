"""The examples in the package's docstrings, module by module."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import parallel_exec

NAMES = [parallel_exec.__name__] + [
    module.name
    for module in pkgutil.walk_packages(parallel_exec.__path__, parallel_exec.__name__ + ".")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", NAMES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    results = doctest.testmod(module, report=True, optionflags=doctest.ELLIPSIS)
    assert results.failed == 0, f"{results.failed} of {results.attempted} examples fail; see the captured output"


def test_examples_are_found() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [test for name in NAMES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(examples) >= 15
