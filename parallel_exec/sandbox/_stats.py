"""What a job used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class JobStats:
    """What one job used of what `Limits` bounds.

    Attributes:
        memory_bytes: bytes of linear memory, from its start to the end of what the job reached; the image is part of
            it. For a job that ended in a trap all of the memory that its instance had.
        fuel: WebAssembly instructions, or None where they are not counted (``Limits.fuel``).
    """

    memory_bytes: int
    fuel: int | None
