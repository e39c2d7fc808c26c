"""`pexec verify-demo`: signed messages through a service from one end to the other, every answer checked.

::

    this process     module ──gRPC: deploy, swap──► pexec serve: a pool
         │                                              ▲ │
         │ messages ──► Redis stream ──► pexec consume ─┘ │ gRPC: execute
         └── answers ◄── Redis stream ◄── pexec consume ◄─┘

With `chaos`, a worker, the consumer and Redis are killed in turn, each while messages are in flight.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import redis

from parallel_exec._codec import message_pack
from parallel_exec.errors import PexecError
from parallel_exec.plugins import WasmPlugin
from parallel_exec.service import Client
from parallel_exec.verify.messages import SchemeChoice, Signed, sign
from parallel_exec.verify.modules import module_path

_MODULES = ("both-speed-wide", "both-size-wide")
_NAME = "verify"
_STREAM, _RESULTS, _GROUP = "pexec:messages", "pexec:answers", "pexec"
# The longest wait for an answer. A consumer needs a second to find out that another one is gone.
_PATIENCE_S = 60.0

Say = Callable[[str], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoOutcome:
    """What came back.

    Attributes:
        messages: how many were put into the stream.
        right, wrong: how many were first answered correctly, and how many were not.
        lost: messages without an answer.
        twice: answers to messages that already had one.
        killed: what was killed.
        seconds: from the first message to the last answer.
    """

    messages: int
    right: int
    wrong: int
    lost: int
    twice: int
    killed: tuple[str, ...]
    seconds: float

    @property
    def good(self) -> bool:
        """Whether every message was answered correctly and once."""
        return self.right == self.messages and not (self.wrong or self.lost or self.twice)


def run_demo(scheme: SchemeChoice, count: int, *, workers: int, chaos: bool, say: Say) -> DemoOutcome:
    """Run the demo.

    Args:
        scheme: how the messages are signed.
        count: how many messages there are.
        workers: processes of the server's pool.
        chaos: whether to kill processes.
        say: told what happens.

    Raises:
        PluginError: a module is missing or cannot be built.
        PexecError: a part is not installed, or does not start.
    """
    messages = sign(scheme, count, seed=1)
    modules = [WasmPlugin.from_file(module_path(name)) for name in _MODULES]
    with TemporaryDirectory(prefix="pexec-demo-") as folder, _Scene(Path(folder), workers, say) as scene:
        scene.client.deploy(_NAME, modules[0])
        scene.consume()
        begin = time.perf_counter()
        quarters = [messages[count * part // 4 : count * (part + 1) // 4] for part in range(4)]
        kills = [scene.kill_a_worker, scene.kill_the_consumer, scene.kill_redis] if chaos else []
        killed: list[str] = []
        for number, quarter in enumerate(quarters):
            scene.put(quarter)
            killed += [kill() for kill in kills[number : number + 1]]
            if number == 1:
                version = scene.client.swap(_NAME, modules[1]).version
                say(f"swapped the module; it runs as version {version}")
        answers = scene.answers()
        seconds = time.perf_counter() - begin
    right = sum(said is expected for said, expected in answers.values())
    return DemoOutcome(
        messages=count,
        right=right,
        wrong=len(answers) - right,
        lost=count - len(answers),
        twice=scene.twice,
        killed=tuple(killed),
        seconds=seconds,
    )


class _Scene:
    """The processes that take part, and what has gone in and come out."""

    def __init__(self, folder: Path, workers: int, say: Say) -> None:
        self.twice = 0
        self._say = say
        self._expected: dict[bytes, bool] = {}
        self._opened = ExitStack()
        self._processes: list[subprocess.Popen[str]] = []
        try:
            self._server = RedisServer(folder)
            self._opened.callback(self._server.kill)
            self._server.start()
            self._redis: Any = redis.Redis.from_url(self._server.url)
            self._address = self._serve(workers)
            self.client = self._opened.enter_context(Client(self._address))
        except BaseException:
            self.close()
            raise
        say(f"pexec serve on {self._address}, Redis on {self._server.url}")

    def _serve(self, workers: int) -> str:
        """Start a server and return its address."""
        process = self._start("serve", "--workers", str(workers), stdout=subprocess.PIPE)
        assert process.stdout is not None
        said = process.stdout.readline().split()
        if not said:
            raise PexecError("pexec serve does not start, the reason stands above")
        return said[-1]

    def consume(self) -> None:
        """Start a consumer."""
        options = {"--server": self._address, "--deployment": _NAME, "--function": "verify_message"}
        options |= {"--stream": _STREAM, "--group": _GROUP, "--results": _RESULTS}
        options |= {"--input": "msgpack", "--claim-after": "1", "--deliveries": "10"}
        arguments = [part for pair in options.items() for part in pair]
        self._consumer = self._start("consume", self._server.url, *arguments)

    def put(self, messages: Sequence[Signed]) -> None:
        """Put messages into the stream."""
        pipe = self._redis.pipeline(transaction=False)
        for message in messages:
            pipe.xadd(_STREAM, {"document": message_pack.pack(message.request())})
        self._expected |= zip(pipe.execute(), (message.valid for message in messages), strict=True)

    def kill_a_worker(self) -> str:
        """Kill a worker of the server's pool, which replaces it."""
        self._wait_for_work()
        pid = max(pid for pid, _ in self.client.stats().workers)
        os.kill(pid, signal.SIGKILL)
        return self._told(f"worker {pid}")

    def kill_the_consumer(self) -> str:
        """Kill the consumer and start another one, and return when that one works."""
        self._wait_for_work()
        self._consumer.kill()
        self._consumer.wait()
        answered = self._redis.xlen(_RESULTS)
        told = self._told(f"consumer {self._consumer.pid}")
        self.consume()
        while answered == self._redis.xlen(_RESULTS) < len(self._expected):
            if self._consumer.poll() is not None:
                raise PexecError("pexec consume has ended, the reason stands above")
        return told

    def kill_redis(self) -> str:
        """Kill Redis and start it again."""
        self._wait_for_work()
        self._server.kill()
        told = self._told("redis-server")
        self._server.start()
        self._redis = redis.Redis.from_url(self._server.url)
        return told

    def _wait_for_work(self) -> None:
        """Return when messages are being verified, or all have been."""
        while self._redis.xlen(_RESULTS) < len(self._expected):
            groups = self._redis.xinfo_groups(_STREAM)
            if groups and groups[0]["pending"]:
                return

    def _told(self, what: str) -> str:
        self._say(f"killed {what} (kill -9)")
        return what

    def answers(self) -> dict[bytes, tuple[bool | None, bool]]:
        """Wait for the answers; return, for each message, what was said about its signature and what is true."""
        found: dict[bytes, tuple[bool | None, bool]] = {}
        last: Any = b"0"
        until = time.monotonic() + _PATIENCE_S
        while len(found) < len(self._expected) and time.monotonic() < until:
            for _, entries in self._redis.xread({_RESULTS: last}, block=1000, count=1000) or []:
                for last, fields in entries:  # noqa: B007 - `last` is where the next read begins
                    self.twice += fields[b"entry"] in found
                    found[fields[b"entry"]] = _verdict(fields), self._expected[fields[b"entry"]]
                until = time.monotonic() + _PATIENCE_S
        return found

    def _start(self, *arguments: str, stdout: int | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "parallel_exec", *arguments]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, text=True, start_new_session=True)
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _verdict(fields: dict[bytes, bytes]) -> bool | None:
    if fields[b"status"] != b"ok":
        return None
    answer = message_pack.decode(fields[b"result"])
    valid = answer.get("valid") if isinstance(answer, dict) else None
    return valid if isinstance(valid, bool) else None


class RedisServer:
    """A redis-server process of our own, on loopback. What it has acknowledged survives `kill` and `start`.

    Attributes:
        url: what clients connect to.

    Args:
        folder: where its data goes.

    Raises:
        PexecError: redis-server is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if shutil.which("redis-server") is None:
            raise PexecError("redis-server is not installed; on Debian and Ubuntu: apt-get install redis-server")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and return when it answers.

        Raises:
            PexecError: it ended instead.
        """
        options = {"port": self._port, "bind": "127.0.0.1", "dir": self._folder, "save": "", "daemonize": "no"}
        options |= {"appendonly": "yes", "appendfsync": "always"}
        arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        # In a session of its own, so that Ctrl-C does not end it before the processes that use it.
        self._process = subprocess.Popen(
            ["redis-server", *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "Ready to accept connections" in line:
                return
        raise PexecError(f"redis-server ended with status {self._process.wait()} instead of starting")

    def kill(self) -> None:
        """End it at once, as a crash would. Calling it again does nothing."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
