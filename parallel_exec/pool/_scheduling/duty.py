"""Who collects results: the collector thread, or the thread that consumes a map, while that map is all there is to do.

A result that one thread takes from a ring and another one waits for costs two thread switches, some 20 us of a job's
200. So the consumer of a map takes the results itself, and the collector rests, as long as no other map runs and no job
was submitted by itself. Anything but a result (a death, a new worker, the end) is left to the collector.

Whoever holds `_collecting` may step. The collector rests only while `_may_rest` holds, and everything that ends that
state rings `_resume` afterwards: so it either sees the new state or is woken (README: who collects).
"""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol

from parallel_exec.pool._transport.bell import Wakeup

# How often the collector looks whether a consumer that wants its place has taken it; that takes microseconds.
CLAIM_MS = 10
# How long the collector rests while a map's consumer does not collect: jobs may be overdue, and workers dead.
REST_MS = 200

# Longest round of a consumer. A signal that comes between Python's last look at signals and the system call that waits
# does not end the wait, and Ctrl-C would be noticed with the next result only.
ROUND_S = 0.1

Step = Callable[..., bool]


class Consumer(Protocol):
    """A map that is consumed.

    Attributes:
        ready: whether it has a result to give.
    """

    @property
    def ready(self) -> bool: ...

    def sleep(self, timeout: float) -> None:
        """Wait until it is ready, for so many seconds at most, while others collect."""


class Duty:
    """The right to collect, and who has it.

    Attributes:
        interrupted: a consumer was torn out of a step by an exception (Ctrl-C): what workers still run is not known for
            certain. Whoever has them all killed takes this back.

    Args:
        step: one round of collecting; see `Core._step`.
        distrust: has all workers killed and replaced.
        hungry: whether a worker could do with more jobs than there are.
        wakeup: makes a round that waits return.
    """

    def __init__(self, step: Step, distrust: Callable[[], None], hungry: Callable[[], bool], wakeup: Wakeup) -> None:
        self.interrupted = False
        self._distrust = distrust
        self._step = step
        self._hungry = hungry
        self._wakeup = wakeup
        self._resume = Wakeup()
        self._rest = select.poll()
        self._rest.register(self._resume.fd, select.POLLIN)
        self._driven = False  # whether a consumer has collected since the collector looked
        self._collects = 0  # ident of the thread that does, 0 for none
        self._collecting = threading.Lock()
        self._resting = False
        self._ended = False
        # Changed by single operations on sets, which need no lock: a generator's end may be garbage collection's doing.
        self._maps: set[object] = set()
        self._claims: set[object] = set()
        self._waiting: set[object] = set()
        self._attendants: set[threading.Event] = set()
        self._outsiders: set[object] = set()

    # The collector's side

    def serve(self) -> bool:
        """Collect one round, and then rest while a map's consumer does it. False: the pool has ended."""
        with self._collecting:
            self._collects = threading.get_ident()
            alive = self._step()
            self._collects = 0
        while alive and (self._may_rest() or self._claims):
            self._resting = True
            called = self._rest.poll(CLAIM_MS if self._claims else REST_MS)
            self._resting = False
            self._resume.silence()
            if not called and not self._claims:
                # A consumer that is about collects; one that does something else leaves it to this thread.
                driven, self._driven = self._driven, False
                if not driven:
                    break
        return alive

    def _may_rest(self) -> bool:
        return self.may_drive() and not self._waiting

    def may_drive(self) -> bool:
        """Whether one map is all there is to do, so that its consumer may collect."""
        return len(self._maps) == 1 and not self._outsiders and not self._ended and not self.interrupted

    def is_alone(self, future: Future[Any]) -> bool:
        """Whether one job, which belongs to no map, is all there is to do."""
        return not self._maps and len(self._outsiders) == 1 and future in self._outsiders and not self.interrupted

    def is_pending(self, future: Future[Any]) -> bool:
        """Whether a job that belongs to no map has not ended. Unlike `Future.done` this takes no lock, which a Ctrl-C
        can leave taken (README: interrupted hand-over).
        """
        return future in self._outsiders

    def is_mine(self) -> bool:
        """Whether this thread is the one that collects, and so in a callback of a future."""
        return self._collects == threading.get_ident()

    # Everybody else's

    def outsider(self, future: Future[Any]) -> None:
        """A job was submitted that belongs to no map: somebody may wait for it, so the collector must be awake."""
        self.need(future)
        future.add_done_callback(self.dismiss)

    def need(self, owner: object) -> None:
        """Somebody who never collects waits for results from now on, until `dismiss`: the collector must be awake."""
        self._outsiders.add(owner)
        if self._maps:
            self._resume.ring()

    def dismiss(self, owner: object) -> None:
        """That is over."""
        self._outsiders.discard(owner)

    def end(self) -> None:
        """The pool is to end; the collector sees to that."""
        self._ended = True
        self._resume.ring()

    @contextlib.contextmanager
    def attended(self) -> Iterator[threading.Event]:
        """Have the collector awake meanwhile, for somebody who waits for what only it sees to. What this yields is set
        whenever it has seen to something. (A condition with the pool's lock would not do: Ctrl-C may tear a thread out
        of waiting before it has the lock again, which it would then release nevertheless.)
        """
        dealt_with = threading.Event()
        self._attendants.add(dealt_with)
        self._waiting.add(dealt_with)
        self._resume.ring()
        try:
            yield dealt_with
        finally:
            self._waiting.discard(dealt_with)
            self._attendants.discard(dealt_with)

    def tell_attendants(self) -> None:
        """Something else than results has been dealt with."""
        for dealt_with in list(self._attendants):
            dealt_with.set()

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
        self._resume.ring()

    def wait(self, consumer: Consumer, timeout: float) -> None:
        """Wait until a map has a result, or needs to draw more documents, or so many seconds have passed, collecting
        meanwhile if that is this thread's to do. It may return earlier.
        """
        deadline = time.monotonic() + min(timeout, ROUND_S)
        if self.may_drive() and self._drive(consumer, deadline):
            return
        self._waiting.add(consumer)
        self._resume.ring()
        try:
            consumer.sleep(max(0.0, deadline - time.monotonic()))
        finally:
            self._waiting.discard(consumer)

    def torn(self) -> None:
        """An exception, such as Ctrl-C, tore this thread out of taking results (README: interrupted step)."""
        self.interrupted = True
        try:
            # At once, so that no new job goes where it may be lost; if this is torn out too, the collector does it.
            self._distrust()
        finally:
            # The collector may rest, or wait for an event in a round that it has begun since.
            self._resume.ring()
            self._wakeup.ring()

    def _drive(self, consumer: Consumer, deadline: float) -> bool:
        """Collect until the consumer has what it waits for; False: there is something that the collector has to do."""
        try:
            # From here on the collector takes no new round, so that one ring is enough to end the one it may be in.
            self._claims.add(consumer)
            if not self._resting:
                self._wakeup.ring()
            with self._collecting:
                self._claims.discard(consumer)
                self._collects = threading.get_ident()
                self._driven = True
                return self._collect_for(consumer, deadline)
        except BaseException:
            self.torn()
            raise
        finally:
            self._claims.discard(consumer)
            if self.is_mine():
                self._collects = 0

    def _collect_for(self, consumer: Consumer, deadline: float) -> bool:
        while not consumer.ready:
            left = max(0.0, deadline - time.monotonic())
            if not (self.may_drive() and self._step(left, results_only=True)):
                return False
            if left == 0.0 or self._hungry():
                break
        return True
