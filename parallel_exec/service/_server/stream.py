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
from google.protobuf.message import DecodeError

from parallel_exec.errors import PexecError
from parallel_exec.pool import DeployedFunction, Pool
from parallel_exec.service._protocol import messages
from parallel_exec.service._protocol.failures import ServiceError, to_message
from parallel_exec.service._protocol.received import Content, Received

# Documents that a stream holds at most, and at first, and bytes of these first ones.
MOST_DOCUMENTS = 1024
FIRST_DOCUMENTS = 16
FIRST_BYTES = 64 << 20
# Bytes of documents, and of as many results as those so far, beyond which only the first ones are held.
MOST_BYTES = 24 << 20
# Bytes of outcomes in a response, unless a single one is larger.
RESPONSE_BYTES = 1 << 20

# With more documents than the first ones in flight, outcomes wait for others, until there are those of a part of them,
# but no longer than this: a response costs client and server some 200 us each, as much as a job.
PART = 2
LINGER_S = 0.01

Context = Any  # grpc.aio.ServicerContext, which has no types


class Stream:
    """The documents of one call.

    Args:
        pool: runs them.
        function: what to call.
        opened: the StreamOpen message.
        received: gives the documents' bytes.
        idle_s: seconds after which the stream ends if no request comes, no response goes, and no job runs.
    """

    def __init__(self, pool: Pool, function: DeployedFunction, opened: Any, received: Received, idle_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = received
        self._idle_s = idle_s
        self._steps = 0  # requests and responses
        self._window = min(opened.window or MOST_DOCUMENTS, MOST_DOCUMENTS)
        self._taken = 0
        self._sizes: dict[int, int] = {}  # of documents whose outcomes have not been written
        self._held_bytes = 0  # of those documents
        self._answered = 0
        self._result_bytes = 0  # of an outcome, on average of the last ones
        self._exhausted = False
        self._sleeping = False
        self._fewer = 0  # how many may still run when the writer is woken
        self._something = asyncio.Event()  # for the writer
        self._room = asyncio.Event()  # for the reader
        self._feed = pool.feed(function, ordered=not opened.unordered, notify=self._on_results, copy=False)

    async def run(self, first: Any, context: Context, stopping: asyncio.Event) -> None:
        """Answer every document; when the server is stopping, only those that have been taken.

        Raises:
            ServiceError: the server is stopping, and the client may have had more to send; or nothing happens.
        """
        reader = asyncio.create_task(self._take_in(first, context))
        reader.add_done_callback(lambda _: self._end())
        stop = asyncio.create_task(stopping.wait())
        stop.add_done_callback(lambda _: reader.cancel())
        try:
            async with asyncio.timeout(None) as clock:
                look = asyncio.create_task(self._look(clock))
                await self._answer(context)
            if stopping.is_set() and reader.cancelled():
                text = f"the server is stopping; documents from number {self._taken} on were not run"
                raise ServiceError(text, code="UNAVAILABLE")
            await reader  # raises what it raised
        except TimeoutError:
            text = f"nothing has come, and no outcome has been taken, for {self._idle_s:g} s"
            raise ServiceError(text, code="DEADLINE_EXCEEDED") from None
        finally:
            look.cancel()
            stop.cancel()
            reader.cancel()
            self._feed.close()
            # Stream and feed refer to each other, and the collector may take long to come by.
            self._received.close()

    async def _look(self, clock: asyncio.Timeout) -> None:
        """Let the clock strike when nothing has happened for a while."""
        steps = -1
        while steps != self._steps or self._feed.running:
            steps = self._steps
            await asyncio.sleep(self._idle_s)
        clock.reschedule(0)

    async def _take_in(self, request: Any, context: Context) -> None:
        while request is not grpc.aio.EOF:
            batch: list[Content | PexecError] = []
            for content in self._received.documents(request):
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
            try:
                request = await context.read()
            except DecodeError as error:
                raise ServiceError(f"the request is none: {error}", code="INVALID_ARGUMENT") from None
            self._steps += 1

    def _put(self, batch: list[Content | PexecError]) -> None:
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
        if self._sleeping and self._feed.running <= self._fewer:
            self._sleeping = False
            self._loop.call_soon_threadsafe(self._something.set)

    def _end(self) -> None:
        self._exhausted = True
        self._something.set()

    async def _answer(self, context: Context) -> None:
        while True:
            if self._feed.has_results:
                if len(self._sizes) > FIRST_DOCUMENTS:
                    await self._linger()
                response = self._response()
                await context.write(response)
                self._steps += 1
                for document in response.documents:
                    self._held_bytes -= self._sizes.pop(document)
                self._answered += len(response.documents)
                self._room.set()
            elif self._exhausted and not self._sizes:
                return
            else:
                await self._sleep(MOST_DOCUMENTS, lambda: self._feed.has_results)

    async def _linger(self) -> None:
        """Wait until there are many outcomes, or a little."""
        held = len(self._sizes)
        fewer = held - held // PART
        timer = self._loop.call_later(LINGER_S, self._something.set)
        await self._sleep(fewer, lambda: self._feed.running <= fewer)
        timer.cancel()

    async def _sleep(self, fewer: int, there: Callable[[], bool]) -> None:
        """Wait until something has happened, such as that outcomes are there and no more than so many jobs run."""
        self._something.clear()
        self._fewer = fewer
        self._sleeping = True
        if not there():
            await self._something.wait()
        self._sleeping = False

    def _response(self) -> Any:
        """Return the outcomes that are there, as many as go into a response."""
        documents, versions, results, failures = [], [], [], []
        total = 0
        for number, version, value in self._feed.results():
            documents.append(number)
            versions.append(0 if version is None else version.number)
            if isinstance(value, PexecError):
                failure = to_message(value, number)
                value.__traceback__ = None  # or it and its job, which has the document, refer to each other
                failures.append(failure)
                results.append(b"")
                size = failure.ByteSize()
            else:
                results.append(value)
                size = len(value)
            self._result_bytes += (size - self._result_bytes) // 8
            total += size
            if total >= RESPONSE_BYTES:
                break
        return messages.StreamResponse(documents=documents, versions=versions, results=results, failures=failures)
