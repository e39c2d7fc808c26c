"""The sleep of a ring's consumer against its producer's writes, in every order of their accesses to the shared words
(README: lost wake-up). The accesses are the real code's; memory is sequentially consistent here, as the fences make it.
"""

from __future__ import annotations

import itertools
import mmap
import random
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from parallel_exec.pool._transport.ring import HEADER_BYTES, Ring


class Baton:
    """Lets two threads go on one access at a time, as a schedule says."""

    def __init__(self) -> None:
        self._may_go = {name: threading.Semaphore(0) for name in "pc"}
        self._stands = {name: threading.Semaphore(0) for name in "pc"}
        self._free = False
        self.over: set[str] = set()

    def gate(self, name: str) -> None:
        """Stand before an access until it may be done."""
        if not self._free:
            self._stands[name].release()
            self._may_go[name].acquire()

    def finish(self, name: str) -> None:
        self.over.add(name)
        self._stands[name].release()

    def conduct(self, schedule: Iterable[str]) -> None:
        """Let one access be done after the other; what is left when the schedule ends, one thread after the other."""
        for name in "pc":
            self._stands[name].acquire()
        for name in itertools.chain(schedule, "p" * 100, "c" * 100):
            if name not in self.over:
                self._may_go[name].release()
                self._stands[name].acquire()
        assert self.over == {"p", "c"}


class Words:
    """Shared words, each access to which has to wait for its turn."""

    def __init__(self, words: Any, baton: Baton, name: str) -> None:
        self._words, self._baton, self._name = words, baton, name

    def __getitem__(self, index: int) -> int:
        self._baton.gate(self._name)
        return int(self._words[index])

    def __setitem__(self, index: int, value: int) -> None:
        self._baton.gate(self._name)
        self._words[index] = value


def run(schedule: Sequence[str], messages: int) -> tuple[int, bool, bool, str]:
    """Let a producer write messages while a consumer reads until it would block; return how many it read, whether it
    blocks, whether the bell is rung, and the accesses that the schedule met.
    """
    region = memoryview(mmap.mmap(-1, HEADER_BYTES + 4096))
    baton = Baton()
    rings = {}
    for name in "pc":
        rings[name] = Ring(region)
        rings[name]._words = Words(rings[name]._words, baton, name)  # type: ignore[assignment]
    rung = blocked = False
    read = 0

    def produce() -> None:
        nonlocal rung
        for number in range(messages):
            assert rings["p"].write(1, bytes([number]))
            if rings["p"].peer_sleeps():
                rung = True
        baton.finish("p")

    def consume() -> None:
        nonlocal read, blocked
        while not blocked:
            frame = rings["c"].read()
            if frame is not None:
                assert frame.meta == bytes([read])
                rings["c"].release(frame)
                read += 1
            elif rings["c"].doze():
                blocked = True
        baton.finish("c")

    threads = [threading.Thread(target=produce), threading.Thread(target=consume)]
    for thread in threads:
        thread.start()
    baton.conduct(schedule)
    for thread in threads:
        thread.join()
    return read, blocked, rung, "".join(schedule)


def check(schedule: Sequence[str], messages: int) -> int:
    read, blocked, rung, shown = run(schedule, messages)
    assert blocked
    # What was written is read, or the consumer is woken to read it.
    assert read == messages or rung, f"a wake-up was lost by the schedule {shown}: {read} of {messages} read"
    return read


def orders(producer: int, consumer: int) -> Iterator[tuple[str, ...]]:
    for places in itertools.combinations(range(producer + consumer), producer):
        schedule = ["c"] * (producer + consumer)
        for place in places:
            schedule[place] = "p"
        yield tuple(schedule)


def test_in_every_order_of_one_write_and_one_sleep_nobody_sleeps_on_a_frame() -> None:
    seen = {check(schedule, 1) for schedule in orders(4, 7)}
    assert seen == {0, 1}  # there were orders in which the consumer went to sleep before, and ones in which it did not


def test_in_many_orders_of_several_writes_neither() -> None:
    numbers = random.Random(5)
    seen = {check([numbers.choice("pc") for _ in range(30)], 3) for _ in range(400)}
    assert seen == {0, 1, 2, 3}
