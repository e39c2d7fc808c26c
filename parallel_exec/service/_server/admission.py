"""What a call must do before it is answered: show the token, get a place if it works, and send its request."""

from __future__ import annotations

import asyncio
import hmac
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from parallel_exec.service._protocol.connection import METADATA_KEY, bearer
from parallel_exec.service._protocol.schema import SERVICE
from parallel_exec.service._protocol.statuses import ServiceError, set_status

_HEALTH_CHECK = "/grpc.health.v1.Health/Check"
_WORK = {f"/{SERVICE}/{name}" for name in ("Deploy", "Swap", "Execute", "ExecuteStream")}
# These last as long as their callers like.
_LASTING = {"/grpc.health.v1.Health/Watch"}

# Seconds within which a request must arrive. Calls that are not work occupy no place, and so get less time.
WORK_S = 30.0
SHORT_S = 5.0

Continue = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class TokenCheck(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Rejects calls without the token, except health checks: those who check health have none. Watches of health never
    end, and need it.

    Args:
        token: the token.
    """

    def __init__(self, token: str) -> None:
        self._expected = bearer(token)[1].encode()
        # A stream handler for every method: a unary one would wait for a request, which need never come.
        self._refusal = grpc.stream_stream_rpc_method_handler(_refuse)

    async def intercept_service(
        self, continuation: Continue, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        if handler_call_details.method == _HEALTH_CHECK:
            return await continuation(handler_call_details)
        for key, value in handler_call_details.invocation_metadata:
            # In constant time, so that the duration reveals nothing about the token.
            if key == METADATA_KEY and hmac.compare_digest(str(value).encode(), self._expected):
                return await continuation(handler_call_details)
        return self._refusal


async def _refuse(_request: Any, context: Any) -> None:
    context.set_code(grpc.StatusCode.UNAUTHENTICATED)
    context.set_details("the token is missing or wrong")


class Admission(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Gives places to calls that work, and ends calls whose requests do not arrive: idle clients can block neither
    health checks nor lists nor the server's stop.

    Args:
        places: how many calls may work at a time, and how many others may last.
        idle_s: the most seconds that a call waits for its request.
    """

    def __init__(self, places: int, idle_s: float) -> None:
        self._places = places
        self._idle_s = idle_s
        self._working = self._lasting = 0
        self._clocks: set[asyncio.Timeout] = set()
        self._stopping = False

    def stop(self) -> None:
        """End the calls that wait for a request, and those that last."""
        self._stopping = True
        for clock in self._clocks:
            clock.reschedule(0)

    async def intercept_service(
        self, continuation: Continue, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        # A stream handler for every method: gRPC itself would wait for a unary one's request for ever.
        return grpc.stream_stream_rpc_method_handler(
            partial(self._run, handler, handler_call_details.method),
            handler.request_deserializer,
            handler.response_serializer,
        )

    async def _run(self, handler: grpc.RpcMethodHandler, method: str, requests: Any, context: Any) -> None:
        try:
            with self._place(method):
                if handler.request_streaming:  # reflection
                    async with self._clock(self._idle_s):
                        await _answer(handler.stream_stream(requests, context), context)
                else:
                    await self._run_one(handler, method, context)
        except ServiceError as refused:
            set_status(refused, context)
        except grpc.aio.AbortError as error:
            traceback.clear_frames(error.__traceback__)  # other packages' servicers raise it
            raise

    async def _run_one(self, handler: grpc.RpcMethodHandler, method: str, context: Any) -> None:
        """Run a method with its first request; ExecuteStream reads the rest itself."""
        async with self._clock(min(self._idle_s, WORK_S if method in _WORK else SHORT_S)):
            try:
                request = await context.read()
            except DecodeError as error:
                raise ServiceError(f"the request is malformed: {error}", code="INVALID_ARGUMENT") from None
        if request is grpc.aio.EOF:
            raise ServiceError("the call has no request", code="INVALID_ARGUMENT")
        answer = handler.unary_stream if handler.response_streaming else handler.unary_unary
        if method in _LASTING:
            async with self._clock(None):
                await _answer(answer(request, context), context)
        else:
            await _answer(answer(request, context), context)

    @asynccontextmanager
    async def _clock(self, seconds: float | None) -> AsyncIterator[None]:
        """Allow a number of seconds, or any number if None, and stop the body when the server stops."""
        try:
            async with asyncio.timeout(0 if self._stopping else seconds) as clock:
                self._clocks.add(clock)
                try:
                    yield
                finally:
                    self._clocks.discard(clock)
        except TimeoutError:
            if self._stopping:
                raise ServiceError("the server is stopping", code="UNAVAILABLE") from None
            text = f"no request has come for {seconds:g} s"
            raise ServiceError(text, code="DEADLINE_EXCEEDED") from None

    @contextmanager
    def _place(self, method: str) -> Iterator[None]:
        work, lasts = method in _WORK, method in _LASTING
        if (work and self._working >= self._places) or (lasts and self._lasting >= self._places):
            text = f"the server already has {self._places} calls, the most it accepts; try again"
            raise ServiceError(text, code="UNAVAILABLE")
        self._working += work
        self._lasting += lasts
        try:
            yield
        finally:
            self._working -= work
            self._lasting -= lasts


async def _answer(answer: Any, context: Any) -> None:
    """Write what a method returns: a response, or a stream of them; None if it has written its responses itself."""
    if hasattr(answer, "__aiter__"):
        async for response in answer:
            await context.write(response)
    elif (response := await answer) is not None:
        await context.write(response)
