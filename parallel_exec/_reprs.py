"""The options in a repr: only those that differ from their defaults, since there are many."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def options(value: DataclassInstance) -> list[str]:
    """Return ``name=value`` for each field that has a default and another value, and is not left out of reprs.

    >>> from parallel_exec import Limits
    >>> options(Limits(time_s=0.5, seed=1))
    ['time_s=0.5', 'seed=1']
    """
    return [
        f"{field.name}={getattr(value, field.name)!r}"
        for field in fields(value)
        if field.repr and _default(field) not in (MISSING, getattr(value, field.name))
    ]


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
