"""Doorbells: descriptors that one process or thread makes readable for another that sleeps on them."""

from __future__ import annotations

import os
import socket
import threading

_RING = (1).to_bytes(8, "little")


def new_bell() -> tuple[int, int]:
    """Return two descriptors of a doorbell, one for each side: `ring_bell` on one makes the other readable."""
    if hasattr(os, "eventfd"):
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            return fd, os.dup(fd)
        except OSError:
            os.close(fd)
            raise
    mine, theirs = socket.socketpair()
    for end in (mine, theirs):
        end.settimeout(0)
    return mine.detach(), theirs.detach()


def ring_bell(fd: int) -> None:
    """Make the other side's descriptor readable."""
    try:  # noqa: SIM105 -- contextlib.suppress takes longer than the system call
        os.write(fd, _RING)
    except (BlockingIOError, BrokenPipeError):  # rung more than often enough; nobody there
        pass


def silence_bell(fd: int) -> None:
    """Make this side's descriptor unreadable again, if it is not already."""
    try:  # noqa: SIM105 -- as above
        os.read(fd, 4096)
    except BlockingIOError:
        pass


class Wakeup:
    """A doorbell between threads that can be rung at any time, closed or not, also from a finalizer.

    Attributes:
        fd: what the sleeping thread waits on.
    """

    def __init__(self) -> None:
        self.fd, self._ringing = new_bell()
        # Reentrant: a collection of garbage in the middle of `ring` may run a finalizer that rings.
        self._lock = threading.RLock()

    def ring(self) -> None:
        """Wake the thread, or let it not fall asleep."""
        with self._lock:  # once closed, the number may be another file's
            if self._ringing >= 0:
                ring_bell(self._ringing)

    def silence(self) -> None:
        """What the woken thread does first."""
        silence_bell(self.fd)

    def close(self) -> None:
        """Close the descriptors; ringing does nothing from now on."""
        with self._lock:
            fds = {self.fd, self._ringing} - {-1}
            self.fd = self._ringing = -1
            for fd in fds:
                os.close(fd)

    def after_fork(self) -> None:
        """In the child of a fork, where another thread may have held the lock for good."""
        self._lock = threading.RLock()
        self.close()
