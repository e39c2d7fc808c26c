"""What each of the service's methods does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc

from parallel_exec.errors import PexecError, WorkerCrashed
from parallel_exec.pool import JobFuture, Pool
from parallel_exec.service._protocol import messages, wire
from parallel_exec.service._protocol.failures import ServiceError, tell
from parallel_exec.service._protocol.received import Received, parse_request
from parallel_exec.service._server.registry import Entry, Registry
from parallel_exec.service._server.stream import Context, Stream

Method = Callable[[Any, Context], Awaitable[Any]]


class Servicer:
    """The methods, as gRPC calls them, in the loop's thread.

    Attributes:
        stopping: set when the server takes no more.
        broken: set when the pool is.

    Args:
        pool: runs the jobs.
        registry: what is deployed in it.
        document_bytes: most bytes of a document in shared memory.
        idle_s: seconds after which a stream ends on which nothing comes or goes and for which nothing runs.
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
        """Return what a server is given."""
        requests = {
            "Deploy": (self.deploy, messages.DeployRequest),
            "Swap": (self.swap, messages.SwapRequest),
            "Undeploy": (self.undeploy, messages.UndeployRequest),
            "List": (self.list, messages.ListRequest),
            "Execute": (self.execute, messages.ExecuteRequest),
            "Stats": (self.stats, messages.StatsRequest),
        }
        serialize = _serialize
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._reporting(method), request.FromString, serialize)
            for name, (method, request) in requests.items()
        }
        # Its first request comes as the other methods' do; it reads the rest.
        handlers["ExecuteStream"] = grpc.unary_stream_rpc_method_handler(
            self._reporting(self.execute_stream), parse_request, serialize
        )
        return grpc.method_handlers_generic_handler(messages.SERVICE, handlers)

    async def deploy(self, request: Any, _context: Context) -> Any:
        plugin = wire.plugin_from_message(request.plugin, self._registry.limits)
        return _told(await asyncio.to_thread(self._registry.add, request.name, plugin))

    async def swap(self, request: Any, _context: Context) -> Any:
        plugin = wire.plugin_from_message(request.plugin, self._registry.limits)
        expected = request.expected_version
        return _told(await asyncio.to_thread(self._registry.swap, request.name, plugin, expected))

    async def undeploy(self, request: Any, _context: Context) -> Any:
        return _told(self._registry.remove(request.name))

    async def list(self, _request: Any, _context: Context) -> Any:
        return messages.ListResponse(deployments=map(_told, self._registry.entries()))

    async def stats(self, _request: Any, _context: Context) -> Any:
        return wire.stats_to_message(self._pool.stats(), calls=self._calls, deployments=len(self._registry))

    async def execute(self, request: Any, _context: Context) -> Any:
        function = self._registry.function(request.call)
        content = Received(request.memory, self._document_bytes).document(request.document)
        with self._counted():
            future = self._pool.submit(function, content)
            result = await self._result(future)
        version = 0 if future.version is None else future.version.number
        return messages.ExecuteResponse(result=result, version=version)

    async def execute_stream(self, first: Any, context: Context) -> None:
        if isinstance(first, list) or not first.HasField("open"):
            raise ServiceError("a stream's first request has to have `open`", code="INVALID_ARGUMENT")
        function = self._registry.function(first.open.call)
        received = Received(first.open.memory, self._document_bytes)
        with self._counted():
            await Stream(self._pool, function, first.open, received, self._idle_s).run(first, context, self.stopping)

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

    def _reporting(self, method: Method) -> Method:
        return partial(self._report, method)

    async def _report(self, method: Method, request: Any, context: Context) -> Any:
        """Run a method; an error becomes the call's status."""
        try:
            return await method(request, context)
        except PexecError as error:
            problem = error
        except ValueError as error:
            problem = ServiceError(str(error), code="INVALID_ARGUMENT")
        except RuntimeError as error:  # of a pool that has been shut down
            problem = ServiceError(str(error), code="UNAVAILABLE")
        if isinstance(problem, WorkerCrashed) and problem.function is None:
            self.broken.set()  # no job's worker: the pool itself
        tell(problem, context)
        return None


def _serialize(message: Any) -> bytes:
    content: bytes = message.SerializeToString()
    return content


def _told(entry: Entry) -> Any:
    plugin = entry.version.plugin
    return messages.Deployment(
        name=entry.version.deployment,
        version=entry.version.number,
        plugin=plugin.name,
        digest=plugin.digest,
        functions=entry.listed,
    )
