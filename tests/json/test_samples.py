"""What the reader learned from sample documents is in the image: it makes reading faster and changes nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import parallel_exec as px
from tests.json import texts
from tests.json.oracle import ORACLE, examples

LIMITS = px.Limits(time_s=None, memory_bytes=1 << 30)
FEATURE = {
    "type": "Feature",
    "id": 1,
    "properties": {"name": "a", "list": [{"x": 1, "y": "s"}]},
    "points": [[1.5, 2.5]],
}
OTHER = [{"a": 1, "b": {"c": [1, "two"]}}, {"b": 2, "a": None}, {}, {"1": 1, "": 2, "__proto__": 3}]


@pytest.fixture(scope="module")
def taught() -> px.Sandbox:
    """A sandbox whose image has seen documents of several kinds, one after another."""
    samples = [FEATURE, [FEATURE] * 50, OTHER, [OTHER] * 10, {f"k{i}": {"v": i} for i in range(200)}, FEATURE]
    image = ORACLE.image(samples=samples, function="identity")
    return px.Sandbox(px.MemoryImage.from_bytes(image.to_bytes()), limits=LIMITS)


@examples(60)
@given(texts.BATCHES)
def test_texts_of_all_sorts(taught: px.Sandbox, batch: list[str]) -> None:
    found = taught.call("compareReading", json.dumps(batch).encode())
    assert not found, [(batch[index], what) for index, what in found]


@examples(60)
@given(st.one_of(texts.VALID, texts.kinds()))
def test_documents_of_all_sorts(taught: px.Sandbox, text: str) -> None:
    document = b'{"document":' + text.encode() + b',"text":' + json.dumps(text).encode() + b"}"
    assert taught.call("compareDocument", document) == ""


@pytest.mark.parametrize(
    "value", [FEATURE, [FEATURE] * 3, OTHER, [OTHER], [], {}, {"type": "Feature"}, {"id": 1, "type": "x"}]
)
def test_the_samples_own_kinds(taught: px.Sandbox, value: object) -> None:
    for _ in range(3):
        assert taught.call("identity", value) == value
        text = json.dumps(value, separators=(",", ":"))
        assert taught.call_bytes("identity", text.encode()).decode() == json.dumps(
            json.loads(text), separators=(",", ":")
        )


def test_a_sample_of_very_many_kinds() -> None:
    many = [{f"a{i}": {f"b{i}": [{f"c{i}": i}]}} for i in range(20_000)]
    with px.Sandbox(ORACLE.image(samples=[many], function="size"), limits=LIMITS) as sandbox:
        assert sandbox.call("size", many) == 20_000
