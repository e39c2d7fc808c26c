"""One ExecuteStream: documents in, outcomes out, and no more of them held than its window.

::

    reader   request ──► room in the window? ──► Pool.submit ──► in flight
    writer   in flight, ended ──► response ──► written: room in the window

A client that does not read outcomes lets the writer wait, then the window fill, then the reader stop reading; HTTP/2's
flow control stops the client.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from ..errors import PexecError
from ..pool import DeployedFunction, JobFuture, Pool
from . import messages
from .failures import ServiceError, to_message

# Documents that a stream holds at most, and at first; bytes of documents and of as many results as those so far, unless
# FIRST_DOCUMENTS are more.
MOST_DOCUMENTS = 1024
FIRST_DOCUMENTS = 16
MOST_BYTES = 32 << 20
# Bytes of outcomes in a response, unless a single one is larger.
RESPONSE_BYTES = 1 << 20

# With so many documents in flight, outcomes wait a little for others: a response costs as much as a small job.
MANY = 16
LINGER_S = 0.001

Read = Callable[[Any], bytes]
Context = Any  # grpc.aio.ServicerContext, which has no types


class _Item:
    """A document in flight."""

    __slots__ = ("future", "index", "size")

    def __init__(self, index: int, size: int, future: JobFuture) -> None:
        self.index = index
        self.size = size
        self.future = future


class Stream:
    """The documents of one call.

    Args:
        pool: runs them.
        function: what to call.
        opened: the StreamOpen message.
        read: returns the bytes of a Document message.
    """

    def __init__(self, pool: Pool, function: DeployedFunction, opened: Any, read: Read) -> None:
        self._pool = pool
        self._function = function
        self._read = read
        self._ordered = not opened.unordered
        self._window = min(opened.window or MOST_DOCUMENTS, MOST_DOCUMENTS)
        self._loop = asyncio.get_running_loop()
        self._next = 0
        self._held = 0  # documents in flight, or ended and not written
        self._held_bytes = 0  # of their documents
        self._answered = 0
        self._result_bytes = 0  # of an outcome, on average of the last ones
        self._items: deque[_Item] = deque()  # in order
        self._loose: set[_Item] = set()  # if order does not matter
        self._ended: deque[_Item] = deque()  # of those, the ones that have ended
        self._exhausted = False
        self._sleeping = False
        self._something = asyncio.Event()  # for the writer
        self._room = asyncio.Event()  # for the reader

    async def run(self, first: Any, context: Context, stopping: asyncio.Event) -> None:
        """Answer every document; when the server is stopping, only those that have been read.

        Raises:
            ServiceError: the server is stopping, and the client may have had more to send.
        """
        reader = asyncio.create_task(self._feed(first, context))
        reader.add_done_callback(lambda _: self._end())
        stop = asyncio.create_task(stopping.wait())
        stop.add_done_callback(lambda _: reader.cancel())
        try:
            await self._answer(context)
            if stopping.is_set() and reader.cancelled():
                text = f"the server is stopping; documents from number {self._next} on were not run"
                raise ServiceError(text, code="UNAVAILABLE")
            await reader  # raises what it raised
        finally:
            stop.cancel()
            reader.cancel()
            for item in (*self._items, *self._loose):
                self._pool.stop(item.future)

    async def _feed(self, request: Any, context: Context) -> None:
        while request is not grpc.aio.EOF:
            for document in request.documents:
                try:
                    content, problem = self._read(document), None
                except PexecError as error:
                    content, problem = b"", error
                while not self._has_room(len(content)):
                    self._room.clear()
                    await self._room.wait()
                self._submit(content, problem)
            request = await context.read()

    def _has_room(self, size: int) -> bool:
        """Whether a document of this size may be taken."""
        if self._held < FIRST_DOCUMENTS:
            return not self._held or self._held_bytes + size <= MOST_BYTES
        likely = self._held * self._result_bytes  # known when there have been some
        # With each result two documents more, so that a plugin that returns much is known before much is in flight.
        known = FIRST_DOCUMENTS + 2 * self._answered
        return self._held < min(self._window, known) and self._held_bytes + size + likely <= MOST_BYTES

    def _submit(self, content: bytes, problem: PexecError | None) -> None:
        if problem is None:
            future = self._pool.submit(self._function, content)
        else:
            future = JobFuture()
            future.set_exception(problem)
        item = _Item(self._next, len(content), future)
        self._next += 1
        self._held += 1
        self._held_bytes += len(content)
        if self._ordered:
            self._items.append(item)
        else:
            self._loose.add(item)
        future.add_done_callback(lambda _: self._job_ended(item))

    def _job_ended(self, item: _Item) -> None:
        # Called by the pool's thread, which says so and then looks whether the writer sleeps; the writer has it the
        # other way round.
        if not self._ordered:
            self._ended.append(item)
        if self._sleeping:
            self._sleeping = False
            self._loop.call_soon_threadsafe(self._something.set)

    def _end(self) -> None:
        self._exhausted = True
        self._something.set()

    def _ready(self) -> bool:
        return bool(self._items and self._items[0].future.done()) if self._ordered else bool(self._ended)

    async def _answer(self, context: Context) -> None:
        while True:
            if self._held >= MANY and not self._exhausted:
                await asyncio.sleep(LINGER_S)
            outcomes, documents, size = self._take()
            if outcomes:
                await context.write(messages.StreamResponse(outcomes=outcomes))
                self._held -= documents
                self._held_bytes -= size
                self._answered += documents
                self._room.set()
            elif self._exhausted and not self._held:
                return
            else:
                self._something.clear()
                self._sleeping = True
                if not self._ready() and not (self._exhausted and not self._held):
                    await self._something.wait()
                self._sleeping = False

    def _take(self) -> tuple[list[Any], int, int]:
        """Return the outcomes that go into a response, and how many documents and bytes of documents they are of."""
        outcomes: list[Any] = []
        size = of_results = 0
        while self._ready() and of_results < RESPONSE_BYTES:
            if self._ordered:
                item = self._items.popleft()
            else:
                item = self._ended.popleft()
                self._loose.discard(item)
            outcome = _outcome(item)
            outcomes.append(outcome)
            of_result = outcome.ByteSize()
            of_results += of_result
            self._result_bytes += (of_result - self._result_bytes) // 8
            size += item.size
        return outcomes, len(outcomes), size


def _outcome(item: _Item) -> Any:
    future = item.future
    version = 0 if future.version is None else future.version.number
    error = future.exception()
    if error is None:
        return messages.Outcome(document=item.index, version=version, result=future.result())
    if not isinstance(error, PexecError):
        raise error
    return messages.Outcome(document=item.index, version=version, failure=to_message(error, item.index))
