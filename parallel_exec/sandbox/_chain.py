"""Chains: several functions of one plugin as one job, through which the values of a document go without becoming text.

Between its maker and the guest a chain is a function with a peculiar name (guest/chain.inc.c reads it). Its result is a
JSON array of the values that came through.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

NAME_SIZE = 256
"""The most bytes of a function's name, and so of a chain's."""

MARK = "\x01"
_INFIX = " > "
_NO_STAGE = "par_iter"


class ChainSource(Enum):
    """Where a chain's values come from (enum chain_source)."""

    DOCUMENT = "1"
    VALUES = "*"
    GROUP = "2"
    SEEDED_GROUP = "i"


class Operation(Enum):
    """What a stage does with a value (enum chain_operation). Those from FOLD on can only be the last."""

    MAP = "m"
    FILTER = "f"
    FLAT_MAP = "x"
    FOLD = "a"
    REDUCE = "r"
    COUNT = "c"
    SUM = "s"
    MIN = "n"
    MAX = "g"


CALLING = (Operation.MAP, Operation.FILTER, Operation.FLAT_MAP, Operation.FOLD, Operation.REDUCE)
_OPERATIONS = {operation.value: operation.name.lower() for operation in Operation}


class ChainStage(NamedTuple):
    """One stage: what it does and, for an operation that calls one (`CALLING`), the name of the function."""

    operation: Operation
    function: str = ""


def chain_name(source: ChainSource, stages: Sequence[ChainStage]) -> str:
    r"""Return the name of the function that is this chain.

    >>> name = chain_name(ChainSource.DOCUMENT, [ChainStage(Operation.MAP, "area"), ChainStage(Operation.SUM)])
    >>> name, readable_name(name)
    ('\x011marea\x01s', 'area > sum')
    """
    return MARK + source.value + MARK.join([stage.operation.value + stage.function for stage in stages])


def fits(source: ChainSource, stages: Sequence[ChainStage]) -> bool:
    """Say whether these stages can be one chain."""
    return len(chain_name(source, stages).encode("utf-8", "surrogatepass")) <= NAME_SIZE


def is_chain(name: str) -> bool:
    """Say whether the name of a function is a chain's."""
    return name.startswith(MARK)


def is_group(name: str) -> bool:
    """Say whether a chain's values come out of several arrays."""
    return name[1:2] in (ChainSource.GROUP.value, ChainSource.SEEDED_GROUP.value)


def function_names(name: str) -> list[str]:
    """Return what each stage of a chain is called in messages: its function, or its operation if it calls none."""
    return [stage[1:] or _OPERATIONS.get(stage, _NO_STAGE) for stage in name[2:].split(MARK)]


def readable_name(name: str) -> str:
    """Return a function's name as messages give it."""
    return _INFIX.join(function_names(name)) if is_chain(name) else name
