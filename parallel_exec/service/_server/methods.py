"""What each of the service's methods does.

ExecuteStream takes documents in and writes outcomes, and holds no more of them than its window::

    reader   request ──► room in the window? ──► Feed.put
    writer   Feed.results ──► response ──► written: room in the window

A client that does not read its outcomes blocks the writer, so the window fills, so the reader stops reading; HTTP/2's
flow control then stops the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from parallel_exec.errors import PexecError, WorkerCrashed
from parallel_exec.pool import DeployedFunction, JobFuture, Pool
from parallel_exec.service._protocol import schema, values
from parallel_exec.service._protocol.payloads import Content, PayloadReader, parse_request
from parallel_exec.service._protocol.statuses import ServiceError, error_to_message, set_status
from parallel_exec.service._server.registry import Entry, Registry

# The most documents that a stream holds; how many at first, and the most bytes of those.
MOST_DOCUMENTS = 1024
FIRST_DOCUMENTS = 16
FIRST_BYTES = 64 << 20
# The most bytes of documents, with results of the average size so far, for which more than the first ones are held.
MOST_BYTES = 24 << 20
# The most bytes of outcomes in a response, unless a single one is larger.
RESPONSE_BYTES = 1 << 20

# With more documents in flight than the first ones, outcomes wait until 1/PART of the documents have one, but no longer
# than LINGER_S: a response costs client and server some 200 us each, as much as a job.
PART = 2
LINGER_S = 0.01

Context = Any  # grpc.aio.ServicerContext, which has no types
Method = Callable[[Any, Context], Awaitable[Any]]


class Servicer:
    """The methods, as gRPC calls them, in the event loop's thread.

    Attributes:
        stopping: set when the server accepts no more documents.
        broken: set when the pool is broken.

    Args:
        pool: runs the jobs.
        registry: what is deployed in it.
        document_bytes: the most bytes of a document in shared memory.
        idle_s: seconds after which an idle stream ends: one that moves no documents and has no job running.
    """

    def __init__(self, pool: Pool, registry: Registry, document_bytes: int, idle_s: float) -> None:
        self.stopping = asyncio.Event()
        self.broken = asyncio.Event()
        self._pool = pool
        self._registry = registry
        self._document_bytes = document_bytes
        self._idle_s = idle_s
        self._calls = 0

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler to register with a server."""
        requests = {
            "Deploy": (self.deploy, schema.DeployRequest),
            "Swap": (self.swap, schema.SwapRequest),
            "Undeploy": (self.undeploy, schema.UndeployRequest),
            "List": (self.list, schema.ListRequest),
            "Execute": (self.execute, schema.ExecuteRequest),
            "Stats": (self.stats, schema.StatsRequest),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(partial(self._report, method), request.FromString, _serialize)
            for name, (method, request) in requests.items()
        }
        # It is given its first request, as the other methods are, and reads the rest itself.
        handlers["ExecuteStream"] = grpc.unary_stream_rpc_method_handler(
            partial(self._report, self.execute_stream), parse_request, _serialize
        )
        return grpc.method_handlers_generic_handler(schema.SERVICE, handlers)

    async def deploy(self, request: Any, _context: Context) -> Any:
        plugin = values.plugin_from_message(request.plugin, self._registry.limits)
        return _deployment_message(await asyncio.to_thread(self._registry.add, request.name, plugin))

    async def swap(self, request: Any, _context: Context) -> Any:
        plugin = values.plugin_from_message(request.plugin, self._registry.limits)
        expected = request.expected_version
        return _deployment_message(await asyncio.to_thread(self._registry.swap, request.name, plugin, expected))

    async def undeploy(self, request: Any, _context: Context) -> Any:
        return _deployment_message(self._registry.remove(request.name))

    async def list(self, _request: Any, _context: Context) -> Any:
        return schema.ListResponse(deployments=map(_deployment_message, self._registry.entries()))

    async def stats(self, _request: Any, _context: Context) -> Any:
        return values.stats_to_message(self._pool.stats(), calls=self._calls, deployments=len(self._registry))

    async def execute(self, request: Any, _context: Context) -> Any:
        function = self._registry.function(request.call)
        content = PayloadReader(request.memory, self._document_bytes).document(request.document)
        with self._counted():
            future = self._pool.submit(function, content)
            result = await self._result(future)
        version = 0 if future.version is None else future.version.number
        return schema.ExecuteResponse(result=result, version=version)

    async def execute_stream(self, first: Any, context: Context) -> None:
        if isinstance(first, list) or not first.HasField("open"):
            raise ServiceError("a stream's first request must have `open`", code="INVALID_ARGUMENT")
        function = self._registry.function(first.open.call)
        payloads = PayloadReader(first.open.memory, self._document_bytes)
        with self._counted():
            await DocumentStream(self._pool, function, first.open, payloads, self._idle_s).run(
                first, context, self.stopping
            )

    async def _result(self, future: JobFuture) -> bytes:
        try:
            result: bytes = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._pool.stop(future)  # the client has gone
            raise
        return result

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    async def _report(self, method: Method, request: Any, context: Context) -> Any:
        """Run a method; an error becomes the status of its call."""
        try:
            return await method(request, context)
        except PexecError as error:
            problem = error
        except ValueError as error:
            problem = ServiceError(str(error), code="INVALID_ARGUMENT")
        except RuntimeError as error:  # the pool has been shut down
            problem = ServiceError(str(error), code="UNAVAILABLE")
        if isinstance(problem, WorkerCrashed) and problem.function is None:
            self.broken.set()  # not a job's worker but the pool itself
        set_status(problem, context)
        return None


