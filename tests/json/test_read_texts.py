"""JSON.parse in the sandbox is ours; with a reviver it is the engine's. Both must read every text alike."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import parallel_exec as px
from tests.json import texts
from tests.json.oracle import examples


def assert_alike(oracle: px.Sandbox, batch: list[str]) -> None:
    # ASCII, because a text may hold lone surrogates.
    found = oracle.call("compareReading", json.dumps(batch).encode())
    assert not found, [(batch[index], what) for index, what in found]


@examples(250)
@given(st.lists(texts.VALID, min_size=1, max_size=8))
def test_valid_texts(oracle: px.Sandbox, batch: list[str]) -> None:
    for text in batch:
        json.loads(text, parse_int=float)  # the generator keeps its word
    assert_alike(oracle, batch)


@examples(100)
@given(st.lists(texts.kinds(), min_size=1, max_size=4))
def test_what_was_learnt_never_shows(oracle: px.Sandbox, batch: list[str]) -> None:
    assert_alike(oracle, [*batch, *batch])


@examples(125)
@given(st.lists(texts.DAMAGED, min_size=1, max_size=12))
def test_damaged_texts(oracle: px.Sandbox, batch: list[str]) -> None:
    assert_alike(oracle, batch)


@examples(75)
@given(texts.BATCHES)
def test_texts_of_all_sorts_in_turn(oracle: px.Sandbox, batch: list[str]) -> None:
    assert_alike(oracle, batch)


@pytest.mark.nightly
@examples(20_000)
@given(texts.BATCHES)
def test_many_texts_of_all_sorts_in_turn(oracle: px.Sandbox, batch: list[str]) -> None:
    assert_alike(oracle, batch)


def test_every_listed_number(oracle: px.Sandbox) -> None:
    wraps = ["{}", "[{}]", '{{"a":{}}}', "-{}", " {} ", "[{},{}]"]
    assert_alike(oracle, [wrap.replace("{}", text).replace("{{", "{").replace("}}", "}")
                          for text in texts.NUMBERS + texts.DAMAGED_NUMBERS for wrap in wraps])  # fmt: skip


def test_every_cut_and_every_changed_byte_of_a_small_document(oracle: px.Sandbox) -> None:
    document = (
        '{"type":"Feature","a\\n\u00e9":[1,-2.5e3,true,null,{"id":"\\ud83d\\ude00"},{"id":"x"},{}],'
        '"p":{"__proto__":false}} '
    )
    json.loads(document)
    assert_alike(oracle, [document[:end] for end in range(len(document) + 1)])
    for byte in '"\\{}[]:, 0-.eEtn\x00\n\x1f\u00e9\ud800':
        assert_alike(oracle, [document[:at] + byte + document[at + 1 :] for at in range(len(document))])
        assert_alike(oracle, [document[:at] + byte + document[at:] for at in range(len(document) + 1)])


def test_strings_of_every_length_around_the_vectors(oracle: px.Sandbox) -> None:
    batch = []
    for length in range(70):
        for odd in ["", '\\"', "\\u00e9", "\u00e9", "\u20ac", "\U0001f600", "\x7f", "\\ud800", "\x01", "\ud800"]:
            batch += ['"' + "a" * length + odd + "b" * tail + '"' for tail in (0, 1, 16)]
            batch.append('{"' + "a" * length + odd + '":1}')
    assert_alike(oracle, batch)


def test_runs_of_characters_of_every_width(oracle: px.Sandbox) -> None:
    characters = ["\u0080", "\xff", "\u0100", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\ud800"]
    batch = []
    for first in characters:
        for second in ["", "a", *characters]:
            batch += ['"' + first * run + second + first * 3 + '"' for run in range(1, 20)]
    assert_alike(oracle, batch)


def test_thousands_of_objects_with_other_keys_each(oracle: px.Sandbox) -> None:
    objects = [{f"k{bit}": n for bit in range(12) if n >> bit & 1} for n in range(4096)]
    assert_alike(oracle, [json.dumps([*objects, *reversed(objects)])])
