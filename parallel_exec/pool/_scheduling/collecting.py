"""Who collects results: the collector thread, or the thread that consumes a map while that map is all there is to do.

A result that one thread takes from a ring for another one costs two thread switches, some 20 us of a job's 200. So the
consumer of a map takes the results itself, and the collector rests, as long as no other map runs and no job was
submitted by itself. Anything but a result (a death, a new worker, the end) is left to the collector.

Whoever holds `_stepping` may step. The collector rests only while `_may_rest` holds, and everything that ends that
state rings `_resume` afterwards: so it either sees the new state or is woken (README: who collects).
"""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Callable, Iterator

from parallel_exec._signals import ROUND_S, Gate, held
from parallel_exec.pool._backend import MapConsumer
from parallel_exec.pool._transport.bell import Wakeup

# How often the collector looks whether a consumer that wants its place has taken it; that takes microseconds.
CLAIM_MS = 10
# How long the collector rests while a map's consumer does not collect: jobs may be overdue, and workers dead.
REST_MS = 200

Step = Callable[..., bool]


class Collecting:
    """The right to collect, and who has it.

    Args:
        step: one round of collecting; see `Core._step`.
        hungry: whether a worker could do with more jobs than there are.
        wakeup: makes a round that waits return.
    """

    def __init__(self, step: Step, hungry: Callable[[], bool], wakeup: Wakeup) -> None:
        self._step = step
        self._hungry = hungry
        self._wakeup = wakeup
        self._resume = Wakeup()
        self._rest = select.poll()
        self._rest.register(self._resume.fd, select.POLLIN)
        self._driven = False  # whether a consumer has collected since the collector looked
        self._collects = 0  # ident of the thread that does, 0 for none
        self._stepping = threading.Lock()
        self._resting = False
        self._ended = False
        # Changed by single operations on sets, which need no lock: a generator's end may be garbage collection's doing.
        self._maps: set[object] = set()
        self._claims: set[object] = set()
        self._waiting: set[object] = set()
        self._attendants: set[Gate] = set()
        self._outsiders: set[object] = set()

    # The collector's side

    def serve(self) -> bool:
        """Collect one round, and then rest while a map's consumer does it. False: the pool has ended."""
        with self._stepping:
            self._collects = threading.get_ident()
            alive = self._step()
            self._collects = 0
        while alive and (self._may_rest() or self._claims):
            self._resting = True
            called = self._rest.poll(CLAIM_MS if self._claims else REST_MS)
            self._resting = False
            self._resume.silence()
            if not called and not self._claims:
                # An active consumer collects; one that does something else leaves it to this thread.
                driven, self._driven = self._driven, False
                if not driven:
                    break
        return alive

    def _may_rest(self) -> bool:
        return self.may_drive() and not self._waiting

    def may_drive(self) -> bool:
        """Whether one map is all there is to do, so that its consumer may collect."""
        return len(self._maps) == 1 and not self._outsiders and not self._ended

    def is_mine(self) -> bool:
        """Whether this thread is the one that collects, and so in a callback of a future."""
        return self._collects == threading.get_ident()

    # Everybody else's

    def need(self, owner: object) -> None:
        """Keep the collector awake until `dismiss`: somebody waits for results who never collects."""
        self._outsiders.add(owner)
        if self._maps:
            self._resume.ring()

    def dismiss(self, owner: object) -> None:
        """End what `need` began."""
        self._outsiders.discard(owner)

    def end(self) -> None:
        """The pool is to end; the collector sees to that."""
        self._ended = True
        self._resume.ring()

    @contextlib.contextmanager
    def attended(self) -> Iterator[Gate]:
        """Keep the collector awake while a thread waits for something that only the collector handles. The gate opens
        each time it has handled something.
        """
        seen_to = Gate()
        self._attendants.add(seen_to)
        self._waiting.add(seen_to)
        self._resume.ring()
        try:
            yield seen_to
        finally:
            self._waiting.discard(seen_to)
            self._attendants.discard(seen_to)

    def tell_attendants(self) -> None:
        """Something else than results has been seen to."""
        for gate in list(self._attendants):
            gate.open()

    def close(self) -> None:
        """Close the descriptors."""
        self._resume.close()

    def after_fork(self) -> None:
        """In the child of a fork: let go of the descriptors."""
        self._resume.after_fork()

    # The side of a map

    def join(self, owner: object) -> None:
        """A map begins to be consumed."""
        self._maps.add(owner)
        if len(self._maps) > 1:
            self._resume.ring()

    def leave(self, owner: object) -> None:
        """A map ends, or is given up. Takes no lock, because garbage collection may be what ends it."""
        self._maps.discard(owner)
        self._waiting.discard(owner)  # where a signal's handler tore it out of `wait`
        self._resume.ring()

    def wait(self, consumer: MapConsumer, timeout: float) -> None:
        """Wait until a map has a result, or needs to draw more documents, or so many seconds have passed, collecting
        meanwhile if that is this thread's to do. It may return earlier.
        """
        deadline = time.monotonic() + min(timeout, ROUND_S)
        if self.may_drive():
            with held(self._wakeup.ring):
                if self._drive(consumer, deadline):
                    return
        self._waiting.add(consumer)
        self._resume.ring()
        try:
            consumer.sleep(max(0.0, deadline - time.monotonic()))
        finally:
            self._waiting.discard(consumer)

    def _drive(self, consumer: MapConsumer, deadline: float) -> bool:
        """Collect until the consumer has what it waits for; False: there is something that the collector has to do, or
        a signal has come.
        """
        # From here on the collector takes no new round, so that one ring is enough to end the one it may be in.
        self._claims.add(consumer)
        if not self._resting:
            self._wakeup.ring()
        # The collector may be in a callback of the user's, which may take long.
        entered = self._stepping.acquire(timeout=max(0.0, deadline - time.monotonic()))
        self._claims.discard(consumer)
        if not entered:
            return True
        self._collects = threading.get_ident()
        self._driven = True
        try:
            return self._collect_for(consumer, deadline)
        finally:
            self._collects = 0
            self._stepping.release()

    def _collect_for(self, consumer: MapConsumer, deadline: float) -> bool:
        while not consumer.ready:
            left = max(0.0, deadline - time.monotonic())
            if not (self.may_drive() and self._step(left, results_only=True)):
                return False
            if left == 0.0 or self._hungry():
                break
        return True
