"""Real servers, on loopback, on ports that the system chooses: `pexec` and redis-server as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import redis

from parallel_exec.verify.demo import RedisServer

ROOT = Path(__file__).resolve().parent.parent.parent
ENV = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


class Program:
    """A `pexec` that runs beside the test, ended with it."""

    def __init__(self, *arguments: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "parallel_exec", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENV,
            start_new_session=True,
        )

    def out(self) -> str:
        """Return the next line that it writes to stdout."""
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().rstrip("\n")

    def err(self) -> str:
        """Return the next line that it writes to stderr."""
        assert self.popen.stderr is not None
        return self.popen.stderr.readline().rstrip("\n")

    def end(self, number: int | None = signal.SIGTERM) -> tuple[int, str]:
        """Send it a signal, if any, wait for its end; return its exit status and the rest of stderr."""
        if number is not None:
            self.popen.send_signal(number)
        _, errors = self.popen.communicate()
        return self.popen.returncode, errors

    def kill(self) -> None:
        self.popen.kill()
        self.popen.communicate()


class Start(Protocol):
    """Starts `pexec` with these arguments."""

    def __call__(self, *arguments: str) -> Program: ...


class Serve(Protocol):
    """Starts `pexec serve` with these arguments; returns it and its address."""

    def __call__(self, *arguments: str, workers: int = 1) -> tuple[Program, str]: ...


class TestedRedis(RedisServer):
    """A redis-server that can be asked, and whose connections end with it."""

    __test__ = False  # what pytest would take for a class of tests

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._clients: list[Any] = []

    def client(self) -> Any:  # redis.Redis, whose methods are typed for its asynchronous twin as well
        self._clients.append(redis.Redis.from_url(self.url))
        return self._clients[-1]

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.kill()
