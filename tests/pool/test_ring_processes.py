"""Two processes on a pair of rings: sleeping, waking, wrapping, for many messages, and none lost (README: lost
wake-up)."""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import zlib

import pytest

from parallel_exec.pool.bell import new_bell, ring_bell, silence_bell
from parallel_exec.pool.block import BLOCK_BYTES, Block
from parallel_exec.pool.channel import new_memory

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
            select.select([bell], [], [])   # no timeout: a lost wake-up would hang here for good
            silence_bell(bell)
            block.requests.wake()
        continue
    crc = zlib.crc32(frame.payload).to_bytes(4, "little")
    meta, kind = frame.meta, frame.kind
    block.requests.release(frame)
    if kind == 2:
        break
    while not block.results.write(1, meta, (crc,)):
        os.sched_yield()
    if block.results.peer_sleeps():
        ring_bell(peer)
"""


@pytest.mark.parametrize("in_flight", [1, 2, 50])
def test_every_message_between_two_processes_arrives_once_and_in_order(in_flight: int) -> None:
    memory = new_memory(BLOCK_BYTES)
    block = Block(memory)
    request_bell, request_theirs = new_bell()
    result_bell, result_theirs = new_bell()
    fds = (memory, request_theirs, result_theirs)
    echo = subprocess.Popen([sys.executable, "-c", ECHO, *map(str, fds), *sys.path], pass_fds=fds)
    numbers = random.Random(in_flight)
    noise = numbers.randbytes(1 << 17)
    total = 20_000
    sent = received = 0
    checksums: dict[int, int] = {}
    try:
        while received < total:
            while sent < total and sent - received < in_flight:
                size = numbers.choice([0, 1, 63, 64, 65, 1000, numbers.randrange(20000), numbers.randrange(1 << 17)])
                payload = memoryview(noise)[:size]
                if not block.requests.write(1, sent.to_bytes(8, "little"), (payload,)):
                    break
                checksums[sent] = zlib.crc32(payload)
                sent += 1
                if block.requests.peer_sleeps():
                    ring_bell(request_bell)
            frame = block.results.read()
            if frame is None:
                if block.results.doze():
                    assert select.select([result_bell], [], [], 60)[0], "a wake-up was lost"
                    silence_bell(result_bell)
                    block.results.wake()
                continue
            assert int.from_bytes(frame.meta, "little") == received
            assert int.from_bytes(frame.payload, "little") == checksums.pop(received)
            block.results.release(frame)
            received += 1
        assert block.requests.write(2, b"")
        ring_bell(request_bell)
        assert echo.wait(60) == 0
    finally:
        echo.kill()
        echo.wait()
        block.close()
        for fd in (request_bell, result_bell, *fds):
            os.close(fd)
