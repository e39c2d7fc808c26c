"""Two processes on a pair of rings sleep, wake and wrap around, and no message is lost or torn: although only the bell
wakes a sleeper (README: lost wake-up), and although one process is killed again and again at any moment (README: who
was it).
"""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import zlib
from collections.abc import Iterator

import pytest

from parallel_exec.pool._transport.bell import new_bell, ring_bell, silence_bell
from parallel_exec.pool._transport.block import BLOCK_BYTES, Block
from parallel_exec.pool._transport.channel import new_memory

# It answers before it releases: if it is killed in between, its successor answers the same message again.
ECHO = """
import os, select, sys, zlib
sys.path[:] = sys.argv[4:]
from parallel_exec.pool._transport.bell import ring_bell, silence_bell
from parallel_exec.pool._transport.block import Block
memory, bell, peer = map(int, sys.argv[1:4])
block = Block(memory)
while True:
    frame = block.requests.read()
    if frame is None:
        if block.requests.doze():
            select.select([bell], [], [])   # no timeout: a lost wake-up would hang here for good
            silence_bell(bell)
            block.requests.wake()
        continue
    if frame.kind == 2:
        break
    answer = frame.meta + zlib.crc32(frame.payload).to_bytes(4, "little")
    while not block.results.write(1, answer, (bytes(frame.payload)[:5000],)):
        os.sched_yield()
    block.requests.release(frame)
    if block.results.peer_sleeps():
        ring_bell(peer)
"""
NOISE = random.Random(1).randbytes(1 << 17)


class Pair:
    """This side of the rings, and the process at the other side."""

    def __init__(self) -> None:
        memory = new_memory(BLOCK_BYTES)
        self.block = Block(memory)
        self._request_bell, request_theirs = new_bell()
        self._result_bell, result_theirs = new_bell()
        self._fds = (memory, request_theirs, result_theirs)
        self.spawn()

    def spawn(self) -> None:
        arguments = [sys.executable, "-c", ECHO, *map(str, self._fds), *sys.path]
        self.echo = subprocess.Popen(arguments, pass_fds=self._fds)

    def send(self, number: int, size: int) -> bool:
        """Send a message, if there is room."""
        if not self.block.requests.write(1, number.to_bytes(8, "little"), (memoryview(NOISE)[:size],)):
            return False
        if self.block.requests.peer_sleeps():
            ring_bell(self._request_bell)
        return True

    def receive(self, sizes: list[int]) -> int:
        """Wait for an answer, check that it is whole, and return the number of the message that it answers."""
        results = self.block.results
        while (frame := results.read()) is None:  # raises if a frame was not written whole
            if results.doze():
                assert select.select([self._result_bell], [], [], 60)[0], "a wake-up or an answer was lost"
                silence_bell(self._result_bell)
                results.wake()
        number = int.from_bytes(frame.meta[:8], "little")
        assert int.from_bytes(frame.meta[8:], "little") == zlib.crc32(NOISE[: sizes[number]])
        assert frame.payload == NOISE[: min(5000, sizes[number])]
        results.release(frame)
        return number

    def end(self) -> int:
        """Tell the process to end, and return its exit code."""
        assert self.block.requests.write(2, b"")
        ring_bell(self._request_bell)
        return self.echo.wait()

    def kill(self) -> None:
        self.echo.kill()
        self.echo.wait()

    def close(self) -> None:
        self.kill()
        self.block.close()
        for fd in (self._request_bell, self._result_bell, *self._fds):
            os.close(fd)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


@pytest.mark.parametrize("in_flight", [1, 2, 50])
def test_every_message_between_two_processes_arrives_once_and_in_order(pair: Pair, in_flight: int) -> None:
    numbers = random.Random(in_flight)
    total = 20_000
    sizes: list[int] = []
    for received in range(total):
        while len(sizes) < total and len(sizes) - received < in_flight:
            size = numbers.choice([0, 1, 63, 64, 65, 1000, numbers.randrange(20000), numbers.randrange(1 << 17)])
            if not pair.send(len(sizes), size):
                break
            sizes.append(size)
        assert pair.receive(sizes) == received
    assert pair.end() == 0


def test_kills_at_any_moment_tear_no_frame_and_lose_none(pair: Pair) -> None:
    numbers = random.Random(1)
    sizes: list[int] = []
    kills = received = again = 0
    until_kill = 1
    while kills < 25 or received < len(sizes):
        while kills < 25 and len(sizes) - received < 20:
            size = numbers.choice([0, 1, 64, 1000, numbers.randrange(1 << 16)])
            if not pair.send(len(sizes), size):
                break
            sizes.append(size)
        number = pair.receive(sizes)
        assert number in (received, received - 1)
        again += number < received
        received = number + 1
        until_kill -= 1
        if until_kill <= 0 and kills < 25:
            for _ in range(numbers.randrange(200)):  # so that it is killed anywhere in its work
                os.sched_yield()
            pair.kill()
            kills += 1
            until_kill = numbers.randrange(1, 200)
            pair.spawn()
    assert received == len(sizes) > kills
    assert again <= kills
