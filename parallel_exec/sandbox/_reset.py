"""Putting a memory image over linear memory: into a new instance, or in place after a job.

In place, the memory stays resident: no page is given back and faulted in again, which is nearly all of what a new
instance costs. A job can only have changed what lies below the high-water mark that the engine's allocator reports, or
below the end of its input; everything there is either copied from the image or zeroed.
"""

from __future__ import annotations

import ctypes

from parallel_exec.sandbox._engine.memory import LinearMemory
from parallel_exec.sandbox._image_file import Runs

# Two runs of non-zero bytes this close are one block: a copy costs about 0.2 us to start, or 16 KiB of copying.
JOIN_GAP = 16 << 10

# Zeros before the first block and after the last one, where a small job uses stack and heap: so one copy resets all
# that it wrote.
MARGIN = 64 << 10

# The shadow stack grows down towards address 0 and is the image's first range of zeros. This much of it lies below the
# engine's limit, for functions that do not check the depth (scripts/build_guest.py). None reaches further below the
# last check: it would run off a stack that is nearly used up, and trap.
STACK_RESERVE = 32 << 10

# `stack_low` of an instance that has not used its stack.
UNUSED_STACK = 1 << 32


class Plan:
    """How to put one image over linear memory: which blocks to copy, and which ranges between them to zero.

    Args:
        runs: the image's bytes that are not zero.
    """

    def __init__(self, runs: Runs) -> None:
        groups: list[list[tuple[int, memoryview]]] = []
        end = 0
        for address, content in runs:
            if groups and address - end <= JOIN_GAP:
                groups[-1].append((address, content))
            else:
                groups.append([(address, content)])
            end = address + len(content)
        self._blocks: list[tuple[int, int, memoryview]] = []
        self._gaps: list[tuple[int, int]] = []
        for group in groups:
            start, end = group[0][0], group[-1][0] + len(group[-1][1])
            if group is groups[0]:
                start = max(0, start - MARGIN)
            if group is groups[-1]:
                end += MARGIN
            block = bytearray(end - start)
            for address, content in group:
                block[address - start : address - start + len(content)] = content
            if self._blocks:
                self._gaps.append((self._blocks[-1][1], start))
            self._blocks.append((start, end, memoryview(block).toreadonly()))
        self._front = self._blocks[0][0]
        self._back = self._blocks[-1][1]
        self._end = end - MARGIN

    def apply(self, instance: LinearMemory, high_water: int, stack_low: int = 0) -> None:
        """Make the memory below `high_water` the image's; what lies above it must not have been written.

        Args:
            instance: the instance whose memory is to be the image's.
            high_water: address up to which the heap reached.
            stack_low: lowest address of the shadow stack that a check of its depth has seen; what lies more than
                `STACK_RESERVE` below it must not have been written either.
        """
        view, base = instance.view, instance.base
        low = min(max(0, stack_low - STACK_RESERVE), self._front + MARGIN)
        high_water = max(high_water, self._end)
        if low < self._front:
            ctypes.memset(base + low, 0, self._front - low)
        for start, end, block in self._blocks:
            first, last = max(low, start), min(high_water, end)
            view[first:last] = block[first - start : last - start]
        for start, end in self._gaps:
            ctypes.memset(base + start, 0, end - start)
        if high_water > self._back:
            ctypes.memset(base + self._back, 0, high_water - self._back)
