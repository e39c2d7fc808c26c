"""The zygote: a small process of the pool's own that forks its workers, so that the user's process never forks.

It has one thread, imports the sandbox and maps the compiled engine once, and then forks a worker per request: a worker
starts in about a millisecond and shares those pages. It reports every birth and every death, and ends, killing its
workers, when the pool's process closes the connection or dies.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import traceback
from typing import NoReturn

from parallel_exec.pool._transport.block import Block
from parallel_exec.pool._transport.channel import Channel, Record, RecordKind
from parallel_exec.pool._workers import worker
from parallel_exec.sandbox import Engine


def main(descriptor: int, parent: int) -> NoReturn:
    """Be the zygote until the pool's process is gone.

    Args:
        descriptor: of the zygote's end of the connection.
        parent: process id of the pool's process.
    """
    # Ctrl-C is the user's process's business; so is what signals it has blocked in the thread that started this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        _Zygote(Channel.adopt(descriptor), parent).run()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)  # not sys.exit: nothing here needs tearing down


class _Zygote:
    def __init__(self, channel: Channel, parent: int) -> None:
        self._channel = channel
        self._workers: dict[int, int] = {}  # worker id by process id
        self._wakeup, self._signalled = socket.socketpair()
        for end in (self._wakeup, self._signalled):
            end.settimeout(0)
        signal.set_wakeup_fd(self._signalled.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # The connection ends with the parent, unless the parent forked by means that we do not see and a copy lives on.
        self._parent = _open_process(parent)

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        poll.register(self._wakeup.fileno(), select.POLLIN)
        if self._parent is not None:
            poll.register(self._parent, select.POLLIN)
        try:
            while True:
                ready = {fd for fd, _ in poll.poll()}
                if self._parent in ready:
                    return
                if self._wakeup.fileno() in ready:
                    with contextlib.suppress(BlockingIOError):
                        self._wakeup.recv(4096)
                    self._reap()
                if self._channel.fileno() in ready:
                    record = self._channel.receive()
                    if record is None:
                        return
                    self._serve(record)
        except OSError:
            return  # the connection broke while we wrote to it
        finally:
            self._kill_all()

    def _serve(self, record: Record) -> None:
        if record.kind is RecordKind.FORK:
            try:
                pid = self._fork(record)
            except OSError as error:
                self._channel.send(RecordKind.NOT_FORKED, record.ident, error.errno or 0)
            else:
                self._workers[pid] = record.ident
                self._channel.send(RecordKind.FORKED, record.ident, pid)
            finally:
                record.close()
        elif record.kind is RecordKind.KILL:
            # By this process, which alone knows that the process id still is the worker's.
            for pid, ident in self._workers.items():
                if ident == record.ident:
                    os.kill(pid, signal.SIGKILL)

    def _fork(self, record: Record) -> int:
        # Not before the first request: by then the parent has made sure that the compiled engine is in the cache, so
        # that nothing is compiled here (that would start threads, which do not survive a fork).
        Engine.shared()
        gc.freeze()  # a collection in a worker must not touch, and so copy, the pages it shares
        zygote = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._channel.close()
            self._wakeup.close()
            self._signalled.close()
            if self._parent is not None:
                os.close(self._parent)
            memory, request_bell, result_bell, control = record.fds
            block = Block(memory)
            os.close(memory)
            worker.run(block, request_bell, result_bell, Channel.adopt(control), zygote)
        except BaseException:
            traceback.print_exc()
        os._exit(1)

    def _reap(self) -> None:
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            ident = self._workers.pop(pid, None)
            if ident is not None:
                self._channel.send(RecordKind.EXITED, ident, status)

    def _kill_all(self) -> None:
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)
        for pid in self._workers:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _open_process(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends, where the system has such a thing."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(0)
    except (AttributeError, OSError):
        return None
