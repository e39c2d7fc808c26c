"""What the service tells, as values: deployments, results, statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from parallel_exec.errors import PexecError


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployed:
    """A plugin that a server runs under a name.

    Attributes:
        name: the name.
        version: 1 for the first plugin of that name, and so on.
        plugin: the plugin's own name.
        digest: SHA-256 of what makes the plugin what it is, in hex.
        functions: names of its functions.
    """

    name: str
    version: int
    plugin: str
    digest: str
    functions: tuple[str, ...]


class Result(NamedTuple):
    """What became of a document of a stream.

    Attributes:
        document: its number in the stream, from 0.
        version: of the deployment, that ran; 0 if none did.
        value: the result, or with ``errors="return"`` the error.
    """

    document: int
    version: int
    value: Any | PexecError


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """How a time was distributed over jobs, in seconds; percentiles to within a factor of two."""

    count: int
    total: float
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceStats:
    """What a server's pool has done since it started.

    Attributes:
        jobs: how many have ended, failed ones included.
        failures: how many failed, by the name of the error's class.
        bytes_in, bytes_out: bytes of documents, and of what came back.
        queue, run, reset: how long jobs waited, ran, and how long their sandboxes took to be made ready again.
        waiting, in_flight: jobs that no worker has, and those that workers have.
        restarts: workers that took the place of others.
        workers: process id and number of jobs of each worker.
        calls: calls of Execute and ExecuteStream that run now.
        deployments: how many there are.
    """

    jobs: int
    failures: Mapping[str, int]
    bytes_in: int
    bytes_out: int
    queue: Spread
    run: Spread
    reset: Spread
    waiting: int
    in_flight: int
    restarts: int
    workers: tuple[tuple[int, int], ...]
    calls: int
    deployments: int
