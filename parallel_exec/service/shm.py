"""Documents in shared memory, for a client on the server's machine: the client's segment, and how a server reads it.

::

    client   Segment: a file in /dev/shm that it makes, locks, fills and unlinks
    wire     shm://pexec-<32 hex digits>, offset, length
    server   read_shared: opens that file, checks it, reads the bytes, closes it

The server reads and does not map: a mapped file that its owner cuts short kills who touches it (SIGBUS).
"""

from __future__ import annotations

import bisect
import contextlib
import fcntl
import mmap
import os
import re
import secrets
import stat
from types import TracebackType
from typing import Self

from ..errors import InvalidDocument

FOLDER = "/dev/shm"
SCHEME = "shm://"
_PREFIX = "pexec-"
_NAME = re.compile(rf"{_PREFIX}[0-9a-f]{{32}}")


def read_shared(handle: str, offset: int, length: int, most: int) -> bytes:
    """Return the bytes that a handle stands for.

    Args:
        handle: ``shm://`` and a segment's name.
        offset, length: which bytes of it.
        most: how many there may be.

    Raises:
        InvalidDocument: the handle is none; the file is not this user's own, is no plain file, may be written by
            others, or has not so many bytes; or they are too many.
    """
    name = handle.removeprefix(SCHEME)
    if name == handle or not _NAME.fullmatch(name):
        raise InvalidDocument(f"a handle is {SCHEME}{_PREFIX} and 32 hex digits; got {handle[:80]!r}")
    if length > most:
        raise InvalidDocument(f"the document in shared memory has {length} bytes; at most {most} are taken")
    try:
        fd = os.open(f"{FOLDER}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidDocument(f"{handle} cannot be opened: {error.strerror}") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidDocument(f"{handle} is no plain file")
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise InvalidDocument(f"{handle} must belong to the server's user, and nobody else may write it")
        if offset > found.st_size or length > found.st_size - offset:
            raise InvalidDocument(f"{handle} has {found.st_size} bytes, not {length} from byte {offset} on")
        content = os.pread(fd, length, offset)
    finally:
        os.close(fd)
    if len(content) != length:
        raise InvalidDocument(f"{handle} became shorter while it was read")
    return content


class Segment:
    """Shared memory that documents are laid into. For one thread at a time.

    Its file goes when it is closed; should this process be killed before, the next segment that the same user makes
    removes it, because nobody holds its lock any more.

    Args:
        size: bytes.

    Raises:
        OSError: there is no shared memory, or not so much.

    >>> with Segment(1 << 16) as segment:
    ...     offset = segment.put(b"[1, 2]")
    ...     read_shared(segment.handle, offset, 6, 100)
    b'[1, 2]'
    """

    def __init__(self, size: int) -> None:
        sweep()
        self.size = size
        self._used: list[tuple[int, int]] = []  # where what is needed begins and ends, in order
        self._fd, self._name = _make()
        try:
            os.posix_fallocate(self._fd, 0, size)  # or a full /dev/shm kills who writes (SIGBUS)
            self._map = mmap.mmap(self._fd, size)
        except BaseException:
            self._remove()
            raise

    @property
    def handle(self) -> str:
        """What a server is told."""
        return SCHEME + self._name

    def put(self, content: bytes | bytearray | memoryview) -> int | None:
        """Lay bytes down and return their offset; None: there is no room before something is freed."""
        length = len(content)
        room = length or 1  # so that no two have one offset
        start = 0
        # The first gap, not the next one: memory that was used last is still in the processor's cache.
        for index, (used, end) in enumerate([*self._used, (self.size, self.size)]):
            if room <= used - start:
                self._map[start : start + length] = content
                self._used.insert(index, (start, start + room))
                return start
            start = end
        return None

    def free(self, offset: int) -> None:
        """What lies at this offset is not needed any more."""
        del self._used[bisect.bisect_left(self._used, (offset,))]

    def close(self) -> None:
        """Give the memory back and remove the file. Calling it again does nothing."""
        if self._fd >= 0:
            self._map.close()
            self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{FOLDER}/{self._name}")
        os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sweep() -> None:
    """Remove this user's segments whose makers are gone."""
    for name in os.listdir(FOLDER):
        if not _NAME.fullmatch(name):
            continue
        try:
            fd = os.open(f"{FOLDER}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_uid == os.geteuid():
                os.unlink(f"{FOLDER}/{name}")
        except OSError:
            pass  # somebody holds it, or removes it just now
        finally:
            os.close(fd)


def _make() -> tuple[int, str]:
    while True:
        name = _PREFIX + secrets.token_hex(16)
        fd = os.open(f"{FOLDER}/{name}", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return fd, name
        os.close(fd)  # somebody swept it before it was locked
