"""The sleep of a ring's consumer against its producer's writes, in every order of their accesses to the shared words
(README: lost wake-up). The accesses are those of the real code; memory is sequentially consistent here, which is what
the fences achieve.
"""

from __future__ import annotations

import itertools
import mmap
import random
import threading
from collections.abc import Iterable, Iterator, Sequence

from parallel_exec.pool._transport.ring import HEADER_BYTES, Ring


class Baton:
    """Lets two threads, the producer "p" and the consumer "c", make one access at a time, as a schedule says."""

    def __init__(self) -> None:
        self._may_go = {name: threading.Semaphore(0) for name in "pc"}
        self._arrived = {name: threading.Semaphore(0) for name in "pc"}
        self.finished: set[str] = set()

    def gate(self, name: str) -> None:
        """Wait in front of an access until it is this thread's turn."""
        self._arrived[name].release()
        self._may_go[name].acquire()

    def finish(self, name: str) -> None:
        """Make no more accesses."""
        self.finished.add(name)
        self._arrived[name].release()

    def conduct(self, schedule: Iterable[str]) -> None:
        """Allow one access after the other; when the schedule ends, all that is left of the producer's and then all
        that is left of the consumer's.
        """
        for name in "pc":
            self._arrived[name].acquire()
        for name in itertools.chain(schedule, "p" * 100, "c" * 100):
            if name not in self.finished:
                self._may_go[name].release()
                self._arrived[name].acquire()
        assert self.finished == {"p", "c"}


class Words:
    """Shared words, each access to which waits for its turn."""

    def __init__(self, words: memoryview, baton: Baton, name: str) -> None:
        self._words, self._baton, self._name = words, baton, name

    def __getitem__(self, index: int) -> int:
        self._baton.gate(self._name)
        return int(self._words[index])

    def __setitem__(self, index: int, value: int) -> None:
        self._baton.gate(self._name)
        self._words[index] = value


class GatedRing(Ring):
    """One side of a ring, whose accesses to the shared words wait for their turn."""

    def __init__(self, region: memoryview, baton: Baton, name: str) -> None:
        super().__init__(region)
        self._words = Words(self._words, baton, name)  # type: ignore[assignment]


class Encounter:
    """A producer that writes messages, and a consumer that reads until it would block.

    Attributes:
        read: how many messages the consumer has read.
        rung: whether the producer has rung the bell.
    """

    def __init__(self, messages: int) -> None:
        self.read = 0
        self.rung = False
        self._messages = messages
        self._baton = Baton()
        region = memoryview(mmap.mmap(-1, HEADER_BYTES + 4096))
        self._producer, self._consumer = (GatedRing(region, self._baton, name) for name in "pc")

    def run(self, schedule: Iterable[str]) -> None:
        """Have both make their accesses in the order of the schedule."""
        threads = [threading.Thread(target=side) for side in (self._produce, self._consume)]
        for thread in threads:
            thread.start()
        self._baton.conduct(schedule)
        for thread in threads:
            thread.join()

    def _produce(self) -> None:
        for number in range(self._messages):
            assert self._producer.write(1, bytes([number]))
            self.rung = self._producer.peer_sleeps() or self.rung
        self._baton.finish("p")

    def _consume(self) -> None:
        while (frame := self._consumer.read()) is not None or not self._consumer.doze():
            if frame is not None:
                assert frame.meta == bytes([self.read])
                self._consumer.release(frame)
                self.read += 1
        self._baton.finish("c")


def messages_read(schedule: Sequence[str], messages: int) -> int:
    """Check that whatever the schedule, all messages are read or the consumer is woken to read them."""
    encounter = Encounter(messages)
    encounter.run(schedule)
    assert encounter.read == messages or encounter.rung, (
        f"a wake-up was lost by the schedule {''.join(schedule)}: {encounter.read} of {messages} read"
    )
    return encounter.read


def orders(producer: int, consumer: int) -> Iterator[tuple[str, ...]]:
    for places in itertools.combinations(range(producer + consumer), producer):
        schedule = ["c"] * (producer + consumer)
        for place in places:
            schedule[place] = "p"
        yield tuple(schedule)


def test_in_no_order_of_a_write_and_a_sleep_does_the_consumer_sleep_on_a_frame() -> None:
    seen = {messages_read(schedule, 1) for schedule in orders(4, 7)}
    assert seen == {0, 1}  # in some orders the consumer went to sleep before the write, in others it did not


def test_in_none_of_many_orders_of_several_writes_does_the_consumer_sleep_on_a_frame() -> None:
    numbers = random.Random(5)
    seen = {messages_read([numbers.choice("pc") for _ in range(30)], 3) for _ in range(400)}
    assert seen == {0, 1, 2, 3}
