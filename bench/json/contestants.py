"""The contestants of bench/json: our JSON and the engine's own in the sandbox, orjson, and V8 in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import orjson

import parallel_exec as px
from parallel_exec.sandbox._js.mailbox import Status

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import engines
from guest import Guest

ACTIONS = ("parse", "stringify", "round trip")
IDENTITY = px.Plugin("function identity(document) { return document }", name="identity.js")
LIMITS = px.Limits(time_s=None, memory_bytes=2 << 30, output_bytes=1 << 30, document_bytes=1 << 30)


class Contestant(ABC):
    """Times actions on the document that was loaded last."""

    name: str

    @abstractmethod
    def load(self, path: Path) -> None: ...

    @abstractmethod
    def times(self, action: str, count: int) -> list[float]:
        """Return the microseconds that each of that many runs took; nothing for an action that it does not do."""

    def close(self) -> None:  # noqa: B027 - only some hold anything
        pass


class GuestExports(Contestant):
    """The sandbox's JSON, timed export by export; the reset after each job is not timed."""

    def __init__(self, name: str, guest: Guest, read: str, write: str) -> None:
        self.name = name
        self._guest = guest
        self._exports = (read, "engine_invoke", write)

    def load(self, path: Path) -> None:
        self._document = path.read_bytes()

    def times(self, action: str, count: int) -> list[float]:
        return [self._time(action) for _ in range(count)]

    def _time(self, action: str) -> float:
        (read, _), _, (write, reply) = self._guest.run("identity", self._document, *self._exports)
        if reply.status != Status.OK:
            raise RuntimeError(f"{self.name}: the guest reports {Status(reply.status).name}")
        return {"parse": read, "stringify": write, "round trip": read + write}[action]

    def close(self) -> None:
        self._guest.close()


class Orjson(Contestant):
    """Python values."""

    name = "orjson"

    def load(self, path: Path) -> None:
        self._document = path.read_bytes()

    def times(self, action: str, count: int) -> list[float]:
        taken = []
        for _ in range(count):
            value = orjson.loads(self._document) if action == "stringify" else None
            start = time.perf_counter()
            if action != "stringify":
                value = orjson.loads(self._document)
            if action != "parse":
                orjson.dumps(value)
            taken.append((time.perf_counter() - start) * 1e6)
            del value
        return taken


class Node(Contestant):
    """V8, in a process of its own, which times itself."""

    name = "V8"

    def __init__(self) -> None:
        node = shutil.which("node")
        if node is None:
            raise FileNotFoundError("node is not on PATH")
        script = str(Path(__file__).with_name("v8.js"))
        self._process = subprocess.Popen([node, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("node has exited")
        return json.loads(line)

    def load(self, path: Path) -> None:
        self._ask(load=str(path))

    def times(self, action: str, count: int) -> list[float]:
        times: list[float] = self._ask(action=action, count=count)
        return times

    def close(self) -> None:
        self._process.communicate()


class Job(Contestant):
    """The whole job: a fresh sandbox's `call_bytes` of the identity, the result's bytes included."""

    name = "job"

    def __init__(self) -> None:
        self._sandbox = px.Sandbox(IDENTITY, limits=LIMITS)

    def load(self, path: Path) -> None:
        self._document = path.read_bytes()

    def times(self, action: str, count: int) -> list[float]:
        if action != "round trip":
            return []
        taken = []
        for _ in range(count):
            start = time.perf_counter()
            self._sandbox.call_bytes("identity", self._document)
            taken.append((time.perf_counter() - start) * 1e6)
        return taken

    def close(self) -> None:
        self._sandbox.close()


def node_version() -> str | None:
    """Return the version of Node, if it is installed."""
    node = shutil.which("node")
    return node and subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def contestants() -> list[Contestant]:
    """Return all contestants that are available here.

    Raises:
        BuildError: the engine with exports for its own JSON cannot be built.
    """
    with engines.instead(engines.build(Path(__file__).with_name("own.c"))):
        own = Guest(px.MemoryImage.capture(IDENTITY.source, name=IDENTITY.name), LIMITS)
    found: list[Contestant] = [
        GuestExports("ours", Guest(IDENTITY.image(), LIMITS), "engine_read", "engine_write"),
        GuestExports("engine", own, "engine_read_own", "engine_write_own"),
        Job(),
        Orjson(),
    ]
    if shutil.which("node") is not None:
        found.append(Node())
    return found
