"""Documents on their way to a server: as bytes in messages, or in memory shared with a server on the same machine.

::

    client   Arena: a memfd that it creates, seals and fills; the first bytes are a secret
    wire     shm://PID/FD/SECRET, once per call; then each document's offset and length
    server   open_arena: opens /proc/PID/fd/FD, checks it, maps it; documents are views into the mapping

Whoever touches a mapped file that its owner has truncated is killed (SIGBUS), so the server accepts only memory whose
seals say that it cannot shrink. Its owner can still change it: readers copy a view once, before they look at it.
"""

from __future__ import annotations

import bisect
import contextlib
import fcntl
import hmac
import mmap
import os
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from parallel_exec.errors import InvalidDocument, PexecError
from parallel_exec.service._protocol import schema
from parallel_exec.service._protocol.statuses import ServiceError

Content = bytes | memoryview

SCHEME = "shm://"
_HANDLE = re.compile(rf"{SCHEME}([1-9][0-9]{{0,9}})/([0-9]{{1,9}})/([0-9a-f]{{32}})")
_SECRET_BYTES = 16
# Documents begin at a cache line, where the processor copies fastest.
_ALIGN = 64
# Only Linux has memory that can be sealed.
_IS_THERE = hasattr(os, "memfd_create")

# The largest arena, unless a single document may be larger.
MOST_ARENA_BYTES = 64 << 20

_DOCUMENT = 0x12  # what precedes a document in a StreamRequest: field 2, with a length
# A length is a varint: 7 bits a byte, the eighth says that more follow.
_MORE, _BITS = 0x80, 0x7F
_LENGTH_BITS = 35  # five bytes of them, enough for every message
# Below this many bytes, protobuf copies a document faster than Python finds it.
SMALL = 4096
# A view keeps the whole message in memory, so it is used only if the message is at most this many times larger.
_PINNED = 8


