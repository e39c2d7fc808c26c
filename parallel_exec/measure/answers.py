"""Whether two strategies returned the same result.

Numbers may differ by one part in 100,000: the shipped plugin adds up arc cosines of numbers near 1, which is
ill-conditioned, and engines differ in the last digit of a cosine.
"""

from __future__ import annotations

import json
import math
from typing import Any

import orjson

from parallel_exec.errors import PexecError

TOLERANCE = 1e-5
_SHOWN = 60


class AnswersDiffer(PexecError):
    """Two strategies returned different results for the same job."""


def read_answer(text: bytes) -> Any:
    """Return the value of a result.

    >>> read_answer(b'{"length": 2}')
    {'length': 2}
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)  # lone surrogates, which orjson refuses


def difference(one: Any, other: Any, path: str = "$") -> str | None:
    """Return where and how two values differ; None if they are equal within the tolerance.

    >>> difference({"a": [1, 2.0]}, {"a": [1, 2.000001]})
    >>> difference({"a": [1, 2]}, {"a": [1, 3]})
    '$.a[1]: 2 and 3'
    """
    pending = [(one, other, path)]
    while pending:
        left, right, where = pending.pop()
        if isinstance(left, dict) and isinstance(right, dict):
            if left.keys() != right.keys():
                keys = ", ".join(sorted(repr(key) for key in left.keys() ^ right.keys())[:3])
                return f"{where}: only one of them has {keys}"
            pending += [(left[key], right[key], f"{where}.{key}") for key in reversed(left)]
        elif isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                return f"{where}: {len(left)} and {len(right)} elements"
            pairs = list(zip(left, right, strict=True))
            pending += [(*pair, f"{where}[{index}]") for index, pair in reversed(list(enumerate(pairs)))]
        elif not _same(left, right):
            return f"{where}: {_abbreviate(left)} and {_abbreviate(right)}"
    return None


def _same(left: Any, right: Any) -> bool:
    if _is_number(left) and _is_number(right):
        return left == right or math.isclose(left, right, rel_tol=TOLERANCE, abs_tol=0.0)
    return type(left) is type(right) and bool(left == right)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _abbreviate(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


class Referee:
    """Compares the answers of all strategies with the first answer that it hears.

    Answers are compared as bytes first, so that hearing the same one again costs almost nothing.
    """

    def __init__(self) -> None:
        self._reference: tuple[str, Any] | None = None
        self._known: set[bytes] = set()

    def hear(self, name: str, answer: bytes) -> None:
        """Compare an answer.

        Raises:
            AnswersDiffer: it differs from the first strategy's answer.
        """
        if answer in self._known:
            return
        value = read_answer(answer)
        if self._reference is None:
            self._reference = name, value
        else:
            first, expected = self._reference
            where = difference(expected, value)
            if where is not None:
                raise AnswersDiffer(f"the answers of {first!r} and {name!r} differ at {where}")
        self._known.add(answer)
