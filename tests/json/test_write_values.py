"""JSON.stringify in the sandbox and the writer of a job's result are ours; with a replacer function it is the engine's.

All must make the same text, do the same to what they look at, and throw the same.
"""

from __future__ import annotations

import json
import re
import struct

import pytest
from hypothesis import given

import parallel_exec as px
from tests.json.oracle import examples
from tests.json.values import BRANCHES, LEAVES, VALUES, fill

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[-+.\de]*')


def exact(text: str) -> str:
    """The text with its numbers as bits: the engine does not write the fewest digits of some powers of two."""

    def replace(found: re.Match[str]) -> str:
        part = found.group()
        return part if part[0] == '"' else struct.pack("<d", float(part)).hex()

    return TOKEN.sub(replace, text)


# The engine keeps the objects that enclose the one it writes in an array of its own, which an accessor that the plugin
# puts on Array.prototype breaks. Ours keeps them elsewhere, and is right.
ENGINE_BREAKS = "throws TypeError: no setter for property"


def assert_alike(oracle: px.Sandbox, source: str) -> None:
    document = json.dumps(source).encode()
    ours, theirs = oracle.call("writeOurs", document), oracle.call("writeOwn", document)
    if not theirs.startswith(ENGINE_BREAKS):
        assert ours == theirs or exact(ours) == exact(theirs), source


def assert_result_alike(oracle: px.Sandbox, source: str) -> None:
    """The same of a job's result. In an array, because a promise is awaited and a typed array goes out as bytes."""
    document = json.dumps(f"[{source}]").encode()
    expected = oracle.call("writeOwn", document).partition("\n")[0]
    if expected == ENGINE_BREAKS:
        return
    if expected == "undefined":
        expected = "text null"  # a result that has no text
    try:
        result = "text " + oracle.call_bytes("makeValue", document).decode()
    except px.JSError as error:
        result = "throws " + ("string" if error.name == "throw" else f"{error.name}: {error.message}")
    assert result == expected or exact(result) == exact(expected), source


@pytest.mark.parametrize("source", LEAVES)
def test_each_leaf(oracle: px.Sandbox, source: str) -> None:
    assert_alike(oracle, source)
    assert_result_alike(oracle, source)
    assert_alike(oracle, f"[{source}]")
    assert_alike(oracle, f"{{ a: {source}, b: {source} }}")
    assert_result_alike(oracle, source)


@pytest.mark.parametrize("template", BRANCHES)
def test_each_branch(oracle: px.Sandbox, template: str) -> None:
    for leaf in ("1", "'s'", "undefined", "{ x: 1 }", "[2.5, {}]", "1n", "() => 1", "{ toJSON: (k) => k }"):
        source = fill(template, [leaf] * template.count("@"))
        assert_alike(oracle, source)
        assert_result_alike(oracle, source)


@examples(400)
@given(VALUES)
def test_values_of_all_sorts(oracle: px.Sandbox, source: str) -> None:
    assert_alike(oracle, source)
    assert_result_alike(oracle, source)


@pytest.mark.nightly
@examples(40_000)
@given(VALUES)
def test_many_values_of_all_sorts(oracle: px.Sandbox, source: str) -> None:
    assert_alike(oracle, source)
    assert_result_alike(oracle, source)
