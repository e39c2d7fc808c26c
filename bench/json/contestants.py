"""Who reads and writes JSON in bench/json: ours and the engine's own in the sandbox, orjson, and V8 in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import orjson

import parallel_exec as px
from parallel_exec.sandbox._js.mailbox import Status

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
        """Return the microseconds of each of so many runs."""

    def close(self) -> None:  # noqa: B027 - only some hold anything
        pass


class Guest(Contestant):
    """The sandbox's JSON, timed export by export; after each the memory is reset, untimed."""

    def __init__(self, name: str, read: str, write: str) -> None:
        self.name = name
        self._sandbox = px.Sandbox(IDENTITY, limits=LIMITS)
        self._read, self._write = read, write

    def load(self, path: Path) -> None:
        self._document = path.read_bytes()

    def times(self, action: str, count: int) -> list[float]:
        return [self._time(action) for _ in range(count)]

    def _time(self, action: str) -> float:
        sandbox = self._sandbox
        instance = sandbox._runner._instance or sandbox._runner._open()
        image = sandbox._runner._image
        end = sandbox._runner._writer.write(instance, "identity", self._document, 0, image.input_ptr)
        read, invoke, write = instance.bind(self._read), instance.bind("engine_invoke"), instance.bind(self._write)
        start = time.perf_counter()
        read()
        taken = {"parse": time.perf_counter() - start}
        invoke()
        start = time.perf_counter()
        write()
        taken["stringify"] = time.perf_counter() - start
        taken["round trip"] = taken["parse"] + taken["stringify"]
        reply = instance.reply()
        if reply.status != Status.OK:
            raise RuntimeError(f"{self.name}: the guest reports {Status(reply.status).name}")
        image.plan.apply(instance, min(max(reply.high_water, end), instance.size()), reply.stack_low)
        return taken[action] * 1e6

    def close(self) -> None:
        self._sandbox.close()


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
    """V8, in a process of its own that times itself."""

    name = "V8"

    def __init__(self) -> None:
        node = shutil.which("node")
        if node is None:
            raise FileNotFoundError("node is not on PATH")
        script = str(Path(__file__).with_name("v8.js"))
        self._process = subprocess.Popen([node, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("node has ended")
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


def contestants() -> list[Contestant]:
    """Return all that can take part here."""
    found: list[Contestant] = [
        Guest("ours", "engine_read", "engine_write"),
        Guest("engine", "engine_read_own", "engine_write_own"),
        Job(),
        Orjson(),
    ]
    if shutil.which("node") is not None:
        found.append(Node())
    return found
