"""Chains: several functions of one plugin as one job, through which the values of a document go without becoming text.

For everything between a chain's maker and the guest it is a function with a peculiar name, which guest/chain.inc.c
reads. Its result is a JSON array of the values that came through.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from parallel_exec.errors import PexecError
from parallel_exec.sandbox._js.mailbox import NAME_SIZE, Reply

MARK = "\x01"
_INFIX = " > "
_NO_STAGE = "par_iter"


class Source(Enum):
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


class Stage(NamedTuple):
    """One stage: what it does, and the name of the function that it calls if it is one of those that do (`CALLING`)."""

    operation: Operation
    function: str = ""


def chain_name(source: Source, stages: Sequence[Stage]) -> str:
    """Return the name of the function that is this chain.

    >>> name = chain_name(Source.DOCUMENT, [Stage(Operation.MAP, "area"), Stage(Operation.SUM)])
    >>> name, shown(name)
    ('\\x011marea\\x01s', 'area > sum')
    """
    return MARK + source.value + MARK.join([stage.operation.value + stage.function for stage in stages])


def fits(source: Source, stages: Sequence[Stage]) -> bool:
    """Whether these stages can be one chain."""
    return len(chain_name(source, stages).encode("utf-8", "surrogatepass")) <= NAME_SIZE


def is_chain(name: str) -> bool:
    """Whether the name of a function is a chain's."""
    return name.startswith(MARK)


def shown(name: str) -> str:
    """Return a function's name as people are to see it."""
    return _INFIX.join(_names(name)) if is_chain(name) else name


def _names(name: str) -> list[str]:
    return [stage[1:] or _OPERATIONS.get(stage, _NO_STAGE) for stage in name[2:].split(MARK)]


def stage_name(name: str, reply: Reply) -> str:
    """Return the name of the function at which a job failed: one of the chain's, or the function itself."""
    if not is_chain(name):
        return name
    names = _names(name)
    return names[min(reply.stage, len(names) - 1)]  # the guest's word for it is not to be trusted


def locate(error: PexecError, name: str, reply: Reply) -> PexecError:
    """Say at which of a chain's functions and, in a group, at which array of values a job failed."""
    if is_chain(name):
        error.at(function=stage_name(name, reply))
        if name[1] in (Source.GROUP.value, Source.SEEDED_GROUP.value):
            error.group_item = reply.item
    return error
