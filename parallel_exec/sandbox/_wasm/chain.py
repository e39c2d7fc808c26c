"""Chains (`_chain`) of a WebAssembly module's functions. The module knows nothing of them: the host calls one function
after another, without a reset in between, on values in MessagePack; that of a fold or reduce on an array of two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from parallel_exec.errors import PexecError, WasmError
from parallel_exec.sandbox._chain import MARK, ChainSource, ChainStage, Operation

Call = Callable[[str, Any], Any]
"""Calls a function of the module on a value and returns its result."""

Keep = Callable[[Any], bytes]
"""Encodes a value that comes out of a chain."""


def run_chain(name: str, document: Any, call: Call, keep: Keep) -> list[bytes]:
    """Run a chain and return the values that come out. Each is encoded at once: as Python values, all of them together
    may take far more memory than one.

    Args:
        name: of the chain.
        document: what the chain's source takes its values from.
        call: calls a function.
        keep: encodes a value.

    Raises:
        PexecError: a function failed, or returned what its stage cannot use; the error says which function it was and,
            in a group, at which array it failed.
    """
    source = ChainSource(name[1])
    stages = [ChainStage(Operation(text[0]), text[1:]) for text in name[2:].split(MARK) if text]
    position = 0

    def values() -> Iterator[Any]:
        nonlocal position
        match source:
            case ChainSource.DOCUMENT:
                yield document
            case ChainSource.VALUES:
                yield from document
            case ChainSource.GROUP | ChainSource.SEEDED_GROUP:
                for index, array in enumerate(document[source is ChainSource.SEEDED_GROUP :]):
                    position = index
                    yield from array

    passing: Iterable[Any] = values()
    for stage in stages:
        passing = _stage(stage, passing, call, document[:1] if source is ChainSource.SEEDED_GROUP else [])
    try:
        return [keep(value) for value in passing]
    except PexecError as error:
        if source in (ChainSource.GROUP, ChainSource.SEEDED_GROUP):
            error.group_item = position
        raise


def _stage(stage: ChainStage, values: Iterable[Any], call: Call, kept: list[Any]) -> Iterator[Any]:
    """Return what comes out of one stage; `kept` is what a fold begins with."""
    name = stage.function
    match stage.operation:
        case Operation.MAP:
            return (call(name, value) for value in values)
        case Operation.FILTER:
            return (value for value in values if _is_true(call(name, value)))
        case Operation.FLAT_MAP:
            return (each for value in values for each in _array(call(name, value), name))
        case Operation.FOLD | Operation.REDUCE:
            return _folded(name, values, call, kept)
        case _:
            return _combined(stage.operation, values)


def _array(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise WasmError(f"flat_map needs an array, and the function returned {type(value).__name__}").at(function=name)
    return value


def _folded(name: str, values: Iterable[Any], call: Call, kept: list[Any]) -> Iterator[Any]:
    for value in values:
        kept = [call(name, [kept[0], value])] if kept else [value]
    yield from kept


def _combined(operation: Operation, values: Iterable[Any]) -> Iterator[Any]:
    if operation is Operation.COUNT:
        count = sum(1 for _ in values)
        yield from [count] if count else []
        return
    numbers: list[int | float] = []
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise WasmError(f"the value is not a finite number but {value!r:.100}").at(function=operation.name.lower())
        numbers.append(value)
    if numbers:
        match operation:
            case Operation.SUM:
                yield sum(numbers)
            case Operation.MIN:
                yield min(numbers)
            case Operation.MAX:
                yield max(numbers)


def _is_true(value: Any) -> bool:
    """Say what JavaScript says, so that a chain means the same whatever its functions are written in."""
    if isinstance(value, float) and math.isnan(value):
        return False
    return value is not None and value not in (0, "")
