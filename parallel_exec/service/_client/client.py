"""A client of the service, for threads: each method is a call, and raises the errors that the pool would raise here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc

from parallel_exec._codec.arrays import JSON, MESSAGE_PACK
from parallel_exec._codec.documents import Input, Output, prepare, result_value
from parallel_exec.limits import Limits
from parallel_exec.plugins import Plugin, WasmPlugin
from parallel_exec.pool._mapping import Errors
from parallel_exec.service._client.stream import ARENA_BYTES, run_stream
from parallel_exec.service._protocol import messages, wire
from parallel_exec.service._protocol.failures import ServiceError, from_call
from parallel_exec.service._protocol.shm import Arena, Arenas
from parallel_exec.service._protocol.values import Deployed, Result, ServiceStats
from parallel_exec.service._server.auth import bearer


class Client:
    """A connection to a server of `pexec serve`. Usable by any thread; a context manager.

    Errors of plugins and documents are those of a pool in this process: `JSError`, `InvalidDocument`, `JobTimeout` and
    so on. Whatever else keeps a call from being answered is a `ServiceError`.

    Attributes:
        address: what it connects to.

    Args:
        address: ``host:port`` or ``unix:path``.
        token: what the server wants its callers to know.
        certificates: PEM of who signed the server's certificate, for TLS; None for a connection without TLS.
        timeout_s: seconds that a call may take, streams excepted; None for any number.
        message_bytes: most bytes of a message that comes in, and so of a result.

    Raises:
        ValueError: the address or the token is none.

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
        host, _, port = address.rpartition(":")
        if not address.startswith("unix:") and not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(f"an address is host:port or unix:path; got {address!r}")
        self.address = address
        options = [
            ("grpc.max_receive_message_length", message_bytes),
            ("grpc.max_send_message_length", -1),  # it is the server that bounds it
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
        """Deploy a plugin under a name that is free.

        Raises:
            PluginError: it cannot be loaded. ServiceError: the name is taken. ValueError: the plugin cannot be sent.
        """
        request = messages.DeployRequest(name=name, plugin=wire.plugin_to_message(plugin))
        return wire.deployed_from_message(self._call("Deploy", request, messages.Deployment))

    def swap(self, name: str, plugin: Plugin | WasmPlugin, *, expected_version: int | None = None) -> Deployed:
        """Replace a deployment's plugin, atomically: what the server accepted before runs the old version.

        Args:
            name: the deployment's.
            plugin: its next version.
            expected_version: the version to replace; None for any.

        Raises:
            PluginError: it cannot be loaded; the version before goes on. ServiceError: nothing is deployed under the
            name, or another version than was expected. ValueError: the plugin cannot be sent.
        """
        request = messages.SwapRequest(
            name=name, plugin=wire.plugin_to_message(plugin), expected_version=expected_version or 0
        )
        return wire.deployed_from_message(self._call("Swap", request, messages.Deployment))

    def undeploy(self, name: str) -> Deployed:
        """Take a deployment away and return what it was.

        Raises:
            ServiceError: there is none of this name.
        """
        request = messages.UndeployRequest(name=name)
        return wire.deployed_from_message(self._call("Undeploy", request, messages.Deployment))

    def list(self) -> list[Deployed]:
        """Return all deployments, by name."""
        reply = self._call("List", messages.ListRequest(), messages.ListResponse)
        return [wire.deployed_from_message(each) for each in reply.deployments]

    def stats(self) -> ServiceStats:
        """Return what the server's pool has done since it started."""
        return wire.stats_from_message(self._call("Stats", messages.StatsRequest(), messages.StatsResponse))

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
            input: ``"json"``; ``"binary"`` to hand over the document's bytes, which JavaScript gets as a Uint8Array;
                ``"msgpack"`` for a module's values.
            output: ``"value"``, or ``"bytes"`` for JSON text, MessagePack or the bytes of a typed array.
            limits: bounds on the job; of these, the plugin's and the server's the tightest hold.
            shared: send the document through shared memory, which takes a server on this machine and of this user.

        Raises:
            What the pool raises for the document. ServiceError: nothing is deployed under the name, it has no such
            function, the document is too large to be sent, or the server does not answer. InvalidDocument also: the
            server cannot read this machine's shared memory.
        """
        call = self._make_call(name, function, input, limits)
        content, _ = prepare(document, input)
        if shared:
            with Arena(len(content)) as arena:
                place = {"offset": arena.put(content), "length": len(content)}
                reply = self._execute(call, messages.Document(shared=place), arena.handle)
        else:
            reply = self._execute(call, messages.Document(content=bytes(content)))
        return _value(reply.result, input, output)

    def submit(
        self, name: str, function: str, document: Any, *, input: Input = "json", limits: Limits | None = None
    ) -> Future[bytes]:
        """Run a function on one document; return the future of its result's bytes. Arguments as of `execute`. The
        future fails with what `execute` raises; once submitted it cannot be cancelled.
        """
        call = self._make_call(name, function, input, limits)
        request = messages.ExecuteRequest(
            call=call, document=messages.Document(content=bytes(prepare(document, input)[0]))
        )
        future: Future[bytes] = Future()
        future.set_running_or_notify_cancel()

        def ended(reply: Any) -> None:
            try:
                future.set_result(reply.result().result)
            except grpc.RpcError as error:
                future.set_exception(from_call(error))
            except BaseException as error:  # the connection was closed, and with it the call cancelled
                future.set_exception(ServiceError(f"the call was given up: {error}", code="CANCELLED"))

        method = self._method("Execute", messages.ExecuteRequest, messages.ExecuteResponse)
        method.future(request, timeout=self._timeout_s, metadata=self._metadata).add_done_callback(ended)
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
    ) -> Iterator[Result]:
        """Run a function on every document of an iterable and yield the results, lazily.

        Documents are drawn in a thread of their own, at most `window` of them ahead of the results that have been
        taken, so that endless iterables run in bounded memory.

        Args:
            name, function, input, output, limits, shared: as of `execute`.
            documents: the documents.
            ordered: whether the results come in the documents' order, or as they are there.
            errors: ``"raise"``: the first document's error ends the iteration; ``"return"``: it is yielded as a value.
            window: most documents drawn and not yet yielded as results.

        Raises:
            As `execute`, from the iterator. ValueError: an argument is not what it can be.
        """
        if window < 1:
            raise ValueError(f"window must be at least 1; got {window}")
        if errors not in ("raise", "return"):
            raise ValueError(f"errors must be 'raise' or 'return'; got {errors!r}")
        opened = {"call": self._make_call(name, function, input, limits), "unordered": not ordered, "window": window}
        begin = self._channel.stream_stream(
            f"/{messages.SERVICE}/ExecuteStream",
            _serialize,
            messages.StreamResponse.FromString,
        )

        def start(requests: Iterator[Any]) -> Any:
            return begin(requests, metadata=self._metadata)

        contents = (prepare(document, input)[0] for document in documents)
        return run_stream(
            start,
            opened,
            contents,
            window=window,
            arenas=self._arenas if shared else None,
            raises=errors == "raise",
            value=partial(_value, input=input, output=output),
        )

    def close(self) -> None:
        """Close the connection; calls that run end with a `ServiceError`."""
        self._channel.close()
        self._arenas.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_call(self, name: str, function: str, input: Input, limits: Limits | None) -> dict[str, Any]:
        bounds = wire.limits_to_message(limits)
        return {"deployment": name, "function": function, "input": input, "limits": bounds}

    def _execute(self, call: dict[str, Any], document: Any, memory: str = "") -> Any:
        request = messages.ExecuteRequest(call=call, document=document, memory=memory)
        return self._call("Execute", request, messages.ExecuteResponse)

    def _call(self, method: str, request: Any, reply: Any) -> Any:
        try:
            return self._method(method, type(request), reply)(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_call(error) from None

    def _method(self, name: str, request: Any, reply: Any) -> Any:
        return self._channel.unary_unary(f"/{messages.SERVICE}/{name}", request.SerializeToString, reply.FromString)


def _value(content: bytes, input: Input, output: Output) -> Any:
    return result_value(MESSAGE_PACK if input == "msgpack" else JSON, content, output)


def _serialize(request: Any) -> bytes:
    content: bytes = request if isinstance(request, bytes) else request.SerializeToString()
    return content
