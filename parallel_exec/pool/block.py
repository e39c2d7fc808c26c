"""The memory that a worker shares with its parent: a ring in each direction, and the job that it runs."""

from __future__ import annotations

import contextlib
import mmap

from .ring import HEADER_BYTES, Ring

# A ring is gone through again and again. Of twice this size, with one job more in flight, it leaves a 1 MiB L2
# cache, and the parent spends a fifth more on a job with a document of 120 KB.
RING_BYTES = 512 << 10
# Bytes that a payload must leave free in its ring. A message whose payload has no room sends it in a segment, and what
# then goes into the ring is 128 bytes at most: with a few jobs in flight there is always room for that, and no side
# ever waits.
RESERVE = 16 << 10

_PAGE = 4096
_RUNNING = 0
BLOCK_BYTES = _PAGE + 2 * _PAGE + 2 * RING_BYTES


class Block:
    """A mapping of the shared memory: `requests` and `results` are its rings, and `running` a word of the worker's."""

    def __init__(self, fd: int) -> None:
        """Map the memory behind `fd`, which can be closed afterwards. All its pages are there when this returns."""
        self._map = mmap.mmap(fd, BLOCK_BYTES, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))
        self._view = memoryview(self._map)
        self._words = self._view[:_PAGE].cast("Q")
        # A ring's header fills the end of a page, so that its data begins on one.
        ends = [2 * _PAGE, 3 * _PAGE + RING_BYTES]
        self._regions = [self._view[end - HEADER_BYTES : end + RING_BYTES] for end in ends]
        self.requests, self.results = (Ring(region) for region in self._regions)

    @property
    def running(self) -> int:
        """Id of the job that the worker runs, 0 for none; it outlives the worker."""
        return self._words[_RUNNING]

    @running.setter
    def running(self, job: int) -> None:
        self._words[_RUNNING] = job

    def close(self) -> None:
        """Unmap the memory."""
        for ring in (self.requests, self.results):
            ring.close()
        for view in (*self._regions, self._words, self._view):
            view.release()
        # A view of a frame that is still about keeps the mapping until it goes.
        with contextlib.suppress(BufferError):
            self._map.close()
