"""Errors as gRPC statuses, with the detail from which the other side rebuilds the same error."""

from __future__ import annotations

from typing import Any

import grpc

from parallel_exec import errors
from parallel_exec.errors import InvalidDocument, JSError, PexecError, PluginError, WasmError
from parallel_exec.service._protocol import schema

DETAILS_KEY = "grpc-status-details-bin"
"""The key of the trailing metadata that holds a google.rpc.Status; one of its details is a parallel_exec.v1.Failure."""

_TYPE_URL = f"type.googleapis.com/{schema.PACKAGE}.Failure"
_CODES: dict[type[PexecError], grpc.StatusCode] = {
    errors.PluginError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidDocument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.JSError: grpc.StatusCode.FAILED_PRECONDITION,  # trying again does not help
    errors.WasmError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.JobTimeout: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.MemoryLimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.FuelExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.OutputTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.WorkerCrashed: grpc.StatusCode.ABORTED,  # the job may or may not have run; trying again may help
}
_CLASSES = {cls.__name__: cls for cls in _CODES}
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
# Metadata has to stay below 8 KiB, in base64 and together with the status message.
_SHORT = 400
_STACK = 1200


class ServiceError(PexecError):
    """A call failed for a reason that has nothing to do with the plugin or the document: nothing is deployed under
    that name, the server cannot be reached, the token is wrong, a message is too large.

    Attributes:
        code: the gRPC status, such as ``"NOT_FOUND"`` or ``"UNAVAILABLE"``.

    >>> ServiceError("nothing is deployed as 'price'", code="NOT_FOUND").code
    'NOT_FOUND'
    """

    def __init__(self, text: str, *, code: str = "UNKNOWN") -> None:
        super().__init__(text)
        self.code = code


def status_of(error: PexecError) -> grpc.StatusCode:
    """Return the status of a call that fails with an error."""
    if isinstance(error, ServiceError):
        return grpc.StatusCode[error.code]
    return _CODES.get(type(error), grpc.StatusCode.INTERNAL)


def error_to_message(error: PexecError, document: int | None = None) -> Any:
    """Convert an error to a Failure.

    Args:
        error: the error.
        document: the document's number in its stream, if the error is about a document of a stream.
    """
    failure = schema.Failure(
        error=type(error).__name__,
        message=str(error.args[0]) if error.args else "",
        plugin=error.plugin or "",
        function=error.function or "",
        document=document,
        code=status_of(error).value[0],
    )
    if isinstance(error, JSError):
        failure.js_name, failure.js_message = error.name, error.message
        failure.js_stack = error.js_stack
    if isinstance(error, JSError | PluginError) and error.file is not None:
        failure.file = error.file
        # A plugin can claim any position.
        failure.line, failure.column = (min(max(n or 0, 0), 2**32 - 1) for n in (error.line, error.column))
    if isinstance(error, WasmError):
        failure.trapped = error.trapped
    if isinstance(error, InvalidDocument) and error.offset is not None:
        failure.offset = error.offset
    return failure


def error_from_message(failure: Any) -> PexecError:
    """Rebuild an error from a Failure, with the same class and attributes.

    >>> error = error_from_message(error_to_message(JSError("TypeError", "no", "at f (p.js:1:2)").at(plugin="p.js"), 7))
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
            error.offset = failure.offset  # its message already includes it
    else:
        error = ServiceError(failure.message, code=_BY_NUMBER.get(failure.code, grpc.StatusCode.UNKNOWN).name)
    document = failure.document if failure.HasField("document") else None
    return error.at(plugin=failure.plugin or None, function=failure.function or None, document=document)


def to_metadata(error: PexecError) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata of a call that fails with an error; long texts are cut."""
    failure = error_to_message(error)
    for name in ("message", "plugin", "function", "js_name", "js_message", "file"):
        setattr(failure, name, cut(getattr(failure, name), _SHORT))
    failure.js_stack = cut(failure.js_stack, _STACK)
    status = schema.Status(code=failure.code, message=failure.message)
    status.details.add(type_url=_TYPE_URL, value=failure.SerializeToString())
    return ((DETAILS_KEY, status.SerializeToString()),)


def set_status(error: PexecError, context: Any) -> None:
    """Make an error the status of a call.

    Not with `context.abort`: the error that it raises keeps the frames that it passes through, and with them a request
    of up to 64 MiB, until a garbage collection. So does this error's traceback.
    """
    error.__traceback__ = None
    context.set_trailing_metadata(to_metadata(error))
    context.set_code(status_of(error))
    context.set_details(cut(str(error)))


def error_of_call(error: grpc.RpcError) -> PexecError:
    """Return the error of a failed call: the one that the server sent, or else gRPC's own."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            for detail in schema.Status.FromString(value).details:
                if detail.type_url == _TYPE_URL:
                    return error_from_message(schema.Failure.FromString(detail.value))
    text = error.details() or "no reason given"
    if error.code() == grpc.StatusCode.UNAVAILABLE:
        text = f"the server cannot be reached, or has gone: {text.rpartition('last error: ')[2]}"
    return ServiceError(text, code=error.code().name)


def cut(text: str, most: int = _SHORT) -> str:
    """Cut a text to at most `most` bytes of UTF-8."""
    encoded = text.encode()
    return text if len(encoded) <= most else encoded[: most - 3].decode(errors="ignore") + "..."
