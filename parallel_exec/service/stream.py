"""One ExecuteStream: documents in, outcomes out, and no more of them held than its window.

::

    reader   request ──► room in the window? ──► Feed.put
    writer   Feed.results ──► response ──► written: room in the window

A client that does not read outcomes lets the writer wait, then the window fill, then the reader stop reading; HTTP/2's
flow control stops the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from ..errors import PexecError
from ..pool import DeployedFunction, Fed, Pool
from . import messages
from .failures import ServiceError, to_message

# Documents that a stream holds at most, and at first, and bytes of these first ones.
MOST_DOCUMENTS = 1024
FIRST_DOCUMENTS = 16
FIRST_BYTES = 64 << 20
# Bytes of documents, and of as many results as those so far, beyond which only the first ones are held.
MOST_BYTES = 24 << 20
# Bytes of outcomes in a response, unless a single one is larger.
RESPONSE_BYTES = 1 << 20

# With so many documents in flight, outcomes wait a little for others: a response costs as much as a small job.
MANY = 16
LINGER_S = 0.001

Read = Callable[[Any], bytes | memoryview]
Context = Any  # grpc.aio.ServicerContext, which has no types


class Stream:
    """The documents of one call.

    Args:
        pool: runs them.
        function: what to call.
        opened: the StreamOpen message.
        read: returns the bytes of a Document message.
    """

    def __init__(self, pool: Pool, function: DeployedFunction, opened: Any, read: Read) -> None:
        self._loop = asyncio.get_running_loop()
        self._read = read
        self._window = min(opened.window or MOST_DOCUMENTS, MOST_DOCUMENTS)
        self._taken = 0
        self._sizes: dict[int, int] = {}  # of documents whose outcomes have not been written
        self._held_bytes = 0  # of those documents
        self._answered = 0
        self._result_bytes = 0  # of an outcome, on average of the last ones
        self._exhausted = False
        self._sleeping = False
        self._something = asyncio.Event()  # for the writer
        self._room = asyncio.Event()  # for the reader
        self._feed = pool.feed(function, ordered=not opened.unordered, notify=self._on_results, copy=False)

    async def run(self, first: Any, context: Context, stopping: asyncio.Event) -> None:
        """Answer every document; when the server is stopping, only those that have been taken.

        Raises:
            ServiceError: the server is stopping, and the client may have had more to send.
        """
        reader = asyncio.create_task(self._take_in(first, context))
        reader.add_done_callback(lambda _: self._end())
        stop = asyncio.create_task(stopping.wait())
        stop.add_done_callback(lambda _: reader.cancel())
        try:
            await self._answer(context)
            if stopping.is_set() and reader.cancelled():
                text = f"the server is stopping; documents from number {self._taken} on were not run"
                raise ServiceError(text, code="UNAVAILABLE")
            await reader  # raises what it raised
        finally:
            stop.cancel()
            reader.cancel()
            self._feed.close()

    async def _take_in(self, request: Any, context: Context) -> None:
        while request is not grpc.aio.EOF:
            batch: list[bytes | memoryview | PexecError] = []
            for document in request.documents:
                try:
                    content: bytes | memoryview | PexecError = self._read(document)
                except PexecError as error:
                    content = error
                size = 0 if isinstance(content, PexecError) else len(content)
                while not self._has_room(size):
                    self._put(batch)
                    self._room.clear()
                    await self._room.wait()
                batch.append(content)
                self._sizes[self._taken] = size
                self._taken += 1
                self._held_bytes += size
            self._put(batch)
            request = await context.read()

    def _put(self, batch: list[bytes | memoryview | PexecError]) -> None:
        if batch:
            self._feed.put(batch)
            batch.clear()

    def _has_room(self, size: int) -> bool:
        """Whether a document of this size may be taken."""
        held = len(self._sizes)
        if held < FIRST_DOCUMENTS:
            return not held or self._held_bytes + size <= FIRST_BYTES
        likely = held * self._result_bytes  # known when there have been some
        # With each result two documents more, so that a plugin that returns much is known before much is in flight.
        known = FIRST_DOCUMENTS + 2 * self._answered
        return held < min(self._window, known) and self._held_bytes + size + likely <= MOST_BYTES

    def _on_results(self) -> None:
        # Called by the feed's thread, which says so and then looks whether the writer sleeps; the writer has it the
        # other way round.
        if self._sleeping:
            self._sleeping = False
            self._loop.call_soon_threadsafe(self._something.set)

    def _end(self) -> None:
        self._exhausted = True
        self._something.set()

    async def _answer(self, context: Context) -> None:
        while True:
            if len(self._sizes) >= MANY and not self._exhausted:
                await asyncio.sleep(LINGER_S)
            self._something.clear()
            self._sleeping = True
            outcomes = self._ready()
            if outcomes:
                self._sleeping = False
                await context.write(messages.StreamResponse(outcomes=outcomes))
                for outcome in outcomes:
                    self._held_bytes -= self._sizes.pop(outcome.document)
                self._answered += len(outcomes)
                self._room.set()
            elif self._exhausted and not self._sizes:
                return
            else:
                await self._something.wait()

    def _ready(self) -> list[Any]:
        """Return the outcomes that are there, as many as go into a response."""
        outcomes = []
        total = 0
        for fed in self._feed.results():
            outcome = _outcome(fed)
            size = outcome.ByteSize()
            self._result_bytes += (size - self._result_bytes) // 8
            outcomes.append(outcome)
            total += size
            if total >= RESPONSE_BYTES:
                break
        return outcomes


def _outcome(fed: Fed) -> Any:
    version = 0 if fed.version is None else fed.version.number
    if isinstance(fed.value, PexecError):
        return messages.Outcome(document=fed.document, version=version, failure=to_message(fed.value, fed.document))
    return messages.Outcome(document=fed.document, version=version, result=fed.value)
