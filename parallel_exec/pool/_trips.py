"""Which stages of a `ParIter` make one trip to a worker: those that follow each other and are of one plugin
or one deployment.

Every trip is a chain (sandbox/_chain.py): the first one's job is a document, a later one's the array of a document's
values, that of a fold or reduce the arrays of several documents. So a job is of one document, and errors know which,
until a fold makes one value of many documents'.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from parallel_exec.plugins import Plugin, PluginFunction
from parallel_exec.pool._deployment import DeployedFunction
from parallel_exec.sandbox._chain import CALLING, MARK, ChainSource, ChainStage, Operation, chain_name, fits

# What a stage may call.
StageFunction = PluginFunction | DeployedFunction

_NO_PLUGIN: StageFunction = PluginFunction(Plugin("", name="par_iter"), "par_iter")


class Step(NamedTuple):
    """One stage: what it does and, unless it needs none, the function that it calls and what a fold begins with."""

    operation: Operation
    function: StageFunction | None = None
    initial: bytes = b""


class Trip(NamedTuple):
    """Stages that are one job.

    Attributes:
        function: the chain of them as a function, whose result is a JSON array.
        source: what the job's document is.
        initial: what a fold begins with, as JSON text.
    """

    function: StageFunction
    source: ChainSource
    initial: bytes = b""


def check_stage(operation: str, function: object, *, first: bool) -> StageFunction:
    """Return what was given as a stage's function, if it can be that.

    Raises:
        TypeError: it is no function of a plugin or a deployment.
        ValueError: its name or its form of input or output does not go here.
    """
    if not isinstance(function, StageFunction):
        raise TypeError(
            f"{operation}() runs functions of plugins in the pool's workers, not {function!r}; get one with "
            "Plugin(source).function(name), or iterate over the chain and call it here"
        )
    if function.output != "value":
        raise ValueError(f"{operation}({function.name}): the values of a chain are JSON; leave out output=")
    if function.input == "binary" and not first:
        raise ValueError(f"{operation}({function.name}): only the first stage can have input={function.input!r}")
    if MARK in function.name:
        raise ValueError(f"{operation}(): a function's name cannot have the character {MARK!r}; got {function.name!r}")
    return function


def plan(steps: Sequence[Step]) -> list[Trip]:
    """Return the trips that the steps make, in order; without steps one that gives each document as it is."""
    trips: list[Trip] = []
    owner, source, stages = _NO_PLUGIN, ChainSource.DOCUMENT, list[ChainStage]()
    if steps and steps[0].function is not None and steps[0].operation is not Operation.FOLD:
        owner = steps[0].function

    def close() -> None:
        if stages or source is ChainSource.DOCUMENT:
            form = owner.input if source is ChainSource.DOCUMENT else "json"
            trip = dataclasses.replace(owner, name=chain_name(source, stages), input=form, output="bytes")
            trips.append(Trip(trip, source))

    for operation, given, initial in steps:
        function = given or owner
        stage = ChainStage(operation, function.name if operation in CALLING else "")
        if operation is Operation.FOLD:
            close()
            trips.append(group(operation, function, initial))
            owner, source, stages = function, ChainSource.VALUES, []
        elif _fuses(owner, function) and fits(source, [*stages, stage]):
            stages.append(stage)
        else:
            close()
            owner, source, stages = function, ChainSource.VALUES, [stage]
    close()
    return trips


def group(operation: Operation, function: StageFunction, initial: bytes = b"") -> Trip:
    """Return the trip in which a fold or reduce goes over the values of several documents."""
    source = ChainSource.SEEDED_GROUP if operation is Operation.FOLD else ChainSource.GROUP
    name = chain_name(source, [ChainStage(operation, function.name)])
    return Trip(dataclasses.replace(function, name=name, input="json", output="bytes"), source, initial)


def _fuses(owner: StageFunction, function: StageFunction) -> bool:
    """Whether a function can be called in the sandbox of another one's plugin, between two others. A deployment's can:
    a trip is of one version.
    """
    return owner.limits == function.limits and _source(owner) == _source(function)


def _source(function: StageFunction) -> object:
    return function.deployment if isinstance(function, DeployedFunction) else function.plugin
