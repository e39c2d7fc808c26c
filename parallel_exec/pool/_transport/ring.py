"""A ring of bytes in shared memory with one producer and one consumer, and no lock that a dying process could hold.

Layout of a region (each word on a cache line of its own, and each written by one side only)::

    0    tail     u64  bytes ever written   (producer)
    64   head     u64  bytes ever released  (consumer)
    128  asleep   u64  1: ring the doorbell (consumer)
    256  data     capacity bytes, a power of two

A frame lies in one piece, starts at a multiple of 64, and is ``crc32 | kind | meta length | payload length | sequence |
meta | payload``. The checksum covers everything but the payload; the sequence is the frame's own position, so what an
earlier lap left behind is never taken for a frame. A frame that does not fit before the end of the data is preceded by
a frame of the kind `SKIP`. Nothing here knows of processes or of what frames mean; see README.md for the races.
"""

from __future__ import annotations

import platform
import struct
import threading
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

Buffer = bytes | bytearray | memoryview

HEADER_BYTES = 256
_TAIL, _HEAD, _ASLEEP = 0, 8, 16  # indices of 8-byte words
_ALIGN = 64
_FRAME = struct.Struct("<IHHIQ")  # crc32, kind, meta length, payload length, sequence
_CHECKED = struct.Struct("<HHIQ")  # the same without the checksum
_CRC = struct.Struct("<I")
SKIP = 0xFFFF

# x86 keeps the order of loads among themselves and of stores among themselves; only a load may overtake a store.
_ORDERED = platform.machine().lower() in {"x86_64", "amd64", "i686", "i386"}


class RingCorrupted(Exception):
    """The ring does not hold what its peer can have written; nothing of it was used."""


class Frame(NamedTuple):
    """One message, as `Ring.read` found it. `payload` lies in the ring and is void after `Ring.release`."""

    kind: int
    meta: bytes
    payload: memoryview
    end: int


