"""The work that bench/pool compares, as functions that any pool's workers can import."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

import parallel_exec as px
from parallel_exec.measure.fixture import document_path, plugin_path
from parallel_exec.measure.peers import track_length

TINY = b'{"type":"Feature","properties":{"id":12345,"name":"node"},"geometry":null,"ele":512.25,"ok":true}   '


def track_documents(count: int) -> list[bytes]:
    """Distinct documents of the shipped fixture's size and kind: each with other coordinates."""
    text = document_path().read_bytes()
    found = []
    for number in range(count):
        track = orjson.loads(text)
        for feature in track["features"]:
            lon, lat = feature["geometry"]["coordinates"][:2]
            feature["geometry"]["coordinates"][:2] = [round(lon + number * 1e-4, 7), round(lat - number * 1e-4, 7)]
        found.append(indented(track, len(text)))
    return found


def indented(value: Any, size: int) -> bytes:
    """As JSON text with the fixture's indentation, and so about its size."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).replace(b"\n  ", b"\n    ")
    return text + b" " * max(0, size - len(text))


@lru_cache(maxsize=1)
def sandbox() -> px.Sandbox:
    """This worker's sandbox of the shipped plugin."""
    return px.Sandbox(px.Plugin.from_file(plugin_path()))


def in_sandbox(document: bytes) -> bytes:
    """One job as ours: in a fresh sandbox."""
    return sandbox().call_bytes("calculate", document)


@lru_cache(maxsize=1)
def _racer() -> Any:
    from py_mini_racer import MiniRacer

    context = MiniRacer()
    context.eval(Path(plugin_path()).read_text())
    # The function itself, not its name for `call`, which would put the text into JSON once more.
    return context, context.eval("text => JSON.stringify(calculate(JSON.parse(text)))")


def in_mini_racer(document: bytes) -> bytes:
    """One job in V8, warm: jobs see each other's state."""
    _, job = _racer()
    result: str = job(document.decode())
    return result.encode()


def in_python(document: bytes) -> bytes:
    """The plugin's function in Python, on orjson: no sandbox."""
    return orjson.dumps(track_length(orjson.loads(document)))


def nothing(document: Any) -> None:
    """A job without work."""
