"""The error classes: their builtins, where they say they happened, and pickling."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures.process import BrokenProcessPool

import pytest

import parallel_exec as px

LEAVES: dict[type[px.PexecError], type[Exception]] = {
    px.PluginError: ValueError,
    px.JSError: RuntimeError,
    px.WasmError: RuntimeError,
    px.InvalidDocument: ValueError,
    px.JobTimeout: TimeoutError,
    px.MemoryLimitExceeded: MemoryError,
    px.FuelExhausted: RuntimeError,
    px.OutputTooLarge: ValueError,
    px.WorkerCrashed: BrokenProcessPool,
}


def examples() -> list[px.PexecError]:
    return [
        px.PexecError("text"),
        px.PluginError("text", file="a.js", line=3, column=7),
        px.PluginError("text"),
        px.WasmError("text", trapped=True),
        px.JSError("TypeError", "not a function", "    at f (a.js:1:2)\n", file="a.js", line=1, column=2),
        px.JSError("throw", "\ud800 lone, \x00 zero"),
        px.InvalidDocument("text", offset=0),
        px.InvalidDocument("text"),
        px.JobTimeout("text"),
        px.MemoryLimitExceeded("text"),
        px.FuelExhausted("text"),
        px.OutputTooLarge("text"),
        px.WorkerCrashed("text"),
    ]


def test_every_leaf_is_public_and_has_its_builtin() -> None:
    defined = {cls for cls in vars(px).values() if isinstance(cls, type) and issubclass(cls, px.PexecError)}
    assert defined == {px.PexecError, *LEAVES}
    for leaf, builtin in LEAVES.items():
        assert issubclass(leaf, px.PexecError)
        assert issubclass(leaf, builtin)
    assert {type(error) for error in examples()} == defined


@pytest.mark.parametrize("index", range(len(examples())), ids=lambda index: str(type(examples()[index]).__name__))
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_keeps_everything(index: int, protocol: int) -> None:
    error = examples()[index].at(plugin="a.js", function="f", document=0)
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert again.args == error.args
    assert repr(again) == repr(error)
    assert again.__notes__ == ["a note"]


@pytest.mark.parametrize("error", examples(), ids=lambda error: type(error).__name__)
def test_copying_keeps_everything(error: px.PexecError) -> None:
    error.at(plugin="a.js")
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_a_location_is_filled_in_once() -> None:
    error = px.JobTimeout("too slow")
    assert str(error) == "too slow"
    assert error.at(function="f") is error
    assert str(error) == "f(): too slow"
    error.at(plugin="a.js", function="g", document=0)
    assert (error.plugin, error.function, error.document) == ("a.js", "f", 0)
    assert str(error) == "a.js: f(): document 0: too slow"
    error.at(document=7)
    assert error.document == 0


def test_texts_name_what_is_known() -> None:
    error = px.JSError("TypeError", "no", "stack", file="a.js", line=2, column=5)
    assert str(error) == "TypeError: no (at a.js:2:5)"
    assert (error.name, error.message, error.js_stack) == ("TypeError", "no", "stack")
    assert str(px.JSError("Error", "no")) == "Error: no"
    assert str(px.InvalidDocument("not JSON", offset=12)) == "not JSON (at byte 12)"
    assert str(px.InvalidDocument("not JSON")) == "not JSON"


def test_pickled_errors_are_rebuilt_without_running_a_leaf_constructor() -> None:
    # A leaf's constructor takes other arguments than args; calling it again would fail or double the text.
    error = px.InvalidDocument("not JSON", offset=12)
    assert str(pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(error))))) == "not JSON (at byte 12)"
