"""The same work done elsewhere: by JavaScript engines without a fresh sandbox per job, and by Python itself.

All are warm: the plugin is loaded once, and jobs see each other's state. The document goes in as JSON text, and the
result comes out as JSON text.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import orjson

from parallel_exec.errors import JSError, PluginError
from parallel_exec.measure.fixture import FUNCTION, is_shipped
from parallel_exec.measure.strategies import Work

_WRAPPER = "(text => JSON.stringify({function}(JSON.parse(text))) ?? 'null')"
EARTH_RADIUS_M = 6371000


class NotForThisWork(Exception):
    """The peer cannot do this work; the message says why."""


class Peer(ABC):
    """One peer.

    Attributes:
        name: what reports call it.
        package: the package to install.
        module: the module that the package provides.
        batched: whether jobs overlap; they never do here.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    module: ClassVar[str]
    batched: ClassVar[bool] = False

    def __init__(self, work: Work) -> None:
        self.work = work

    @classmethod
    def available(cls) -> bool:
        """Tell whether the peer is installed."""
        return importlib.util.find_spec(cls.module) is not None

    @abstractmethod
    def prepare(self) -> None:
        """Load the plugin.

        Raises:
            NotForThisWork: the peer cannot do this work.
        """

    @abstractmethod
    def run(self) -> bytes:
        """Run one job and return its result as JSON text.

        Raises:
            PexecError: the job failed.
        """

    def run_many(self, jobs: int) -> list[bytes]:
        """Run jobs and return their results.

        Raises:
            PexecError: a job failed.
        """
        return [self.run() for _ in range(jobs)]

    def close(self) -> None:  # noqa: B027 - only one of them holds anything
        """Release what `prepare` acquired."""


class _JavaScriptPeer(Peer):
    """A peer that evaluates the plugin's source, which therefore must be a script."""

    _call: Any

    @abstractmethod
    def evaluate(self, source: str) -> Any:
        """Evaluate a script and return its value."""

    def prepare(self) -> None:
        work = self.work
        if not work.function.isidentifier():
            raise NotForThisWork(f"{work.function!r} is not a plain name")
        try:
            self.evaluate(work.plugin.source)
            self._call = self.evaluate(_WRAPPER.format(function=work.function))
        except Exception as error:  # each engine has its own exception
            raise NotForThisWork(f"it cannot load the plugin as a script: {_first_line(error)}") from None
        self._text = work.document.decode()

    def run(self) -> bytes:
        try:
            result = self._call(self._text)
        except Exception as error:
            raise JSError(self.name, _first_line(error)) from None
        return str(result).encode("utf-8", "surrogatepass")


class QuickJS(_JavaScriptPeer):
    """The engine of the sandbox, compiled natively."""

    name = "quickjs-ng native"
    package = "quickjs-ng"
    module = "quickjs"

    def prepare(self) -> None:
        self._context = importlib.import_module("quickjs").Context()
        super().prepare()

    def evaluate(self, source: str) -> Any:
        return self._context.eval(source)


class MiniRacer(_JavaScriptPeer):
    """V8, in this process."""

    name = "mini-racer (V8)"
    package = "mini-racer"
    module = "py_mini_racer"

    _racer: Any = None

    def prepare(self) -> None:
        self._racer = importlib.import_module("py_mini_racer").MiniRacer()
        super().prepare()

    def evaluate(self, source: str) -> Any:
        return self._racer.eval(source)

    def close(self) -> None:
        if self._racer is not None:
            self._call = None
            self._racer.close()
            self._racer = None


class PlainPython(Peer):
    """The shipped plugin, rewritten in Python."""

    name = "Python with orjson"
    package = "orjson"
    module = "orjson"

    def prepare(self) -> None:
        if self.work.function != FUNCTION or not is_shipped(self.work.plugin):
            raise NotForThisWork("only the shipped plugin has a counterpart in Python")

    def run(self) -> bytes:
        try:
            return orjson.dumps(track_length(orjson.loads(self.work.document)))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise PluginError(f"the document does not suit the Python counterpart: {error!r}") from None


def distance(lat0: float, lon0: float, lat1: float, lon1: float) -> float:
    """Return the distance in metres between two positions in degrees, as `fixtures/track_length.js` computes it."""
    rad = math.pi / 180
    cosine = math.sin(lat0 * rad) * math.sin(lat1 * rad) + math.cos(lat0 * rad) * math.cos(lat1 * rad) * math.cos(
        (lon1 - lon0) * rad
    )
    return EARTH_RADIUS_M * math.acos(max(-1, cosine)) if cosine < 1 else 0.0


def track_length(data: Any) -> float:
    """Return the length in metres of the path through a FeatureCollection's points, as the shipped plugin does."""
    features = data["features"]
    length: float = 0
    for index in range(1, len(features)):
        lon0, lat0 = features[index - 1]["geometry"]["coordinates"]
        lon1, lat1 = features[index]["geometry"]["coordinates"]
        length += distance(lat0, lon0, lat1, lon1)
    return length


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


PEERS: tuple[type[Peer], ...] = (QuickJS, MiniRacer, PlainPython)
