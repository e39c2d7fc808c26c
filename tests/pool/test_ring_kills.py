"""Two processes on a pair of rings, one of which is killed again and again at any moment: what is in the rings stays
whole, in order, and nothing is lost (README: who was it).
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import zlib

from parallel_exec.pool.bell import new_bell, ring_bell, silence_bell
from parallel_exec.pool.block import BLOCK_BYTES, Block
from parallel_exec.pool.channel import new_memory

# It answers before it releases: killed in between, it answers the same message again in its next life.
ECHO = """
import os, select, sys, zlib
sys.path[:] = sys.argv[4:]
from parallel_exec.pool.bell import ring_bell, silence_bell
from parallel_exec.pool.block import Block
memory, bell, peer = map(int, sys.argv[1:4])
block = Block(memory)
while True:
    frame = block.requests.read()
    if frame is None:
        if block.requests.doze():
            select.select([bell], [], [])
            silence_bell(bell)
            block.requests.wake()
        continue
    answer = frame.meta + zlib.crc32(frame.payload).to_bytes(4, "little")
    while not block.results.write(1, answer, (bytes(frame.payload)[:5000],)):
        os.sched_yield()
    block.requests.release(frame)
    if block.results.peer_sleeps():
        ring_bell(peer)
"""
KILLS = 25


def test_kills_at_any_moment_tear_no_frame_and_lose_none() -> None:
    memory = new_memory(BLOCK_BYTES)
    block = Block(memory)
    request_bell, request_theirs = new_bell()
    result_bell, result_theirs = new_bell()
    fds = (memory, request_theirs, result_theirs)

    def spawn() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", ECHO, *map(str, fds), *sys.path], pass_fds=fds)

    numbers = random.Random(1)
    noise = numbers.randbytes(1 << 16)
    sizes: list[int] = []
    received = again = kills = 0
    echo = spawn()
    until_kill = 1
    try:
        while kills < KILLS or received < len(sizes):
            while kills < KILLS and len(sizes) - received < 20:
                size = numbers.choice([0, 1, 64, 1000, numbers.randrange(1 << 16)])
                if not block.requests.write(1, len(sizes).to_bytes(8, "little"), (memoryview(noise)[:size],)):
                    break
                sizes.append(size)
                if block.requests.peer_sleeps():
                    ring_bell(request_bell)
            frame = block.results.read()  # raises if there is anything in it that was not written whole
            if frame is None:
                if block.results.doze():
                    assert select.select([result_bell], [], [], 60)[0], "an answer was lost"
                    silence_bell(result_bell)
                    block.results.wake()
                continue
            number, crc = int.from_bytes(frame.meta[:8], "little"), int.from_bytes(frame.meta[8:], "little")
            assert number in (received, received - 1)
            again += number < received
            assert crc == zlib.crc32(noise[: sizes[number]])
            assert frame.payload == noise[: min(5000, sizes[number])]
            block.results.release(frame)
            received = number + 1
            until_kill -= 1
            if until_kill <= 0 and kills < KILLS:
                for _ in range(numbers.randrange(200)):  # a moment later, somewhere in its work
                    os.sched_yield()
                os.kill(echo.pid, signal.SIGKILL)
                echo.wait()
                kills += 1
                until_kill = numbers.randrange(1, 200)
                echo = spawn()
        assert received == len(sizes) > KILLS
        assert again <= kills
    finally:
        echo.kill()
        echo.wait()
        block.close()
        for fd in (request_bell, result_bell, *fds):
            os.close(fd)
