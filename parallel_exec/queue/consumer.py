"""Documents from a Redis stream, through a plugin's function, into another stream.

::

    stream ──► read (as far as there is room) ──► job ──► ended ──► settle: result added, entry acknowledged
                    ▲                              │
    of dead consumers, or lost by a dying worker ──► delivered too often: into the dead-letter stream

An error of a plugin, an invalid document and an exceeded limit are results too. An entry is delivered again if its
worker died or its consumer was killed. So an entry may be run twice, but it gets one result, which carries its id; two
only if Redis itself forgets what it has acknowledged.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Any

from parallel_exec.errors import JSError, WorkerCrashed
from parallel_exec.queue.redis_streams import Delivered, RedisQueue

# The most entries that are settled, and that are claimed, at a time.
BATCH = 64
# The most bytes of results in one settle, unless a single one is larger: Redis closes a connection that sends 1 GiB.
BATCH_BYTES = 16 << 20
# No more is read if documents as large as the last ones would take more bytes than this.
HELD_BYTES = 64 << 20
# The most fields that go into the dead-letter stream: a Redis script can pass on 8,000 values at a time.
MOST_FIELDS = 1000
# The code of an error after which a job is run again, without counting as a delivery: its server is unavailable.
_AGAIN = "UNAVAILABLE"
_AGAIN_S = 0.5
# The codes of errors that every document would get: the consumer ends, and the entries stay pending.
_REFUSALS = {"UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND", "UNIMPLEMENTED"}
_LEAST_CLAIM_S = 0.1
_MOST_S = 1e6

Submit = Callable[[bytes], "Future[bytes]"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsumerOptions:
    """How a consumer consumes.

    Attributes:
        results: the stream that results are added to.
        dead: the stream for entries that were delivered too often.
        field: the field of an entry that holds the document.
        in_flight: the most entries that have been read and not settled.
        deliveries: how often an entry is delivered at most.
        claim_after_s: seconds after which entries are taken from a consumer that no longer refreshes them.
        grace_s: seconds that running jobs are given to end when the consumer stops.

    Raises:
        ValueError: a number is out of its range.
    """

    results: str
    dead: str
    field: str = "document"
    in_flight: int = 256
    deliveries: int = 3
    claim_after_s: float = 60.0
    grace_s: float = 30.0

    def __post_init__(self) -> None:
        for name in ("in_flight", "deliveries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not _LEAST_CLAIM_S <= self.claim_after_s < _MOST_S:
            raise ValueError(f"claim_after_s must be at least {_LEAST_CLAIM_S}; got {self.claim_after_s}")
        if not 0 <= self.grace_s < _MOST_S:
            raise ValueError(f"grace_s must not be negative; got {self.grace_s}")


@dataclass(slots=True)
class Counts:
    """What a consumer has done.

    Attributes:
        results: entries that got a result, errors included.
        errors: how many of those results are errors.
        dead: entries that went into the dead-letter stream.
    """

    results: int = 0
    errors: int = 0
    dead: int = 0


class Consumer:
    """Runs entries of a queue until it is told to stop.

    Args:
        queue: where they come from; open. `run` closes it.
        submit: starts a job on a document, and returns the future of its result as bytes.
        options: how to consume.

    Attributes:
        counts: what has been done.
    """

    def __init__(self, queue: RedisQueue, submit: Submit, options: ConsumerOptions) -> None:
        self.counts = Counts()
        self._queue = queue
        self._submit = submit
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[bytes, Future[bytes] | None] = {}  # in flight: read and not settled
        self._ended: deque[tuple[bytes, Mapping[str, Any]]] = deque()
        self._again: list[bytes] = []  # their worker died
        self._too_often: deque[tuple[bytes, Mapping[str, Any]]] = deque()
        self._something = asyncio.Event()  # there is something to settle
        self._room = asyncio.Event()
        self._lost = asyncio.Event()  # a worker died
        self._stopping = False
        self._size = HELD_BYTES // 4  # of the largest of the last documents; at first, four are read
        self._refused: asyncio.Future[None] = self._loop.create_future()  # fails if the server refuses every document

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until an event is set; then let running jobs end, for up to `grace_s`. The rest stays pending.

        Raises:
            QueueError: Redis rejects a command.
            WorkerCrashed: the pool is broken.
            ServiceError: the server refuses every call.
        """
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(each()) for each in (self._read, self._claim, self._retry, self._settle)
        ]
        stopped: asyncio.Task[Any] = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([*tasks, stopped, self._refused], return_when=asyncio.FIRST_COMPLETED)
            self._stopping = True
            self._room.set()
            if stopped.done():
                self._something.set()
                await asyncio.wait([tasks[-1]], timeout=self._options.grace_s)
            for task in (*tasks, self._refused):
                if task.done():
                    task.result()  # raises what it raised
        finally:
            for task in (*tasks, stopped, self._refused):
                task.cancel()
            await asyncio.gather(*tasks, stopped, self._refused, return_exceptions=True)
            await self._queue.leave()

    @property
    def unfinished(self) -> list[Future[bytes]]:
        """The futures of jobs that had not ended when `run` did."""
        return [future for future in self._jobs.values() if future is not None and not future.done()]

    async def _read(self) -> None:
        losses = -1
        while not self._stopping:
            if losses != self._queue.losses:
                # A reply that was lost with the connection may have delivered entries, and so may an earlier run of a
                # consumer of this name.
                losses = self._queue.losses
                await self._take_up_mine()
            room = self._free()
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            for entry in await self._queue.read(room):
                self._begin(entry)

    def _free(self) -> int:
        """Return how many entries may be read."""
        held = len(self._jobs)
        likely = HELD_BYTES // max(1, self._size)
        # At least one if nothing is held: otherwise something will be settled and make room.
        return min(self._options.in_flight - held, max(likely - held, not held), BATCH)

    async def _take_up_mine(self) -> None:
        unknown = [each for each in await self._queue.mine(10 * self._options.in_flight) if each not in self._jobs]
        for at in range(0, len(unknown), BATCH):
            for entry in await self._queue.take(unknown[at : at + BATCH]):
                self._begin(entry)

    async def _claim(self) -> None:
        """Refresh the entries in flight, and take those that nobody refreshes."""
        while not self._stopping:
            if self._jobs:
                await self._queue.refresh(list(self._jobs))
            room = self._free()
            if room > 0:
                for entry in await self._queue.take_idle(self._options.claim_after_s, room):
                    self._begin(entry)
            await asyncio.sleep(self._options.claim_after_s / 4)

    async def _retry(self) -> None:
        """Take the entries that a dying worker lost once more, which counts as a delivery."""
        while True:
            await self._lost.wait()
            self._lost.clear()
            idents, self._again = self._again, []
            for ident in idents:
                del self._jobs[ident]
            for entry in await self._queue.take(idents):
                self._begin(entry)

    def _begin(self, entry: Delivered) -> None:
        if entry.id in self._jobs:
            return
        if entry.deliveries > self._options.deliveries:
            self._jobs[entry.id] = None
            tells = {"entry": entry.id, "deliveries": str(entry.deliveries), "reason": "delivered too often"}
            kept = {_text(key): value for key, value in islice(entry.fields.items(), MOST_FIELDS)}
            self._too_often.append((entry.id, {**kept, **tells}))
            self._something.set()
            return
        document = entry.fields.get(self._options.field.encode())
        if document is None:
            self._jobs[entry.id] = None
            text = f"the entry has no field {self._options.field!r}"
            self._end(entry.id, {"entry": entry.id, "status": "error", "error": "InvalidDocument", "message": text})
            return
        self._start(entry.id, document)

    def _start(self, ident: bytes, document: bytes) -> None:
        self._size = max(len(document), self._size - self._size // 8)
        future = self._jobs[ident] = self._submit(document)
        future.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._take, ident, document, done))

    def _take(self, ident: bytes, document: bytes, future: Future[bytes]) -> None:
        if future.cancelled() or ident not in self._jobs:
            return
        error = future.exception()
        if isinstance(error, WorkerCrashed):
            self._again.append(ident)
            self._lost.set()
        elif getattr(error, "code", None) == _AGAIN:
            self._loop.call_later(_AGAIN_S, self._start, ident, document)
        elif error is not None and getattr(error, "code", None) in _REFUSALS:
            if not self._refused.done():
                self._refused.set_exception(error)
        elif error is None:
            self._end(ident, {"entry": ident, "status": "ok", "result": future.result()})
        else:
            self._end(ident, {"entry": ident, "status": "error", **_describe(error)})

    def _end(self, ident: bytes, fields: Mapping[str, Any]) -> None:
        self._ended.append((ident, fields))
        self._something.set()

    async def _settle(self) -> None:
        while not (self._stopping and not self._jobs):
            if not self._ended and not self._too_often:
                self._something.clear()
                await self._something.wait()
                continue
            for waiting, to in ((self._ended, self._options.results), (self._too_often, self._options.dead)):
                batch = _next_batch(waiting)
                if not batch:
                    continue
                settled = await self._queue.settle(batch, to)
                if waiting is self._ended:
                    self.counts.results += settled
                    self.counts.errors += sum(fields["status"] == "error" for _, fields in batch)
                else:
                    self.counts.dead += settled
                for ident, _ in batch:
                    del self._jobs[ident]
                self._room.set()


def _next_batch(waiting: deque[tuple[bytes, Mapping[str, Any]]]) -> list[tuple[bytes, Mapping[str, Any]]]:
    """Take as many entries as may be settled at once."""
    batch: list[tuple[bytes, Mapping[str, Any]]] = []
    size = 0
    while waiting and len(batch) < BATCH:
        size += sum(map(len, waiting[0][1].values()))
        if batch and size > BATCH_BYTES:
            break
        batch.append(waiting.popleft())
    return batch


def _describe(error: BaseException) -> dict[str, str]:
    told = {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, JSError):
        told |= {"js_name": error.name, "js_message": error.message, "js_stack": error.js_stack}
    return {name: text.encode(errors="backslashreplace").decode() for name, text in told.items()}


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
