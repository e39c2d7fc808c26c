"""What a job may use: time, memory, sizes; and whether its random numbers and its clock are pinned."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from parallel_exec._reprs import options

__all__ = ["Limits"]

MIB = 1 << 20
_LEAST_MEMORY = 4 * MIB
_MOST_MEMORY = 4096 * MIB - 65536
_MOST_SECONDS = 1e9
_MOST_TIME_S = 8.64e12  # the range of JavaScript's Date


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Limits:
    """Bounds on one job. Every sandbox and every pool has some; the defaults suit documents of up to tens of MB.

    Attributes:
        time_s: seconds a job may run, reading and writing included; None for no deadline.
        clock: how these seconds are measured: ``"wall"`` for elapsed time, ``"cpu"`` for the CPU time of the job's
            thread, without that of host functions.
        grace_s: seconds after `time_s` at which a pool kills the worker of a job that has not stopped by itself (in a
            long operation of the engine that never checks the deadline). A sandbox in this process is not killed.
        interrupt: how an overdue job is stopped. ``"polled"``: the engine checks the deadline wherever it may take
            long. ``"epoch"``: the machine code checks it too, at every backward jump and every call, so that nothing
            can miss it; jobs take longer (docs/benchmarks/limits.md has figures).
        fuel: the WebAssembly instructions that a job, or the load of a plugin, may execute; None for any number. The
            count is the same in every run for the same plugin and document; for that, Math.random's numbers are the
            same too unless `seed` pins others. Jobs take longer than without a count.
        memory_bytes: bytes of linear memory, engine and plugin included (4 MiB to 4 GiB less one page).
        output_bytes: bytes of JSON that a job may return.
        document_bytes: bytes of JSON that a job may be given.
        console_bytes: bytes of console output kept per job; the rest is dropped, and a last record says so.
        seed: pins ``Math.random`` (an integer of 64 bits); None for a fresh seed per job.
        time: pins the clock, in seconds since 1970 UTC; None for the time at which the job starts.

    Raises:
        ValueError: a value is out of its range; the message names the field.

    >>> Limits(time_s=0.5, memory_bytes=64 << 20).time_s
    0.5
    >>> Limits(time_s=0)
    Traceback (most recent call last):
    ...
    ValueError: Limits.time_s must be a number of seconds above 0, or None; got 0
    """

    time_s: float | None = 10.0
    grace_s: float = 1.0
    clock: Literal["wall", "cpu"] = "wall"
    interrupt: Literal["polled", "epoch"] = "polled"
    fuel: int | None = None
    memory_bytes: int = 256 * MIB
    output_bytes: int = 64 * MIB
    document_bytes: int = 128 * MIB
    console_bytes: int = 64 * 1024
    seed: int | None = None
    time: float | None = None

    def __repr__(self) -> str:
        return f"Limits({', '.join(options(self))})"

    @staticmethod
    def tightest(*limits: Limits | None) -> Limits:
        """Return the limits that satisfy all of these: the least of each bound, where None is no bound, and the
        stricter way to measure and to stop (the wall clock, epochs). `seed` and `time` are not bounds: the last limits
        that pin one win.

        Args:
            limits: from the general to the specific; None sets no limits.

        >>> few = Limits.tightest(Limits(time_s=1, memory_bytes=64 << 20, seed=1), None, Limits(time_s=5, seed=2))
        >>> few.time_s, few.memory_bytes, few.seed
        (1, 67108864, 2)
        """
        said = [each for each in limits if each is not None]
        if len(said) <= 1:
            return said[0] if said else Limits()
        values: dict[str, object] = {}
        for name in (field.name for field in fields(Limits)):
            found = [value for each in said if (value := getattr(each, name)) is not None]
            if name in ("seed", "time"):
                values[name] = found[-1] if found else None
            elif name in ("clock", "interrupt"):
                values[name] = next((value for value in found if value in ("wall", "epoch")), found[0])
            else:
                values[name] = min(found, default=None)
        return Limits(**values)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if self.time_s is not None and not (_is_number(self.time_s) and 0 < self.time_s < _MOST_SECONDS):
            raise ValueError(f"Limits.time_s must be a number of seconds above 0, or None; got {self.time_s!r}")
        if not (_is_number(self.grace_s) and 0 < self.grace_s < _MOST_SECONDS):
            raise ValueError(f"Limits.grace_s must be a number of seconds above 0; got {self.grace_s!r}")
        _one_of(self.clock, "clock", ("wall", "cpu"))
        _one_of(self.interrupt, "interrupt", ("polled", "epoch"))
        if self.fuel is not None:
            _whole(self.fuel, "fuel", 1, (1 << 63) - 1)
        _whole(self.memory_bytes, "memory_bytes", _LEAST_MEMORY, _MOST_MEMORY)
        _whole(self.output_bytes, "output_bytes", 1, _MOST_MEMORY)
        _whole(self.document_bytes, "document_bytes", 1, _MOST_MEMORY)
        _whole(self.console_bytes, "console_bytes", 0, 64 * MIB)
        if self.seed is not None:
            _whole(self.seed, "seed", -(1 << 63), (1 << 64) - 1)
        if self.time is not None and not (_is_number(self.time) and abs(self.time) < _MOST_TIME_S):
            raise ValueError(f"Limits.time must be seconds since 1970 within JavaScript's range; got {self.time!r}")


def check_limits(limits: object, what: str) -> None:
    """Raise a TypeError unless these are limits or None."""
    if limits is not None and not isinstance(limits, Limits):
        raise TypeError(f"{what} must be a Limits or None, not {limits!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: object, field: str, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"Limits.{field} must be an integer from {least} to {most}; got {value!r}")


def _one_of(value: object, field: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"Limits.{field} must be {' or '.join(map(repr, allowed))}; got {value!r}")