class Fence:
    """A full memory barrier: no load after it is done before a store before it is visible.

    CPython offers none, but taking and giving back a free lock does one locked read-modify-write each, and on x86 any
    of those is a full barrier. Elsewhere a critical section lets accesses in from both sides, and a second one after it
    closes the gap (release, then acquire of the same word, are kept in order).
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            pass
        if not _ORDERED:
            with self._lock:
                pass


class Ring:
    """One side's view of a ring: a process uses it either as its producer or as its consumer, one thread at a time.

    Guarantees: `write` publishes a whole frame or nothing; `read` gives a frame that the producer wrote, or raises
    `RingCorrupted`; a consumer that blocks after `doze` said so is rung for the next frame, if the producer asks
    `peer_sleeps` after each write.
    """

    def __init__(self, region: memoryview) -> None:
        """Lay a ring over `region`; all zero bytes are an empty ring.

        Args:
            region: writable shared memory of `HEADER_BYTES` and a power of two of at least 4096 bytes.
        """
        capacity = len(region) - HEADER_BYTES
        if capacity < 4096 or capacity & (capacity - 1):
            raise ValueError(f"a ring needs {HEADER_BYTES} bytes and a power of two from 4096; got {len(region)}")
        self.capacity = capacity
        self._mask = capacity - 1
        # Of a view cast to "Q" CPython writes an item with one 8-byte store; struct's "<Q" would store byte by byte.
        self._words = region[:HEADER_BYTES].cast("Q")
        self._data = region[HEADER_BYTES:]
        self._fence = Fence()
        self._read_up_to = self._words[_HEAD]

    @property
    def largest(self) -> int:
        """Bytes of meta and payload together that always fit once the ring is empty."""
        return self.capacity // 2 - _FRAME.size

    def close(self) -> None:
        """Let go of the memory. The ring must not be used afterwards."""
        self._words.release()
        self._data.release()

    # Producer

    def write(self, kind: int, meta: bytes, parts: Sequence[Buffer] = (), *, reserve: int = 0) -> bool:
        """Publish a frame, or return False if it has no room now.

        Args:
            kind: what the frame is, 0 to 65534.
            meta: a few bytes covered by the checksum.
            parts: the payload, joined.
            reserve: bytes that have to stay free behind the frame.
        """
        size = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        meta_length = len(meta)
        need = (_FRAME.size + meta_length + size + _ALIGN - 1) & -_ALIGN
        words, data, capacity = self._words, self._data, self.capacity
        tail = words[_TAIL]
        head = words[_HEAD]
        free = capacity - tail + head
        if not 0 <= free <= capacity or (tail | head) % _ALIGN:
            raise self._impossible(tail, head)
        start = tail & self._mask
        if need > capacity - start:
            skipped = capacity - start
            if skipped + need + reserve > free:
                return False
            checked = _CHECKED.pack(SKIP, 0, skipped - _FRAME.size, tail)
            data[start : start + _FRAME.size] = _CRC.pack(crc32(checked)) + checked
            tail += skipped
            start = 0
        elif need + reserve > free:
            return False
        checked = _CHECKED.pack(kind, meta_length, size, tail) + meta
        at = start + _FRAME.size + meta_length
        data[start:at] = _CRC.pack(crc32(checked)) + checked
        for part in parts:
            end = at + len(part)
            data[at:end] = part
            at = end
        if not _ORDERED:
            self._fence()
        words[_TAIL] = tail + need
        return True

    def peer_sleeps(self) -> bool:
        """After a write: whether the consumer said it sleeps and has to be rung (README: lost wake-up)."""
        self._fence()
        return self._words[_ASLEEP] != 0

    # Consumer

    @property
    def unread(self) -> int:
        """Bytes of the frames that have not been released."""
        return self._words[_TAIL] - self._words[_HEAD]

    def read(self) -> Frame | None:
        """Return the oldest frame without taking it out, or None if there is none.

        Raises:
            RingCorrupted: counters, checksum, sequence or lengths are not what a producer writes.
        """
        words = self._words
        head, tail = words[_HEAD], words[_TAIL]
        if head == tail:
            return None
        if not _ORDERED:
            self._fence()
        used = tail - head
        if not 0 <= used <= self.capacity or (tail | head) % _ALIGN:
            raise self._impossible(tail, head)
        if head != self._read_up_to:
            raise RingCorrupted(f"the head is {head}, and was left at {self._read_up_to}")
        frame = self._frame(head, used)
        if frame.kind == SKIP:
            used -= frame.end - head
            if used == 0:
                raise RingCorrupted(f"nothing follows the skip at {head}")
            frame = self._frame(frame.end, used)
            if frame.kind == SKIP:
                raise RingCorrupted(f"two skips in a row at {head}")
        return frame

    def release(self, frame: Frame) -> None:
        """Give the bytes of the frame that `read` returned back to the producer."""
        frame.payload.release()
        if not _ORDERED:
            self._fence()
        self._read_up_to = self._words[_HEAD] = frame.end

    def doze(self) -> bool:
        """Announce sleep. True: block on the doorbell, then call `wake`; False: a frame has come, do not block."""
        self._words[_ASLEEP] = 1
        self._fence()
        if self._words[_TAIL] == self._words[_HEAD]:
            return True
        self._words[_ASLEEP] = 0
        return False

    def wake(self) -> None:
        """Take the announcement back: the producer need not ring from now on."""
        self._words[_ASLEEP] = 0

    def _impossible(self, tail: int, head: int) -> RingCorrupted:
        return RingCorrupted(f"impossible counters: tail {tail}, head {head}, capacity {self.capacity}")

    def _frame(self, position: int, used: int) -> Frame:
        data = self._data
        start = position & self._mask
        crc, kind, meta_length, size, sequence = _FRAME.unpack_from(data, start)
        at = start + _FRAME.size + meta_length
        total = (_FRAME.size + meta_length + size + _ALIGN - 1) & -_ALIGN
        if sequence != position or total > used or start + total > self.capacity:
            raise RingCorrupted(f"no frame at {position}: sequence {sequence}, {total} of {used} bytes")
        checked = bytes(data[start + 4 : at])
        if crc32(checked) != crc:
            raise RingCorrupted(f"wrong checksum of the frame at {position}")
        # As `Frame(...)`, which takes three times as long: 0.3 us, twice a job.
        return tuple.__new__(Frame, (kind, checked[_CHECKED.size :], data[at : at + size], position + total))