def _serialize(message: Any) -> bytes:
    content: bytes = message.SerializeToString()
    return content


def _deployment_message(entry: Entry) -> Any:
    plugin = entry.version.plugin
    return schema.Deployment(
        name=entry.version.deployment,
        version=entry.version.number,
        plugin=plugin.name,
        digest=plugin.digest,
        functions=entry.listed,
    )


class DocumentStream:
    """The documents of one call.

    Args:
        pool: runs them.
        function: what to call.
        opened: the StreamOpen message.
        payloads: reads the documents.
        idle_s: seconds after which the stream ends if no request comes, no response goes out, and no job runs.
    """

    def __init__(
        self, pool: Pool, function: DeployedFunction, opened: Any, payloads: PayloadReader, idle_s: float
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._payloads = payloads
        self._idle_s = idle_s
        self._steps = 0  # requests and responses
        self._window = min(opened.window or MOST_DOCUMENTS, MOST_DOCUMENTS)
        self._taken = 0
        self._sizes: dict[int, int] = {}  # of documents whose outcomes have not been written
        self._held_bytes = 0  # of those documents
        self._answered = 0
        self._result_bytes = 0  # of an outcome, as a moving average
        self._exhausted = False
        self._sleeping = False
        self._fewer = 0  # how many jobs may still be running when the writer is woken
        self._something = asyncio.Event()  # for the writer
        self._room = asyncio.Event()  # for the reader
        self._feed = pool.feed(function, ordered=not opened.unordered, notify=self._on_results, copy=False)

    async def run(self, first: Any, context: Context, stopping: asyncio.Event) -> None:
        """Answer every document, or when the server is stopping, those that it has taken.

        Raises:
            ServiceError: the server is stopping, and the client may have had more to send; or the stream is idle.
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
            # This and the feed refer to each other, so only the garbage collector, which may be late, frees them.
            self._payloads.close()

    async def _look(self, clock: asyncio.Timeout) -> None:
        """Let the clock expire when the stream has been idle for a while."""
        steps = -1
        while steps != self._steps or self._feed.running:
            steps = self._steps
            await asyncio.sleep(self._idle_s)
        clock.reschedule(0)

    async def _take_in(self, request: Any, context: Context) -> None:
        while request is not grpc.aio.EOF:
            batch: list[Content | PexecError] = []
            for content in self._payloads.documents(request):
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
                raise ServiceError(f"the request is malformed: {error}", code="INVALID_ARGUMENT") from None
            self._steps += 1

    def _put(self, batch: list[Content | PexecError]) -> None:
        if batch:
            self._feed.put(batch)
            batch.clear()

    def _has_room(self, size: int) -> bool:
        """Return whether a document of this size may be taken."""
        held = len(self._sizes)
        if held < FIRST_DOCUMENTS:
            return not held or self._held_bytes + size <= FIRST_BYTES
        likely = held * self._result_bytes  # 0 until there have been some
        # Each result allows two more documents, so that a plugin's large results are noticed before many are in flight.
        known = FIRST_DOCUMENTS + 2 * self._answered
        return held < min(self._window, known) and self._held_bytes + size + likely <= MOST_BYTES

    def _on_results(self) -> None:
        # Called by the feed's thread, which adds the result and then checks whether the writer sleeps; the writer says
        # that it sleeps and then checks for results.
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
        """Wait until there are many outcomes, but not for long."""
        held = len(self._sizes)
        fewer = held - held // PART
        timer = self._loop.call_later(LINGER_S, self._something.set)
        await self._sleep(fewer, lambda: self._feed.running <= fewer)
        timer.cancel()

    async def _sleep(self, fewer: int, there: Callable[[], bool]) -> None:
        """Wait until `there`, or until there are outcomes and at most `fewer` jobs run, or the documents have ended."""
        self._something.clear()
        self._fewer = fewer
        self._sleeping = True
        if not there():
            await self._something.wait()
        self._sleeping = False

    def _response(self) -> Any:
        """Return the outcomes so far, as many as fit into a response."""
        documents, versions, results, failures = [], [], [], []
        total = 0
        for number, version, value in self._feed.results():
            documents.append(number)
            versions.append(0 if version is None else version.number)
            if isinstance(value, PexecError):
                failure = error_to_message(value, number)
                value.__traceback__ = None  # it refers to the job, which refers to the error and has the document
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
        return schema.StreamResponse(documents=documents, versions=versions, results=results, failures=failures)