class PayloadReader:
    """Reads the documents of one call on the server.

    Args:
        memory: handle of the shared memory that the call names, or "".
        most: the most bytes that a document in it may have.

    Raises:
        InvalidDocument: the handle is malformed, or the memory that it names cannot be trusted.
    """

    def __init__(self, memory: str, most: int) -> None:
        self._most = most
        self._arena = open_arena(memory, max(most, MOST_ARENA_BYTES)) if memory else None

    def document(self, document: Any) -> Content:
        """Return the bytes of a Document message.

        Raises:
            InvalidDocument: the shared memory does not contain the document.
        """
        if document.HasField("shared"):
            return self._at(document.shared.offset, document.shared.length)
        content: bytes = document.content
        return content

    def documents(self, request: Any) -> Iterator[Content | InvalidDocument]:
        """Yield each document of a request that `parse_request` returned: its bytes, or what is wrong with it.

        Raises:
            ServiceError: the request is malformed.
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
        """Drop the reference to the shared memory."""
        self._arena = None

    def _at(self, offset: int, length: int) -> memoryview:
        if self._arena is None:
            raise InvalidDocument("the document is in shared memory, and the call names none")
        return document_at(self._arena, offset, length, self._most)


def parse_request(data: bytes) -> Any:
    """Return a StreamRequest, or a list of its documents if it contains nothing else.

    protobuf would copy each document twice. Anything unexpected here is left to protobuf.

    Raises:
        google.protobuf.message.DecodeError: the bytes are not a StreamRequest.
    """
    documents: list[Content] = []
    view, end, at = memoryview(data), len(data), 0
    while at < end and data[at] == _DOCUMENT:
        length = shift = 0
        more = True
        while more and shift < _LENGTH_BITS:
            at += 1
            if at == end:
                return schema.StreamRequest.FromString(data)
            length |= (data[at] & _BITS) << shift
            more = data[at] >= _MORE
            shift += 7
        if more or length < SMALL:
            break
        begin, at = at + 1, at + 1 + length
        content = view[begin:at]
        documents.append(content if length * _PINNED >= end else bytes(content))
    return documents if at == end and documents else schema.StreamRequest.FromString(data)


def serialize_documents(documents: Sequence[bytes]) -> bytes:
    """Return the bytes of a StreamRequest that contains these documents; protobuf would copy each once more.

    >>> from parallel_exec.service._protocol.schema import StreamRequest
    >>> list(StreamRequest.FromString(serialize_documents([b"[1, 2]", b"3"])).documents)
    [b'[1, 2]', b'3']
    """
    parts: list[bytes | bytearray] = []
    for document in documents:
        length = len(document)
        head = bytearray((_DOCUMENT,))
        while length >= _MORE:
            head.append(length & _BITS | _MORE)
            length >>= 7
        head.append(length)
        parts += head, document
    return b"".join(parts)


def open_arena(handle: str, most: int = MOST_ARENA_BYTES) -> memoryview:
    """Map the memory that a handle names; it stays mapped until nothing refers to the view any more.

    Args:
        handle: an `Arena`'s.
        most: the most bytes for documents that the memory may have.

    Raises:
        InvalidDocument: the handle is malformed; or the memory belongs to another user, is not sealed against
            truncation, is too large, or does not begin with the secret.
    """
    found = _HANDLE.fullmatch(handle)
    if not _IS_THERE:
        raise InvalidDocument("documents in shared memory need a server on Linux")
    if found is None:
        raise InvalidDocument(f"a handle is {SCHEME}PID/FD/SECRET, the last of 32 hex digits; got {handle[:80]!r}")
    pid, number, secret = found.groups()
    try:
        fd = _open_memory(f"/proc/{pid}/fd/{number}")
    except OSError as error:
        raise InvalidDocument(f"the shared memory {handle} cannot be opened: {error.strerror}") from None
    try:
        view = memoryview(mmap.mmap(fd, _size(fd, most), access=mmap.ACCESS_READ))
    except OSError as error:
        raise InvalidDocument(f"the shared memory {handle} cannot be mapped: {error.strerror}") from None
    finally:
        os.close(fd)
    if not hmac.compare_digest(bytes(view[:_SECRET_BYTES]), bytes.fromhex(secret)):
        raise InvalidDocument(f"{handle} is not the shared memory of whoever sent this")
    return view


def _open_memory(path: str) -> int:
    # With O_PATH first: opening a pipe, a device or a file of an unknown file system may block or have effects.
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not str(Path(f"/proc/self/fd/{fd}").readlink()).startswith("/memfd:"):
            raise InvalidDocument("the handle does not name memory (memfd)")
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)


def _size(fd: int, most: int) -> int:
    """Return the size of memory, once it is known to be safe to map."""
    if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
        raise InvalidDocument("the shared memory is not sealed against truncation")
    found = os.fstat(fd)
    if found.st_uid != os.geteuid():
        raise InvalidDocument("the shared memory must belong to the server's user")
    if not _SECRET_BYTES <= found.st_size <= _ALIGN + most:
        bounds = f"{_SECRET_BYTES} to {_ALIGN + most} are accepted"
        raise InvalidDocument(f"the shared memory has {found.st_size} bytes; {bounds}")
    # Huge pages may have run out by the time one is first touched: SIGBUS.
    if os.fstatvfs(fd).f_bsize != mmap.PAGESIZE:
        raise InvalidDocument("the shared memory does not use ordinary pages")
    return found.st_size


def document_at(arena: memoryview, offset: int, length: int, most: int) -> memoryview:
    """Return the bytes of a document in an arena.

    Raises:
        InvalidDocument: the document would reach beyond the arena's end, or has more than `most` bytes.
    """
    if length > most:
        raise InvalidDocument(f"the document in shared memory has {length} bytes; at most {most} are accepted")
    if offset + length > len(arena):
        raise InvalidDocument(f"the shared memory has {len(arena)} bytes, not {length} from byte {offset} on")
    return arena[offset : offset + length]


class Arena:
    """Shared memory that a client puts documents into. For one thread at a time.

    It has neither a name nor a file: it is gone when no process has it open or mapped any more, however its creator
    ends.

    Attributes:
        size: bytes for documents.
        handle: what the server is told.

    Args:
        size: bytes for documents.

    Raises:
        OSError: the system has no shared memory left.
        PexecError: this is not Linux.

    >>> with Arena(1 << 16) as arena:
    ...     offset = arena.put(b"[1, 2]")
    ...     bytes(document_at(open_arena(arena.handle), offset, 6, 100))
    b'[1, 2]'
    """

    def __init__(self, size: int) -> None:
        if not _IS_THERE:
            raise PexecError("documents in shared memory need Linux; send them as bytes")
        self.size = size
        self._end = _ALIGN + size
        self._used: list[tuple[int, int]] = []  # begin and end of everything still needed, in order
        self._fd = os.memfd_create("pexec", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self._fd, self._end)
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._map = mmap.mmap(self._fd, self._end)
        except BaseException:
            os.close(self._fd)
            raise
        secret = secrets.token_bytes(_SECRET_BYTES)
        self._map[:_SECRET_BYTES] = secret
        self.handle = f"{SCHEME}{os.getpid()}/{self._fd}/{secret.hex()}"

    @property
    def is_free(self) -> bool:
        """Whether nothing in it is needed any more."""
        return not self._used

    def put(self, content: bytes | bytearray | memoryview) -> int | None:
        """Copy bytes into the arena and return their offset, or None if there is no room until something is freed."""
        length = len(content)
        room = (length + _ALIGN - 1) & -_ALIGN or _ALIGN  # never 0, so that no two documents have the same offset
        start = _ALIGN
        used = self._used
        at = len(used)
        # The first gap, not the next one: memory that was used last is still in the processor's cache.
        for index, (begin, end) in enumerate(used):
            if room <= begin - start:
                at = index
                break
            start = end
        if start + length > self._end:
            return None
        used.insert(at, (start, start + room))
        self._map[start : start + length] = content
        return start

    def free(self, offset: int) -> None:
        """Give back the room of the document at this offset."""
        del self._used[bisect.bisect_left(self._used, (offset,))]

    def close(self) -> None:
        """Give the memory back. Calling it again does nothing."""
        if self._fd >= 0:
            self._map.close()
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Arenas:
    """Lends arenas of one size, and keeps one for the next borrower. For any thread.

    Copying a document of 120 KB into fresh pages takes 90 us, and 10 us into pages that are there already.

    Args:
        size: bytes for documents.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: list[Arena] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextlib.contextmanager
    def lend(self) -> Iterator[Arena]:
        """Lend an arena to one borrower.

        Raises:
            OSError: the system has no shared memory left.
            PexecError: this is not Linux.
        """
        with self._lock:
            arena = self._kept.pop() if self._kept else Arena(self._size)
        try:
            yield arena
        finally:
            with self._lock:
                # A server may still read an arena that is not free.
                if arena.is_free and not self._kept and not self._closed:
                    self._kept.append(arena)
                else:
                    arena.close()

    def close(self) -> None:
        """Close the arena that is kept, and keep no more."""
        with self._lock:
            self._closed = True
            while self._kept:
                self._kept.pop().close()
