"""Chains (chain.py) of a WebAssembly module's functions. The module knows nothing of them: the host calls one function
after another, without a reset in between, on values in MessagePack; a fold's or reduce's on an array of two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from parallel_exec.errors import PexecError, WasmError
from parallel_exec.sandbox._chain import MARK, ChainStage, Operation, Source

Call = Callable[[str, Any], Any]
"""Calls a function of the module on a value and returns what it gives."""

Keep = Callable[[Any], bytes]
"""Encodes a value that comes out of a chain."""


def run_chain(name: str, document: Any, call: Call, keep: Keep) -> list[bytes]:
    """Run a chain and return the values that come out, each encoded at once: one may come to much, as Python values all
    of them to far more.

    Args:
        name: the chain's.
        document: what its source says.
        call: calls a function.
        keep: encodes a value.

    Raises:
        PexecError: a function failed, or gave what its stage cannot use; it says which, and at which array of a group.
    """
    source = Source(name[1])
    stages = [ChainStage(Operation(text[0]), text[1:]) for text in name[2:].split(MARK) if text]
    position = 0

    def values() -> Iterator[Any]:
        nonlocal position
        match source:
            case Source.DOCUMENT:
                yield document
            case Source.VALUES:
                yield from document
            case Source.GROUP | Source.SEEDED_GROUP:
                for index, array in enumerate(document[source is Source.SEEDED_GROUP :]):
                    position = index
                    yield from array

    passing: Iterable[Any] = values()
    for stage in stages:
        passing = _stage(stage, passing, call, document[:1] if source is Source.SEEDED_GROUP else [])
    try:
        return [keep(value) for value in passing]
    except PexecError as error:
        if source in (Source.GROUP, Source.SEEDED_GROUP):
            error.group_item = position
        raise


def _stage(stage: ChainStage, values: Iterable[Any], call: Call, kept: list[Any]) -> Iterator[Any]:
    """Yield what comes out of one stage; `kept` is what a fold begins with."""
    name = stage.function
    match stage.operation:
        case Operation.MAP:
            for value in values:
                yield call(name, value)
        case Operation.FILTER:
            for value in values:
                if _is_true(call(name, value)):
                    yield value
        case Operation.FLAT_MAP:
            for value in values:
                found = call(name, value)
                if not isinstance(found, list):
                    raise WasmError(f"flat_map needs an array, and the function returned {type(found).__name__}").at(
                        function=name
                    )
                yield from found
        case Operation.FOLD | Operation.REDUCE:
            for value in values:
                kept = [call(name, [kept[0], value])] if kept else [value]
            yield from kept
        case Operation.COUNT:
            count = sum(1 for _ in values)
            yield from [count] if count else []
        case Operation.SUM | Operation.MIN | Operation.MAX:
            yield from _combined(stage.operation, values)


def _combined(operation: Operation, values: Iterable[Any]) -> list[Any]:
    numbers = []
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise WasmError(f"the value is no finite number but {value!r:.100}").at(function=operation.name.lower())
        numbers.append(value)
    if not numbers:
        return []
    if operation is Operation.SUM:
        return [sum(numbers)]
    return [min(numbers) if operation is Operation.MIN else max(numbers)]


def _is_true(value: Any) -> bool:
    """What JavaScript takes for true, so that a chain means the same whatever its functions are written in."""
    if isinstance(value, int | float):
        return value != 0 and value == value  # NaN is not equal to itself
    return value is not None and value != ""
