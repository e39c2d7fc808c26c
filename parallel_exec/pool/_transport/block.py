"""The memory that a worker shares with its parent: a ring in each direction, the job that it runs, and which ones it
must not begin.
"""

from __future__ import annotations

import contextlib
import mmap

from parallel_exec.pool._transport.ring import HEADER_BYTES, Fence, Ring

# Room for eight documents of 120 KB, so that the parent is woken for every sixth job only: it spends 24 us on such a
# job then, and 36 us with the three that 0.5 MiB holds.
RING_BYTES = 2 << 20
# Bytes that a payload must leave free in its ring. A message whose payload has no room sends it in a segment, and what
# then goes into the ring is its meta: with the few jobs that are in flight (512 tiny ones at most, each of which may
# have a frame of its own) there is always room for that, and no side ever waits.
RESERVE = 128 << 10

_PAGE = 4096
# Words of the first page, on cache lines of their own; the worker writes the first two, the parent the last.
_RUNNING, _STARTED, _REVOKED = 0, 1, 8
BLOCK_BYTES = _PAGE + 2 * _PAGE + 2 * RING_BYTES


class Block:
    """A mapping of the shared memory: `requests` and `results` are its rings."""

    def __init__(self, fd: int) -> None:
        """Map the memory behind `fd`, which can be closed afterwards. All its pages are there when this returns."""
        self._map = mmap.mmap(fd, BLOCK_BYTES, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))
        self._view = memoryview(self._map)
        self._words = self._view[:_PAGE].cast("Q")
        # A ring's header fills the end of a page, so that its data begins on one.
        ends = [2 * _PAGE, 3 * _PAGE + RING_BYTES]
        self._regions = [self._view[end - HEADER_BYTES : end + RING_BYTES] for end in ends]
        self.requests, self.results = (Ring(region) for region in self._regions)
        self._fence = Fence()

    # The worker's side

    def begin(self, sequence: int, now_ns: int) -> bool:
        """Say that the worker begins a job, before it does. False: it must not, the parent has taken the job back."""
        words = self._words
        words[_STARTED] = now_ns
        words[_RUNNING] = sequence
        self._fence()
        return words[_REVOKED] < sequence

    # The parent's side

    @property
    def running(self) -> int:
        """The sequence that the worker has begun last, 0 for none; it outlives the worker."""
        return self._words[_RUNNING]

    @property
    def started_s(self) -> float:
        """When it began that, by `time.monotonic`."""
        return self._words[_STARTED] / 1e9

    def revoke(self, sequence: int) -> int:
        """Forbid the worker to begin anything up to a sequence; return the one that it has begun last nonetheless
        (README: taken back).
        """
        self._words[_REVOKED] = sequence
        self._fence()
        return self._words[_RUNNING]

    def close(self) -> None:
        """Unmap the memory."""
        for ring in (self.requests, self.results):
            ring.close()
        for view in (*self._regions, self._words, self._view):
            view.release()
        # A view of a frame that is still about keeps the mapping until it goes.
        with contextlib.suppress(BufferError):
            self._map.close()
