"""Limits: every field is checked where it is made, and the message names it."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from typing import Any

import pytest

from parallel_exec import Limits

MIB = 1 << 20


def test_defaults_are_bounded() -> None:
    limits = Limits()
    assert limits.time_s == 10.0
    assert limits.grace_s == 1.0
    assert limits.memory_bytes == 256 * MIB
    assert limits.output_bytes == 64 * MIB
    assert limits.document_bytes == 128 * MIB
    assert limits.console_bytes == 64 * 1024
    assert limits.seed is None
    assert limits.time is None


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("time_s", [None, 1, 0.001, 1e8]),
        ("grace_s", [1, 0.001, 1e8]),
        ("clock", ["wall", "cpu"]),
        ("interrupt", ["polled", "epoch"]),
        ("fuel", [None, 1, (1 << 63) - 1]),
        ("memory_bytes", [4 * MIB, 4096 * MIB - 65536]),
        ("output_bytes", [1, 4096 * MIB - 65536]),
        ("document_bytes", [1, 4096 * MIB - 65536]),
        ("console_bytes", [0, 64 * MIB]),
        ("seed", [None, 0, -1, -(2**63), 2**64 - 1]),
        ("time", [None, 0, -1.5, 1e9, 8.6e12]),
    ],
)
def test_values_within_range(field: str, values: list[Any]) -> None:
    for value in values:
        assert getattr(Limits(**{field: value}), field) == value


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("time_s", [0, -1, math.inf, math.nan, "1", True, 1e9]),
        ("clock", ["gpu", None, 1]),
        ("interrupt", ["", None, "Epoch"]),
        ("fuel", [0, -1, 1 << 63, 1e6, "1", True]),
        ("grace_s", [0, -1, None, math.inf, math.nan, "1", True, 1e9]),
        ("memory_bytes", [0, 4 * MIB - 1, 4096 * MIB, -1, 1e8, None, "64M", True]),
        ("output_bytes", [0, -1, 4096 * MIB, 1.0, None]),
        ("document_bytes", [0, -1, 4096 * MIB, 1.0, None]),
        ("console_bytes", [-1, 64 * MIB + 1, 1.0, None]),
        ("seed", [2**64, -(2**63) - 1, 1.0, "x", True]),
        ("time", [8.64e12, -8.64e12, math.inf, math.nan, "now", True]),
    ],
)
def test_values_out_of_range_are_refused_by_name(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"^Limits\.{field} .*got ") as caught:
            Limits(**{field: value})
        assert repr(value) in str(caught.value) or field == "time"


def test_a_value_object() -> None:
    limits = Limits(seed=3, memory_bytes=8 * MIB)
    assert limits == pickle.loads(pickle.dumps(limits)) == copy.deepcopy(limits)
    assert len({limits, Limits(seed=3, memory_bytes=8 * MIB), Limits()}) == 2
    assert dataclasses.replace(limits, seed=4).memory_bytes == 8 * MIB
    with pytest.raises(ValueError, match=r"Limits\.seed"):
        dataclasses.replace(limits, seed=2**70)
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.seed = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        Limits(1.0)  # type: ignore[call-arg]
