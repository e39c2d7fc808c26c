"""Records with file descriptors over a local stream socket: how a pool's processes hand each other memory.

A record is small and of one size, and descriptors travel with its first byte (SCM_RIGHTS), so that records never mix.
What is large (an image, a document, a result that has no room in its ring) travels as the descriptor of a *segment*:
memory without a name, which is gone when the last process that holds it ends, however it ends.
"""

from __future__ import annotations

import array
import os
import socket
import struct
import tempfile
from collections.abc import Iterable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from parallel_exec.pool._transport.ring import Buffer

_RECORD = struct.Struct("<IIQq")  # kind, number of descriptors, ident, value
_MOST_FDS = 4
_DESCRIPTORS = socket.CMSG_SPACE(_MOST_FDS * 4)
_VECTOR = 512  # buffers per writev, below every system's IOV_MAX


class RecordKind(IntEnum):
    """What a record says: (who to whom) what `ident` and `value` are, and the descriptors with it."""

    FORK = 1  # parent to zygote: worker id; memory, request bell, result bell, control socket
    FORKED = 2  # zygote to parent: worker id, pid
    EXITED = 3  # zygote to parent: worker id, wait status
    NOT_FORKED = 4  # zygote to parent: worker id, errno
    IMAGE = 5  # parent to worker: image id, size; segment
    LIMITS = 6  # parent to worker: limits id, size; segment
    SEGMENT = 7  # either way: job id, size; segment
    KILL = 8  # parent to zygote: worker id
    HOST = 9  # parent to worker: image id, size; segment
    FORGET = 10  # parent to worker: image id, of which there will be no more jobs
    READY = 11  # worker to parent: image id and limits id; size; segment with an error, or nothing


class Record(NamedTuple):
    """One record as it was received; the receiver owns its descriptors."""

    kind: RecordKind
    ident: int
    value: int
    fds: tuple[int, ...]

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self.fds:
            os.close(fd)


class ProtocolError(Exception):
    """The peer sent what it cannot have meant: a record in pieces or one of no known kind."""


class Channel:
    """One end of a connection of records. Sending blocks while the peer's buffer is full (hundreds of records)."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two connected ends."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(mine), cls(theirs)

    @classmethod
    def adopt(cls, fd: int) -> Channel:
        """The end whose descriptor was inherited or received; the channel owns it from now on."""
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        """The descriptor, for selectors."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close this end; the peer reads the end of the stream."""
        self.socket.close()

    def send(self, kind: RecordKind, ident: int, value: int = 0, fds: Sequence[int] = (), *, wait: bool = True) -> None:
        """Send one record; the descriptors stay open here.

        Args:
            wait: block until there is room; otherwise BlockingIOError is raised when there is none.

        Raises:
            OSError: the peer is gone.
        """
        record = _RECORD.pack(kind, len(fds), ident, value)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self.socket.sendmsg([record], ancillary, 0 if wait else socket.MSG_DONTWAIT)
        if sent < len(record):
            self.socket.sendall(record[sent:])

    def receive(self, *, wait: bool = True) -> Record | None:
        """Return the next record, or None at the end of the stream.

        Args:
            wait: block until there is one; otherwise BlockingIOError is raised when there is none.
        """
        flags = (0 if wait else socket.MSG_DONTWAIT) | getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        try:
            data, ancillary, _, _ = self.socket.recvmsg(_RECORD.size, _DESCRIPTORS, flags)
        except ConnectionError:
            return None
        fds = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        if not hasattr(socket, "MSG_CMSG_CLOEXEC"):
            for fd in fds:
                os.set_inheritable(fd, False)  # noqa: FBT003 -- it takes no keyword
        if not data:
            return None
        try:
            if len(data) < _RECORD.size:
                data += self.socket.recv(_RECORD.size - len(data), socket.MSG_WAITALL)
            number, count, ident, value = _RECORD.unpack(data)
            if count != len(fds):
                raise ProtocolError(f"a record with {len(fds)} of {count} descriptors")
            return Record(RecordKind(number), ident, value, tuple(fds))
        except (struct.error, ValueError) as error:
            Record(RecordKind.SEGMENT, 0, 0, tuple(fds)).close()
            raise ProtocolError(f"not a record: {error}") from None


def new_memory(size: int = 0) -> int:
    """Return the descriptor of new zeroed memory without a name."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("parallel_exec", os.MFD_CLOEXEC)
    else:
        memory = Path("/dev/shm")  # noqa: S108 -- memory in place of a disk; the name is gone at once
        fd, path = tempfile.mkstemp(prefix="parallel_exec-", dir=memory if memory.is_dir() else None)
        Path(path).unlink()
    if size:
        try:
            os.ftruncate(fd, size)
        except OSError:
            os.close(fd)
            raise
    return fd


def new_segment(parts: Iterable[Buffer]) -> tuple[int, int]:
    """Return the descriptor and the size of a new segment that holds the parts, joined."""
    fd = new_memory()
    size = 0
    try:
        # write() fills the pages inside the kernel; a mapping would take a page fault for each of them.
        left = [memoryview(part) for part in parts if len(part)]
        while left:
            written = os.writev(fd, left[:_VECTOR])
            size += written
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if written:
                left[0] = left[0][written:]
    except OSError:
        os.close(fd)
        raise
    return fd, size


def read_segment(fd: int, size: int) -> bytes:
    """Return what the segment holds, as a copy: a mapping could be cut short under its reader by the peer (SIGBUS).

    Raises:
        ProtocolError: it is smaller than `size`.
    """
    if os.fstat(fd).st_size < size:
        raise ProtocolError(f"a segment of less than {size} bytes")
    text = os.pread(fd, size, 0)
    if len(text) == size:
        return text
    pieces = [text]
    while size > (got := sum(map(len, pieces))):
        pieces.append(os.pread(fd, size - got, got))
        if not pieces[-1]:
            raise ProtocolError(f"a segment of less than {size} bytes")
    return b"".join(pieces)


class Shared(NamedTuple):
    """One published thing: its bytes, and under which kind and number workers are given it. They are in a segment that
    all workers share or, if they are few, in one that each is sent.
    """

    kind: RecordKind
    ident: int
    fd: int
    size: int
    content: bytes = b""

    @classmethod
    def publish(cls, kind: RecordKind, ident: int, content: bytes) -> Shared:
        """Put the content into shared memory.

        Raises:
            OSError: there is no memory or no descriptor left.
        """
        return cls(kind, ident, *new_segment((content,)))

    @classmethod
    def small(cls, kind: RecordKind, ident: int, content: bytes) -> Shared:
        """Keep the few bytes of the content in this process."""
        return cls(kind, ident, -1, len(content), content)

    def send(self, channel: Channel) -> None:
        """Give it to a worker.

        Raises:
            OSError: the peer is gone, or there is no memory or no descriptor left.
        """
        fd = self.fd if self.fd >= 0 else new_segment((self.content,))[0]
        try:
            channel.send(self.kind, self.ident, self.size, (fd,))
        finally:
            if fd != self.fd:
                os.close(fd)
