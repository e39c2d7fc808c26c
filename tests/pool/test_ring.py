"""A ring gives what was written to it, in order, and notices when its memory has been corrupted."""

from __future__ import annotations

import mmap
import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parallel_exec.pool._transport.ring import HEADER_BYTES, SKIP, Ring, RingCorrupted

CAPACITY = 4096


def two_sides(capacity: int = CAPACITY) -> tuple[Ring, Ring, memoryview]:
    region = memoryview(mmap.mmap(-1, HEADER_BYTES + capacity))
    return Ring(region), Ring(region), region


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.integers(0, SKIP - 1),
            st.binary(max_size=40),
            st.lists(st.binary(max_size=900), max_size=3),
            st.sampled_from([0, 0, 0, 512]),
        ),
        max_size=120,
    )
)
def test_frames_come_out_as_they_went_in_whatever_their_sizes(
    steps: list[tuple[bool, int, bytes, list[bytes], int]],
) -> None:
    producer, consumer, _ = two_sides()
    written: deque[tuple[int, bytes, bytes]] = deque()
    for reads, kind, meta, parts, reserve in steps:
        if reads:
            frame = consumer.read()
            if frame is None:
                assert not written
                continue
            assert (frame.kind, frame.meta, bytes(frame.payload)) == written.popleft()
            consumer.release(frame)
        else:
            payload = b"".join(parts)
            took = producer.write(kind, meta, parts, reserve=reserve)
            if took:
                written.append((kind, meta, payload))
            elif not written:
                # An empty ring refuses only what no ring can hold.
                assert len(meta) + len(payload) + reserve > producer.largest - 64
    while (frame := consumer.read()) is not None:
        assert (frame.kind, frame.meta, bytes(frame.payload)) == written.popleft()
        consumer.release(frame)
    assert not written


def test_a_full_ring_refuses_and_has_room_again_after_a_release() -> None:
    producer, consumer, _ = two_sides()
    count = 0
    while producer.write(1, b"", (bytes(500),)):
        count += 1
    assert 6 <= count <= CAPACITY // 500
    frame = consumer.read()
    assert frame is not None
    assert not producer.write(1, b"", (bytes(500),))
    consumer.release(frame)
    assert producer.write(1, b"", (bytes(500),))


def test_the_largest_frame_fits_an_empty_ring_at_every_position() -> None:
    producer, consumer, _ = two_sides()
    for _ in range(CAPACITY // 64 + 1):
        for size in (producer.largest, 1):
            assert producer.write(7, b"", (bytes(size),))
            frame = consumer.read()
            assert frame is not None and len(frame.payload) == size
            consumer.release(frame)


def test_the_reserve_keeps_room_for_small_frames() -> None:
    producer, _, _ = two_sides()
    while producer.write(1, b"", (bytes(300),), reserve=1024):
        pass
    for _ in range(1024 // 128):
        assert producer.write(2, bytes(24))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 255), st.data())
def test_a_changed_byte_of_counters_or_descriptor_is_noticed(seed: int, flip: int, data: st.DataObject) -> None:
    producer, consumer, region = two_sides()
    numbers = random.Random(seed)
    for _ in range(numbers.randrange(40)):  # begin at any position of any lap
        assert producer.write(1, bytes(numbers.randrange(30)), (bytes(numbers.randrange(200)),))
        frame = consumer.read()
        assert frame is not None
        consumer.release(frame)
    position = region[:8].cast("Q")[0] % CAPACITY
    meta = numbers.randbytes(16)
    assert producer.write(5, meta, (b"payload",))
    descriptor = range(HEADER_BYTES + position, HEADER_BYTES + position + 20 + 16)
    at = data.draw(st.sampled_from([*range(8), *range(64, 72), *descriptor]))
    region[at] ^= flip
    frames = []
    with pytest.raises(RingCorrupted):
        while (frame := consumer.read()) is not None:
            # If the tail is too large, this frame is intact and what follows it is not.
            frames.append((frame.kind, frame.meta, bytes(frame.payload)))
            consumer.release(frame)
        # If the counters happen to be equal the ring seems empty, and nothing is read.
        raise RingCorrupted("empty")
    assert frames in ([], [(5, meta, b"payload")])


def test_what_an_earlier_lap_left_is_not_taken_for_a_frame() -> None:
    producer, consumer, region = two_sides()
    for _ in range(CAPACITY // 64):
        assert producer.write(1, b"", (b"x",))
        frame = consumer.read()
        assert frame is not None
        consumer.release(frame)
    region[:8].cast("Q")[0] += 64  # a tail without a frame before it
    with pytest.raises(RingCorrupted, match="sequence"):
        consumer.read()


def test_a_consumer_does_not_sleep_on_a_frame_and_a_producer_rings_only_a_sleeper() -> None:
    producer, consumer, _ = two_sides()
    assert producer.write(1, b"")
    assert not producer.peer_sleeps()
    assert not consumer.doze()
    assert not producer.peer_sleeps()
    frame = consumer.read()
    assert frame is not None
    consumer.release(frame)
    assert consumer.doze()
    assert producer.write(1, b"")
    assert producer.peer_sleeps()
    consumer.wake()
    assert not producer.peer_sleeps()


@pytest.mark.parametrize("size", [0, 4095, 4097, 2048, 6144])
def test_a_region_of_the_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Ring(memoryview(bytearray(HEADER_BYTES + size)))
