"""The errors of a job that reached one of its limits, whatever the plugin is written in."""

from __future__ import annotations

from parallel_exec.errors import FuelExhausted, JobTimeout, MemoryLimitExceeded, OutputTooLarge, PexecError
from parallel_exec.limits import Limits
from parallel_exec.sandbox._engine.raw import Trapped

_MOST_WANTED = 0xFFFFFFFF  # the guest cannot count further


def limit_of_trap(trap: Trapped, limits: Limits) -> PexecError | None:
    """Return the error of a call that trapped because it had no time or no fuel left, or None for any other trap."""
    if trap.interrupted:
        return timeout(limits)
    if trap.out_of_fuel:
        return FuelExhausted(f"used up Limits.fuel={limits.fuel} instructions")
    return None


def timeout(limits: Limits) -> JobTimeout:
    """Return the error of a job that reached its deadline."""
    if limits.time_s is None:
        return JobTimeout("stopped")
    spent = " of CPU time" if limits.clock == "cpu" else ""
    return JobTimeout(f"still running after Limits.time_s={limits.time_s:g} s{spent}")


def out_of_memory(limits: Limits, wanted: int) -> MemoryLimitExceeded:
    """Return the error of a job that asked for more linear memory than its limit."""
    asked = f"{wanted} bytes" if wanted < _MOST_WANTED else "more than 3.75 GiB"
    return MemoryLimitExceeded(f"asked for {asked} of memory in all; Limits.memory_bytes={limits.memory_bytes}")


def output_too_large(limits: Limits, length: int) -> OutputTooLarge:
    """Return the error of a job whose result is too large."""
    return OutputTooLarge(f"a result of {length} bytes exceeds Limits.output_bytes={limits.output_bytes}")
