"""Who may call: whoever knows the token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

KEY = "authorization"
_OPEN = "/grpc.health.v1.Health/Check"  # whoever checks a server's health has no token


def bearer(token: str) -> tuple[str, str]:
    """Return the metadata that carries a token.

    Raises:
        ValueError: the token is empty, or has what no metadata carries.

    >>> bearer("s3cret")
    ('authorization', 'Bearer s3cret')
    """
    if not (token and token.isascii() and token.isprintable()):
        raise ValueError("a token is text of one line, in ASCII")
    return KEY, f"Bearer {token}"


class TokenCheck(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Lets calls through whose metadata carries the token, and checks of health; not watches of it, which never end.

    Args:
        token: the token.
    """

    def __init__(self, token: str) -> None:
        self._expected = bearer(token)[1].encode()
        # Of a stream, whatever is called: the other kind waits for a request, which need never come.
        self._refusal = grpc.stream_stream_rpc_method_handler(_refuse)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        if handler_call_details.method == _OPEN:
            return await continuation(handler_call_details)
        for key, value in handler_call_details.invocation_metadata:
            # In constant time, so that how long it takes tells nothing of the token.
            if key == KEY and hmac.compare_digest(str(value).encode(), self._expected):
                return await continuation(handler_call_details)
        return self._refusal


async def _refuse(_request: Any, context: Any) -> None:
    context.set_code(grpc.StatusCode.UNAUTHENTICATED)
    context.set_details("the token is missing or wrong")
