"""Real servers: `pexec serve` and redis-server as processes, on loopback, on ports that the system chooses."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from parallel_exec.service import Client
from parallel_exec.verify.demo import RedisServer

ROOT = Path(__file__).resolve().parent.parent.parent
ENV = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


class Process:
    """A `pexec` that runs beside the test, ended with it."""

    def __init__(self, *arguments: str, cwd: Path | None = None) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "parallel_exec", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENV,
            cwd=cwd,
            start_new_session=True,
        )

    def out(self) -> str:
        """The next line that it writes to stdout."""
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().rstrip("\n")

    def err(self) -> str:
        """The next line that it writes to stderr."""
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


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Start `pexec` with these arguments."""
    running = []

    def begin(*arguments: str, **options: Any) -> Process:
        running.append(Process(*arguments, **options))
        return running[-1]

    yield begin
    for process in running:
        process.kill()


@pytest.fixture
def serve(start: Callable[..., Process]) -> Callable[..., tuple[Process, str]]:
    """Start `pexec serve` with these arguments; return it and its address."""

    def begin(*arguments: str, workers: int = 1) -> tuple[Process, str]:
        process = start("serve", "--workers", str(workers), *arguments)
        said = process.out()
        assert said.startswith("serving on "), process.end(None)
        return process, said.removeprefix("serving on ")

    return begin


@pytest.fixture(scope="module")  # not longer: tests of other modules look at what processes there are
def address() -> Iterator[str]:
    """Of a server that a module's tests share; each deploys under names of its own."""
    process = Process("serve", "--workers", "2", "--time-limit", "20")
    yield process.out().removeprefix("serving on ")
    status, errors = process.end()
    assert (status, errors) == (0, "")


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


class TestedRedis(RedisServer):
    """A redis-server of its own, which keeps what it has acknowledged when it is killed."""

    def client(self) -> Any:
        return redis.Redis.from_url(self.url)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[TestedRedis]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed; on Debian and Ubuntu: apt-get install redis-server")
    folder = tmp_path / "redis"
    folder.mkdir()
    server = TestedRedis(folder)
    server.start()
    yield server
    server.kill()
