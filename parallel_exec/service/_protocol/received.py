"""Documents as a call brings them: as bytes in its messages, or in shared memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parallel_exec.errors import InvalidDocument
from parallel_exec.service._protocol import messages
from parallel_exec.service._protocol.failures import ServiceError
from parallel_exec.service._protocol.shm import ARENA_BYTES, document_at, open_arena

Content = bytes | memoryview

_DOCUMENT = 0x12  # how a document begins in a StreamRequest: field 2, its length follows
# Bytes below which a document is sooner copied by protobuf than found by Python.
SMALL = 4096
# A view keeps the whole message in memory: only of one that is not much larger than the document.
_PINNED = 8


class Received:
    """What gives the bytes of a call's documents.

    Args:
        memory: handle of the shared memory that the call names, or "".
        most: bytes that a document in it may have.

    Raises:
        InvalidDocument: the handle is none, or what it names is not to be trusted.
    """

    def __init__(self, memory: str, most: int) -> None:
        self._most = most
        self._arena = open_arena(memory, max(most, ARENA_BYTES)) if memory else None

    def document(self, document: Any) -> Content:
        """Return the bytes of a Document message.

        Raises:
            InvalidDocument: it is not where it says.
        """
        if document.HasField("shared"):
            return self._at(document.shared.offset, document.shared.length)
        content: bytes = document.content
        return content

    def documents(self, request: Any) -> Iterator[Content | InvalidDocument]:
        """Yield the bytes of what `parse_request` returned, or what is wrong with them.

        Raises:
            ServiceError: the request is none.
        """
        if isinstance(request, list):
            yield from request
            return
        if len(request.places) % 2:
            raise ServiceError("places are pairs, an offset and a length each", code="INVALID_ARGUMENT")
        yield from request.documents
        places = iter(request.places)
        for offset, length in zip(places, places, strict=False):
            try:
                yield self._at(offset, length)
            except InvalidDocument as error:
                yield error

    def close(self) -> None:
        """Refer to the shared memory no more."""
        self._arena = None

    def _at(self, offset: int, length: int) -> memoryview:
        if self._arena is None:
            raise InvalidDocument("the document is in shared memory, and the call names none")
        return document_at(self._arena, offset, length, self._most)


def parse_request(data: bytes) -> Any:
    """Return a StreamRequest, or, if it has nothing but documents, a list of those.

    protobuf would copy each document twice. What is not as expected here, it is left to judge.

    Raises:
        google.protobuf.message.DecodeError: the bytes are no StreamRequest.
    """
    documents: list[Content] = []
    view, end, at = memoryview(data), len(data), 0
    while at < end and data[at] == _DOCUMENT:
        length = shift = 0
        more = True
        while more and shift < 35:
            at += 1
            if at == end:
                return messages.StreamRequest.FromString(data)
            length |= (data[at] & 0x7F) << shift
            more = data[at] >= 0x80
            shift += 7
        if more or length < SMALL:
            break
        begin, at = at + 1, at + 1 + length
        content = view[begin:at]
        documents.append(content if length * _PINNED >= end else bytes(content))
    return documents if at == end and documents else messages.StreamRequest.FromString(data)


def serialize_documents(documents: list[bytes]) -> bytes:
    """Return a StreamRequest of documents as it is sent; protobuf would copy each of them once more.

    >>> from parallel_exec.service._protocol.messages import StreamRequest
    >>> list(StreamRequest.FromString(serialize_documents([b"[1, 2]", b"3"])).documents)
    [b'[1, 2]', b'3']
    """
    parts: list[bytes | bytearray] = []
    for document in documents:
        length = len(document)
        head = bytearray((_DOCUMENT,))
        while length >= 0x80:
            head.append(length & 0x7F | 0x80)
            length >>= 7
        head.append(length)
        parts += head, document
    return b"".join(parts)
