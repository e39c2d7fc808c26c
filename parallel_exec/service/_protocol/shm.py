"""Documents in shared memory, for a client on the server's machine: the client's arena, and the server's view of it.

::

    client   Arena: a memfd that it makes, seals and fills; the first bytes are a secret
    wire     shm://PID/FD/SECRET, once for a call; then offset and length of each document
    server   open_arena: opens /proc/PID/fd/FD, checks it, maps it; documents are views into the mapping

A mapped file that its owner cuts short kills who touches it (SIGBUS), so only memory is taken whose seals say that it
cannot shrink. Its owner may change it, though: whoever reads a view copies it once, before looking at what it says.
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
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from parallel_exec.errors import InvalidDocument, PexecError

SCHEME = "shm://"
_HANDLE = re.compile(rf"{SCHEME}([1-9][0-9]{{0,9}})/([0-9]{{1,9}})/([0-9a-f]{{32}})")
_SECRET_BYTES = 16
# Documents begin where the processor copies best, a cache line.
_ALIGN = 64
# Elsewhere than on Linux there is no memory that can be sealed.
_IS_THERE = hasattr(os, "memfd_create")

# Most bytes of an arena, unless a single document may be larger.
ARENA_BYTES = 64 << 20


def open_arena(handle: str, most: int = ARENA_BYTES) -> memoryview:
    """Return what a handle stands for, mapped until nothing refers to it any more.

    Args:
        handle: an `Arena`'s.
        most: bytes for documents that it may have.

    Raises:
        InvalidDocument: the handle is none; what it names is not this user's own, is no memory that is sealed against
            being cut short, or is too large; or the secret is not in it.
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
    # As a path first: to open a pipe, a device or a file of who knows what file system may wait, or do something.
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:"):
            raise InvalidDocument("what the handle names is no memory (memfd)")
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)


def _size(fd: int, most: int) -> int:
    """Return the size of memory that can be mapped."""
    if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
        raise InvalidDocument("the shared memory is not sealed against being cut short")
    found = os.fstat(fd)
    if found.st_uid != os.geteuid():
        raise InvalidDocument("the shared memory must belong to the server's user")
    if not _SECRET_BYTES <= found.st_size <= _ALIGN + most:
        bounds = f"{_SECRET_BYTES} to {_ALIGN + most} are taken"
        raise InvalidDocument(f"the shared memory has {found.st_size} bytes; {bounds}")
    # Of huge pages there may be none when one is touched first: SIGBUS.
    if os.fstatvfs(fd).f_bsize != mmap.PAGESIZE:
        raise InvalidDocument("the shared memory is not of ordinary pages")
    return found.st_size


def document_at(arena: memoryview, offset: int, length: int, most: int) -> memoryview:
    """Return the bytes of a document in an arena.

    Raises:
        InvalidDocument: the arena does not reach so far; or they are more than `most`.
    """
    if length > most:
        raise InvalidDocument(f"the document in shared memory has {length} bytes; at most {most} are taken")
    if offset + length > len(arena):
        raise InvalidDocument(f"the shared memory has {len(arena)} bytes, not {length} from byte {offset} on")
    return arena[offset : offset + length]


class Arena:
    """Shared memory that documents are laid into. For one thread at a time.

    It has no name and no file: it is gone when nobody has it open or mapped any more, however its maker ends.

    Attributes:
        size: bytes for documents.
        handle: what a server is told.

    Args:
        size: bytes for documents.

    Raises:
        OSError: there is no shared memory. PexecError: this is not Linux.

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
        self._used: list[tuple[int, int]] = []  # where what is needed begins and ends, in order
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
        """Lay bytes down and return their offset; None: there is no room before something is freed."""
        length = len(content)
        room = (length + _ALIGN - 1) & -_ALIGN or _ALIGN  # never nothing, so that no two have one offset
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
        """What lies at this offset is not needed any more."""
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
    """Arenas of one size, of which one is kept for whoever comes next. For any thread.

    To make the pages for a document of 120 KB takes 90 us, and to lay it into pages that are there 10.

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
        """Give an arena that is nobody else's meanwhile.

        Raises:
            OSError: there is no shared memory.
        """
        with self._lock:
            arena = self._kept.pop() if self._kept else Arena(self._size)
        try:
            yield arena
        finally:
            with self._lock:
                # What is not free may still be read.
                if arena.is_free and not self._kept and not self._closed:
                    self._kept.append(arena)
                else:
                    arena.close()

    def close(self) -> None:
        """Close what is kept, and keep no more."""
        with self._lock:
            self._closed = True
            while self._kept:
                self._kept.pop().close()
