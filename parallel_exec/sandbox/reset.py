"""Putting a memory image over linear memory: into a new instance, or in place after a job.

In place, the memory stays resident: no page is given back or faulted in again, which is nearly all that a new instance
costs. What a job can have changed lies below the high-water mark that the engine's allocator reports, or below the end
of its input; everything there is either copied from the image or zeroed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Protocol

from .instance import Instance

# Two runs of non-zero bytes this close are copied as one: a copy costs about 0.2 us to start, or 8 KiB of copying.
JOIN_GAP = 8192


class Image(Protocol):
    """What a reset needs to know of a memory image."""

    @property
    def memory_size(self) -> int:
        """Bytes of linear memory, a multiple of 64 KiB."""

    @property
    def runs(self) -> Sequence[tuple[int, memoryview]]:
        """Non-zero runs, ascending and disjoint: address and bytes."""

    @property
    def globals(self) -> dict[str, int]:
        """Values of the exported mutable globals."""


class Plan:
    """How to put one image over linear memory: which ranges to copy, which to zero.

    Attributes:
        end: end of the image's last non-zero byte; all above it is zero.
    """

    def __init__(self, image: Image) -> None:
        self.copies: list[tuple[slice, memoryview]] = []
        self.zeros: list[tuple[int, int]] = []
        self.end = 0
        joined: list[tuple[int, list[tuple[int, memoryview]]]] = []
        for address, content in image.runs:
            if joined and address - self.end <= JOIN_GAP:
                joined[-1][1].append((address, content))
            else:
                if address > self.end:
                    self.zeros.append((self.end, address - self.end))
                joined.append((address, [(address, content)]))
            self.end = address + len(content)
        for start, parts in joined:
            if len(parts) == 1:
                content = parts[0][1]
            else:
                buffer = bytearray(parts[-1][0] + len(parts[-1][1]) - start)
                for address, part in parts:
                    buffer[address - start : address - start + len(part)] = part
                content = memoryview(buffer).toreadonly()
            self.copies.append((slice(start, start + len(content)), content))

    def apply(self, instance: Instance, high_water: int) -> None:
        """Make the memory below `high_water` the image's; nothing above it may have been written since the last."""
        view, base = instance.view, instance.base
        for start, length in self.zeros:
            ctypes.memset(base + start, 0, length)
        for where, content in self.copies:
            view[where] = content
        if high_water > self.end:
            ctypes.memset(base + self.end, 0, high_water - self.end)


def fill_new(instance: Instance, image: Image, plan: Plan) -> None:
    """Make a new instance of the engine, whose memory above its own data is zero, the image's."""
    fresh = instance.size()
    instance.grow_to(image.memory_size)
    plan.apply(instance, min(fresh, image.memory_size))
    for name, value in image.globals.items():
        instance.set_global(name, value)
