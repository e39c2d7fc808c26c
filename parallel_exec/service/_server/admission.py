"""What a call has to do before it is answered: get a place, if it takes the pool's time, and bring its request."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from parallel_exec.service._protocol.failures import ServiceError, tell
from parallel_exec.service._protocol.messages import SERVICE

_WORK = {f"/{SERVICE}/{name}" for name in ("Deploy", "Swap", "Execute", "ExecuteStream")}
# These last as long as their callers like.
_LASTING = {"/grpc.health.v1.Health/Watch"}

# Seconds within which a request has to be there. What is not work has no place, and so less time.
WORK_S = 30.0
SHORT_S = 5.0


class Admission(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Gives places to calls that work, and ends those whose requests do not come, so that neither health nor lists nor
    a stop of the server waits for somebody who says nothing.

    Args:
        places: how many calls may work at a time, and how many others may last.
        idle_s: seconds that a call waits for its request at most.
    """

    def __init__(self, places: int, idle_s: float) -> None:
        self._places = places
        self._idle_s = idle_s
        self._working = self._lasting = 0
        self._clocks: set[asyncio.Timeout] = set()
        self._stopping = False

    def stop(self) -> None:
        """End what waits for a request, and what lasts."""
        self._stopping = True
        for clock in self._clocks:
            clock.reschedule(0)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        # Of a stream, whatever is called: gRPC itself would wait for the other kind's request, for ever.
        return grpc.stream_stream_rpc_method_handler(
            partial(self._run, handler, handler_call_details.method),
            handler.request_deserializer,
            handler.response_serializer,
        )

    async def _run(self, handler: Any, method: str, requests: Any, context: Any) -> None:
        try:
            with self._place(method):
                if handler.request_streaming:  # reflection
                    async with self._clock(self._idle_s):
                        await _answer(handler.stream_stream(requests, context), context)
                else:
                    await self._run_one(handler, method, context)
        except ServiceError as refused:
            tell(refused, context)
        except grpc.aio.AbortError as error:
            traceback.clear_frames(error.__traceback__)  # what else than this package raises
            raise

    async def _run_one(self, handler: Any, method: str, context: Any) -> None:
        """Run a method that is given one request; it reads those of a stream that follow by itself."""
        async with self._clock(min(self._idle_s, WORK_S if method in _WORK else SHORT_S)):
            try:
                request = await context.read()
            except DecodeError as error:
                raise ServiceError(f"the request is none: {error}", code="INVALID_ARGUMENT") from None
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
        """Let something take so many seconds, None for any number, and be ended when the server stops."""
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
            text = f"the server has {self._places} calls, the most there may be; try again"
            raise ServiceError(text, code="UNAVAILABLE")
        self._working += work
        self._lasting += lasts
        try:
            yield
        finally:
            self._working -= work
            self._lasting -= lasts


async def _answer(answer: Any, context: Any) -> None:
    """Write what a method returns: a response, or a stream of them; None: it has written by itself."""
    if hasattr(answer, "__aiter__"):
        async for response in answer:
            await context.write(response)
    elif (response := await answer) is not None:
        await context.write(response)
