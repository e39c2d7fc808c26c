"""Errors on their way over the wire: which status each one is, and the detail that makes it the same error again."""

from __future__ import annotations

from typing import Any

import grpc

from parallel_exec import errors
from parallel_exec.errors import InvalidDocument, JSError, PexecError, PluginError, WasmError
from parallel_exec.service._protocol import messages

DETAILS_KEY = "grpc-status-details-bin"
"""Where the trailing metadata has a google.rpc.Status; among its details is a parallel_exec.v1.Failure."""

_TYPE_URL = f"type.googleapis.com/{messages.PACKAGE}.Failure"
_CODES: dict[type[PexecError], grpc.StatusCode] = {
    errors.PluginError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidDocument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.JSError: grpc.StatusCode.FAILED_PRECONDITION,  # trying again does not help
    errors.WasmError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.JobTimeout: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.MemoryLimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.FuelExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.OutputTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.WorkerCrashed: grpc.StatusCode.ABORTED,  # the job may have run, or not; trying again may help
}
_CLASSES = {cls.__name__: cls for cls in _CODES}
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
# Metadata is to stay below 8 KiB, its base64 and the message beside it included.
_SHORT = 400
_STACK = 1200


class ServiceError(PexecError):
    """A call failed for a reason that is neither the plugin's nor the document's: nothing is deployed under that name,
    the server cannot be reached, the token is wrong, a message is too large.

    Attributes:
        code: the gRPC status, such as ``"NOT_FOUND"`` or ``"UNAVAILABLE"``.

    >>> ServiceError("nothing is deployed as 'price'", code="NOT_FOUND").code
    'NOT_FOUND'
    """

    def __init__(self, text: str, *, code: str) -> None:
        super().__init__(text)
        self.code = code


def code_of(error: PexecError) -> grpc.StatusCode:
    """Return the status of a call that fails with this error."""
    if isinstance(error, ServiceError):
        return grpc.StatusCode[error.code]
    return _CODES.get(type(error), grpc.StatusCode.INTERNAL)


def to_message(error: PexecError, document: int | None = None) -> Any:
    """Return an error as a Failure.

    Args:
        error: the error.
        document: the document's number in its stream.
    """
    failure = messages.Failure(
        error=type(error).__name__,
        message=str(error.args[0]) if error.args else "",
        plugin=error.plugin or "",
        function=error.function or "",
        document=document,
        code=code_of(error).value[0],
    )
    if isinstance(error, JSError):
        failure.js_name, failure.js_message = error.name, error.message
        failure.js_stack = error.js_stack
    if isinstance(error, JSError | PluginError) and error.file is not None:
        failure.file = error.file
        # What a plugin says of itself: any number.
        failure.line, failure.column = (min(max(n or 0, 0), 2**32 - 1) for n in (error.line, error.column))
    if isinstance(error, WasmError):
        failure.trapped = error.trapped
    if isinstance(error, InvalidDocument) and error.offset is not None:
        failure.offset = error.offset
    return failure


def from_message(failure: Any) -> PexecError:
    """Return the error that a Failure tells of: of the same class and with the same attributes.

    >>> error = from_message(to_message(JSError("TypeError", "no", "at f (p.js:1:2)").at(plugin="p.js"), 7))
    >>> type(error).__name__, error.name, str(error)
    ('JSError', 'TypeError', 'p.js: document 7: TypeError: no')
    """
    where: dict[str, Any] = {}
    if failure.file:
        where = {"file": failure.file, "line": failure.line or None, "column": failure.column or None}
    error: PexecError
    if failure.error == "JSError":
        error = JSError(failure.js_name, failure.js_message, failure.js_stack, **where)
    elif failure.error == "PluginError":
        error = PluginError(failure.message, **where)
    elif failure.error == "WasmError":
        error = WasmError(failure.message, trapped=failure.trapped)
    elif failure.error in _CLASSES:
        error = _CLASSES[failure.error](failure.message)
        if isinstance(error, InvalidDocument) and failure.HasField("offset"):
            error.offset = failure.offset  # the message has it already
    else:
        error = ServiceError(failure.message, code=_BY_NUMBER.get(failure.code, grpc.StatusCode.UNKNOWN).name)
    document = failure.document if failure.HasField("document") else None
    return error.at(plugin=failure.plugin or None, function=failure.function or None, document=document)


def to_metadata(error: PexecError) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata of a call that fails with this error; long texts are cut."""
    failure = to_message(error)
    for name in ("message", "plugin", "function", "js_name", "js_message", "file"):
        setattr(failure, name, cut(getattr(failure, name), _SHORT))
    failure.js_stack = cut(failure.js_stack, _STACK)
    status = messages.Status(code=failure.code, message=failure.message)
    status.details.add(type_url=_TYPE_URL, value=failure.SerializeToString())
    return ((DETAILS_KEY, status.SerializeToString()),)


def tell(error: PexecError, context: Any) -> None:
    """Make an error the status of the call that has this context.

    Not by `context.abort`: its error keeps the frames that it came through, and with them a request of up to 64 MiB,
    until the collector comes by. The traceback of this error does the same.
    """
    error.__traceback__ = None
    context.set_trailing_metadata(to_metadata(error))
    context.set_code(code_of(error))
    context.set_details(cut(str(error)))


def from_call(error: grpc.RpcError) -> PexecError:
    """Return the error of a failed call: the one that the server tells of, or what gRPC itself says."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            for detail in messages.Status.FromString(value).details:
                if detail.type_url == _TYPE_URL:
                    return from_message(messages.Failure.FromString(detail.value))
    text = error.details() or "no reason is given"
    if error.code() == grpc.StatusCode.UNAVAILABLE:
        text = f"the server cannot be reached, or is gone: {text.rpartition('last error: ')[2]}"
    return ServiceError(text, code=error.code().name)


def cut(text: str, most: int = _SHORT) -> str:
    """Return a text of at most so many bytes of UTF-8."""
    encoded = text.encode()
    return text if len(encoded) <= most else encoded[: most - 3].decode(errors="ignore") + "..."
