"""What starts the servers that tests talk to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from parallel_exec.service import Client
from tests.service.programs import Program, Serve, Start, TestedRedis


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Program] = []

    def begin(*arguments: str) -> Program:
        running.append(Program(*arguments))
        return running[-1]

    yield begin
    for process in running:
        process.kill()


@pytest.fixture
def serve(start: Start) -> Serve:
    def begin(*arguments: str, workers: int = 1) -> tuple[Program, str]:
        process = start("serve", "--workers", str(workers), *arguments)
        said = process.out()
        assert said.startswith("serving on "), process.end(None)
        return process, said.removeprefix("serving on ")

    return begin


@pytest.fixture(scope="module")  # not longer: tests of other modules look at what processes there are
def address() -> Iterator[str]:
    """Of a server that a module's tests share; each deploys under names of its own."""
    process = Program("serve", "--workers", "2", "--time-limit", "20")
    yield process.out().removeprefix("serving on ")
    status, errors = process.end()
    assert (status, errors) == (0, "")


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[TestedRedis]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed; on Debian and Ubuntu: apt-get install redis-server")
    folder = tmp_path / "redis"
    folder.mkdir()
    server = TestedRedis(folder)
    server.start()
    yield server
    server.close()
