"""A client of the service. Each method is a call, and raises the errors that a pool in this process would raise.

A stream has three parties::

    feeder thread    documents ──► window ──► (shared memory) ──► ready
    gRPC's thread    whatever is ready ──► request
    the caller       response ──► results; room in the window

Whatever has been drawn is sent at once, in one request if there is much of it: so tiny documents do not cost a message
each, and none waits for one that its iterable has not produced yet.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc

from parallel_exec._codec.arrays import JSON, MESSAGE_PACK
from parallel_exec._codec.documents import Input, Output, prepare, result_value
from parallel_exec._signals import held
from parallel_exec.limits import Limits
from parallel_exec.plugins import Plugin, WasmPlugin
from parallel_exec.pool._mapping import Errors
from parallel_exec.service._protocol import schema, values
from parallel_exec.service._protocol.connection import bearer, host_of
from parallel_exec.service._protocol.payloads import SMALL, Arena, Arenas, serialize_documents
from parallel_exec.service._protocol.statuses import ServiceError, error_from_message, error_of_call
from parallel_exec.service._protocol.values import Deployed, Result, ServiceStats

# The most that goes into one request, unless a single document is larger.
REQUEST_DOCUMENTS = 128
REQUEST_BYTES = 512 << 10
# Bytes of a stream's shared memory; a document larger than half of it is sent as bytes.
ARENA_BYTES = 32 << 20
# The most bytes of documents that are drawn ahead, unless FEWEST documents are more.
AHEAD_BYTES = 12 << 20
FEWEST = 4


class Client:
    """A connection to a server started by `pexec serve`. Usable by any thread; a context manager.

    Errors of plugins and documents are those of a pool in this process: `JSError`, `InvalidDocument`, `JobTimeout` and
    so on. Whatever else prevents an answer is a `ServiceError`.

    Attributes:
        address: what it connects to.

    Args:
        address: ``host:port`` or ``unix:path``.
        token: the token that the server demands.
        certificates: certificates that sign the server's, PEM, for TLS; None for a connection without TLS.
        timeout_s: seconds that a call may take, except streams; None for any number.
        message_bytes: the most bytes of an incoming message, and so of a result.

    Raises:
        ValueError: the address or the token is malformed.

    >>> import asyncio, threading
    >>> import parallel_exec as px
    >>> from parallel_exec.service import Client
    >>> with Client("unix:/run/pexec.sock") as client:  # doctest: +SKIP
    ...     client.deploy("double", px.Plugin("const double = x => 2 * x")).version
    ...     client.execute("double", "double", 21)
    1
    42
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        certificates: bytes | None = None,
        timeout_s: float | None = None,
        message_bytes: int = 128 << 20,
    ) -> None:
        host_of(address)
        self.address = address
        options = [
            ("grpc.max_receive_message_length", message_bytes),
            ("grpc.max_send_message_length", -1),  # the server has a bound
            ("grpc.use_local_subchannel_pool", 1),  # clients do not share a connection
        ]
        if certificates is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            credentials = grpc.ssl_channel_credentials(certificates)
            self._channel = grpc.secure_channel(address, credentials, options)
        self._metadata = () if token is None else (bearer(token),)
        self._timeout_s = timeout_s
        self._arenas = Arenas(ARENA_BYTES)

    def deploy(self, name: str, plugin: Plugin | WasmPlugin) -> Deployed:
        """Deploy a plugin under a free name; if the name has this very plugin already, return what is deployed.

        So the same call may be made again, by a retry or at every start of a program. A deploy never replaces another
        plugin, or this one with other limits: `swap` does.

        Raises:
            PluginError: the plugin cannot be loaded.
            JobTimeout: its load takes longer than the limits allow.
            MemoryLimitExceeded: its load needs more memory than the limits allow.
            ServiceError: another plugin has the name (``ALREADY_EXISTS``), or the server does not answer.
            ValueError: the plugin cannot be sent.
        """
        request = schema.DeployRequest(name=name, plugin=values.plugin_to_message(plugin))
        return values.deployed_from_message(self._call("Deploy", request, schema.Deployment))

    def swap(self, name: str, plugin: Plugin | WasmPlugin, *, expected_version: int | None = None) -> Deployed:
        """Replace a deployment's plugin, atomically: calls that the server accepted before run the old version.

        Args:
            name: the deployment's.
            plugin: its next version.
            expected_version: the version to replace; None for any.

        Raises:
            PluginError: the plugin cannot be loaded; the version before stays current.
            JobTimeout: its load takes longer than the limits allow.
            MemoryLimitExceeded: its load needs more memory than the limits allow.
            ServiceError: nothing is deployed under the name, another version than expected is, or the server does not
                answer.
            ValueError: the plugin cannot be sent.
        """
        request = schema.SwapRequest(
            name=name, plugin=values.plugin_to_message(plugin), expected_version=expected_version or 0
        )
        return values.deployed_from_message(self._call("Swap", request, schema.Deployment))

    def undeploy(self, name: str) -> Deployed:
        """Remove a deployment and return what it was; calls that the server accepted before still run.

        Raises:
            ServiceError: nothing is deployed under this name, or the server does not answer.
        """
        request = schema.UndeployRequest(name=name)
        return values.deployed_from_message(self._call("Undeploy", request, schema.Deployment))

    def list(self) -> list[Deployed]:
        """Return all deployments, by name.

        Raises:
            ServiceError: the server does not answer.
        """
        reply = self._call("List", schema.ListRequest(), schema.ListResponse)
        return [values.deployed_from_message(each) for each in reply.deployments]

    def stats(self) -> ServiceStats:
        """Return what the server's pool has done since it started.

        Raises:
            ServiceError: the server does not answer.
        """
        return values.stats_from_message(self._call("Stats", schema.StatsRequest(), schema.StatsResponse))

    def execute(
        self,
        name: str,
        function: str,
        document: Any,
        *,
        input: Input = "json",
        output: Output = "value",
        limits: Limits | None = None,
        shared: bool = False,
    ) -> Any:
        """Run a function on one document and return its result.

        Args:
            name: the deployment's.
            function: the function's.
            document: JSON text as ``bytes``, ``bytearray`` or ``memoryview``, or a Python value.
            input: ``"json"``; ``"binary"`` to pass the document's bytes, which JavaScript gets as a Uint8Array;
                ``"msgpack"`` for a module's values.
            output: ``"value"``, or ``"bytes"`` for JSON text, MessagePack or the bytes of a typed array.
            limits: bounds on the job; the tightest of these, the plugin's and the server's apply.
            shared: send the document through shared memory; the server must run on this machine as the same user.

        Raises:
            JSError: the plugin threw.
            WasmError: the module failed.
            InvalidDocument: the document is malformed or too large, or the server cannot read this machine's shared
                memory.
            JobTimeout: the job took too long.
            MemoryLimitExceeded: the job needed too much memory.
            FuelExhausted: the job executed too many instructions.
            OutputTooLarge: the result is too large.
            WorkerCrashed: the job's worker died.
            ServiceError: nothing is deployed under the name, it has no such function, the document is too large to be
                sent, or the server does not answer.
        """
        call = self._make_call(name, function, input, limits)
        content, _ = prepare(document, input)
        if shared:
            with Arena(len(content)) as arena:
                place = {"offset": arena.put(content), "length": len(content)}
                reply = self._execute(call, schema.Document(shared=place), arena.handle)
        else:
            reply = self._execute(call, schema.Document(content=bytes(content)))
        return _value(reply.result, input, output)

    def submit(
        self, name: str, function: str, document: Any, *, input: Input = "json", limits: Limits | None = None
    ) -> Future[bytes]:
        """Run a function on one document and return a future of its result's bytes.

        The future fails with what `execute` raises, and cannot be cancelled.

        Args:
            name: the deployment's.
            function: the function's.
            document: as for `execute`.
            input: as for `execute`.
            limits: as for `execute`.
        """
        call = self._make_call(name, function, input, limits)
        request = schema.ExecuteRequest(call=call, document=schema.Document(content=bytes(prepare(document, input)[0])))
        future: Future[bytes] = Future()
        future.set_running_or_notify_cancel()

        def end(reply: Any) -> None:
            try:
                future.set_result(reply.result().result)
            except grpc.RpcError as error:
                future.set_exception(error_of_call(error))
            except BaseException as error:  # the connection was closed, and with it the call cancelled
                future.set_exception(ServiceError(f"the call was cancelled: {error}", code="CANCELLED"))

        method = self._method("Execute", schema.ExecuteRequest, schema.ExecuteResponse)
        method.future(request, timeout=self._timeout_s, metadata=self._metadata).add_done_callback(end)
        return future

    def stream(
        self,
        name: str,
        function: str,
        documents: Iterable[Any],
        *,
        ordered: bool = True,
        errors: Errors = "raise",
        input: Input = "json",
        output: Output = "value",
        limits: Limits | None = None,
        window: int = 256,
        shared: bool = False,
    ) -> Generator[Result, None, None]:
        """Run a function on every document of an iterable and yield the results, lazily.

        A separate thread draws the documents, at most `window` of them ahead of the results that have been taken, so
        endless iterables run in bounded memory. The iterator raises what `execute` raises.

        Args:
            name: the deployment's.
            function: the function's.
            documents: the documents.
            ordered: whether results come in the documents' order, or as they become available.
            errors: ``"raise"``: the first error of a document ends the iteration; ``"return"``: it is yielded as a
                value.
            input: as for `execute`.
            output: as for `execute`.
            limits: as for `execute`.
            window: the most documents that have been drawn and whose results have not been yielded.
            shared: as for `execute`.

        Raises:
            ValueError: an argument is out of its range.
        """
        if window < 1:
            raise ValueError(f"window must be at least 1; got {window}")
        if errors not in ("raise", "return"):
            raise ValueError(f"errors must be 'raise' or 'return'; got {errors!r}")
        opened = {"call": self._make_call(name, function, input, limits), "unordered": not ordered, "window": window}
        begin = self._channel.stream_stream(
            f"/{schema.SERVICE}/ExecuteStream",
            _serialize,
            schema.StreamResponse.FromString,
        )

        def start(requests: Iterator[Any]) -> Any:
            return begin(requests, metadata=self._metadata)

        contents = (prepare(document, input)[0] for document in documents)
        return _run_stream(
            start,
            opened,
            contents,
            window=window,
            arenas=self._arenas if shared else None,
            raises=errors == "raise",
            value=partial(_value, input=input, output=output),
        )

    def close(self) -> None:
        """Close the connection; running calls end with a `ServiceError`."""
        self._channel.close()
        self._arenas.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_call(self, name: str, function: str, input: Input, limits: Limits | None) -> dict[str, Any]:
        bounds = values.limits_to_message(limits)
        return {"deployment": name, "function": function, "input": input, "limits": bounds}

    def _execute(self, call: dict[str, Any], document: Any, memory: str = "") -> Any:
        request = schema.ExecuteRequest(call=call, document=document, memory=memory)
        return self._call("Execute", request, schema.ExecuteResponse)

    def _call(self, method: str, request: Any, reply: Any) -> Any:
        try:
            return self._method(method, type(request), reply)(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise error_of_call(error) from None

    def _method(self, name: str, request: Any, reply: Any) -> Any:
        return self._channel.unary_unary(f"/{schema.SERVICE}/{name}", request.SerializeToString, reply.FromString)


def _value(content: bytes, input: Input, output: Output) -> Any:
    return result_value(MESSAGE_PACK if input == "msgpack" else JSON, content, output)


def _serialize(request: Any) -> bytes:
    content: bytes = request if isinstance(request, bytes) else request.SerializeToString()
    return content


def _run_stream(
    start: Callable[[Iterator[Any]], Any],
    opened: dict[str, Any],
    contents: Iterator[bytes | bytearray | memoryview],
    *,
    window: int,
    arenas: Arenas | None,
    raises: bool,
    value: Callable[[bytes], Any],
) -> Generator[Result, None, None]:
    """Begin a stream and yield its results as they come.

    Args:
        start: begins the call with an iterator of its requests.
        opened: the StreamOpen message.
        contents: the documents' bytes.
        window: the most documents that have been drawn and not yielded.
        arenas: shared memory to send documents through; None to send their bytes.
        raises: whether to raise a document's error, or to yield it as a value.
        value: converts a result's bytes.
    """
    with arenas.lend() if arenas is not None else nullcontext() as arena:
        feeder = _Feeder(contents, window, arena)
        call = start(feeder.requests(opened))
        try:
            for response in call:
                feeder.ended(response.documents)
                failed = {failure.document: error_from_message(failure) for failure in response.failures}
                for document, version, content in zip(
                    response.documents, response.versions, response.results, strict=True
                ):
                    if document not in failed:
                        yield Result(document, version, value(content))
                    elif raises:
                        raise failed[document]
                    else:
                        yield Result(document, version, failed[document])
            if feeder.error is not None:
                raise feeder.error
        except grpc.RpcError as error:
            raise error_of_call(error) from None
        finally:
            feeder.stop()
            call.cancel()


class _Feeder:
    """Draws documents in a separate thread, as far ahead as the window allows.

    Attributes:
        error: what the iterable of documents raised, if it did.
    """

    def __init__(self, contents: Iterator[bytes | bytearray | memoryview], window: int, arena: Arena | None) -> None:
        self.error: BaseException | None = None
        self._contents = contents
        self._window = window
        self._arena = arena
        self._ahead: dict[int, tuple[int, int | None]] = {}  # of documents drawn: bytes, and offset in the arena
        self._ahead_bytes = 0
        self._drawn = 0
        self._ready: deque[bytes | tuple[int, int]] = deque()  # to be sent: bytes, or offset and length
        self._stopped = self._exhausted = False
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._news = threading.Condition(self._lock)  # something is ready, or nothing more will come
        self._thread = threading.Thread(target=self._run, name="pexec documents", daemon=True)

    def requests(self, opened: dict[str, Any]) -> Iterator[Any]:
        """Yield the stream's requests, some as bytes; called by gRPC's thread."""
        memory = self._arena.handle if self._arena is not None else ""
        yield schema.StreamRequest(open=opened | {"memory": memory})
        self._thread.start()
        while documents := self._take():
            if isinstance(documents[0], tuple):
                yield schema.StreamRequest(places=[number for place in documents for number in place])
            elif len(documents[0]) >= SMALL:
                yield serialize_documents(documents)
            else:
                yield schema.StreamRequest(documents=documents)

    def _take(self) -> list[Any]:
        """Wait for documents and return as many as fit into one request, all of one kind; none at the end."""
        ready = self._ready
        taken: list[Any] = []
        with self._lock:
            while not (ready or self._exhausted or self._stopped):
                self._news.wait()
            if self._stopped:
                return []
            size = 0
            while ready and len(taken) < REQUEST_DOCUMENTS and size < REQUEST_BYTES:
                if taken and type(ready[0]) is not type(taken[0]):
                    break
                document = ready.popleft()
                taken.append(document)
                size += len(document)
        return taken

    def ended(self, documents: Sequence[int]) -> None:
        """Note that the outcomes of these documents have arrived."""
        # Held, for this is the user's thread: a signal's handler would leave the lock taken or the books torn.
        with held(), self._lock:
            for document in documents:
                size, offset = self._ahead.pop(document)
                self._ahead_bytes -= size
                if offset is not None and self._arena is not None:
                    self._arena.free(offset)
            # Not for each: waking the thread for several documents at once lets them travel together.
            if self._may_draw(2):
                self._room.notify()

    def stop(self) -> None:
        """Draw no more, and stop using the shared memory."""
        with held(), self._lock:
            self._stopped = True
            self._room.notify()
            self._news.notify()

    def _may_draw(self, share: int = 1) -> bool:
        """Return whether there is room for more documents; with 2, whether half of the room is free."""
        ahead = len(self._ahead)
        most = AHEAD_BYTES // share
        return ahead < max(1, self._window // share) and (ahead < FEWEST // share or self._ahead_bytes < most)

    def _run(self) -> None:
        try:
            while self._wait():
                self._take_up(next(self._contents))
        except StopIteration:
            pass
        except BaseException as error:
            self.error = error
        with self._lock:
            self._exhausted = True
            self._news.notify()

    def _wait(self) -> bool:
        """Wait until there is room for a document; return False if the stream was stopped."""
        with self._lock:
            while not (self._stopped or self._may_draw()):
                self._room.wait()
            return not self._stopped

    def _take_up(self, content: bytes | bytearray | memoryview) -> None:
        """Count a document and queue it to be sent."""
        arena, size = self._arena, len(content)
        offset: int | None = None
        with self._lock:
            if arena is not None and size <= arena.size // 2:
                while not self._stopped and (offset := arena.put(content)) is None:
                    self._room.wait()
            self._ahead[self._drawn] = size, offset
            self._ahead_bytes += size
            self._drawn += 1
            self._ready.append(bytes(content) if offset is None else (offset, size))
            self._news.notify()
