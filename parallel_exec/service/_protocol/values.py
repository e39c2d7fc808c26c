"""What client and server exchange, as values and as messages: plugins, limits, deployments, results, statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from parallel_exec.errors import PexecError, PluginError
from parallel_exec.limits import Limits
from parallel_exec.plugins import Plugin, WasmPlugin
from parallel_exec.pool import PoolStats
from parallel_exec.pool._stats import Distribution
from parallel_exec.service._protocol import schema

_BOUNDS = ("time_s", "grace_s", "fuel", "memory_bytes", "output_bytes", "document_bytes", "console_bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployed:
    """A plugin that a server runs under a name.

    Attributes:
        name: the deployment's name.
        version: 1 for the first plugin of that name, and so on.
        plugin: the plugin's own name.
        digest: SHA-256 of the plugin's code and options, its limits excepted, in hex.
        functions: names of its functions.
    """

    name: str
    version: int
    plugin: str
    digest: str
    functions: tuple[str, ...]


class Result(NamedTuple):
    """The outcome of one document of a stream.

    Attributes:
        document: the document's number in the stream, from 0.
        version: the version of the deployment that ran; 0 if none did.
        value: the result, or with ``errors="return"`` the error.
    """

    document: int
    version: int
    value: Any | PexecError


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """The distribution of a duration over jobs, in seconds; percentiles to within a factor of two."""

    count: int
    total: float
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceStats:
    """What a server's pool has done since it started.

    Attributes:
        jobs: how many have ended, including those that failed.
        failures: how many failed, by the name of the error's class.
        bytes_in: bytes of documents.
        bytes_out: bytes of results.
        queue: how long jobs waited.
        run: how long they ran.
        reset: how long their sandboxes took to be reset.
        waiting: jobs that no worker has yet.
        in_flight: jobs that workers have.
        restarts: workers that replaced others.
        workers: process id and number of jobs of each worker.
        calls: calls of Execute and ExecuteStream that are running.
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


def limits_to_message(limits: Limits | None) -> Any:
    """Convert limits to a message; None becomes an empty one.

    Raises:
        ValueError: the limits contain more than bounds, which is all that a server accepts.
    """
    if limits is None:
        return schema.Limits()
    said = {name: getattr(limits, name) for name in _BOUNDS if getattr(limits, name) is not None}
    if replace(Limits(), **said) != replace(limits, time_s=limits.time_s or Limits().time_s):
        raise ValueError("a server accepts bounds only: Limits.seed, time, clock and interrupt cannot be sent")
    return schema.Limits(**said)


def limits_from_message(message: Any, general: Limits) -> Limits | None:
    """Return the limits that a message asks for, or None if it sets no limits.

    Args:
        message: a Limits message.
        general: the server's own limits, which fill in whatever the message leaves out.

    Raises:
        ValueError: a value is out of its range; the message names the field.
    """
    said = {name: value for name in _BOUNDS if (value := getattr(message, name))}
    return replace(general, **said) if said else None


def plugin_to_message(plugin: Plugin | WasmPlugin) -> Any:
    """Convert a plugin to a message.

    Raises:
        ValueError: the plugin has host functions, which exist only in this process.
        UnicodeEncodeError: its source contains lone surrogates.
    """
    if plugin.host:
        raise ValueError(f"{plugin.name}: a plugin with host functions cannot be sent to a server")
    message = schema.Plugin(name=plugin.name, domain=plugin.domain or "", limits=limits_to_message(plugin.limits))
    if isinstance(plugin, WasmPlugin):
        message.wasm = plugin.wasm
    else:
        message.javascript, message.kind, message.no_eval = plugin.source, plugin.kind, not plugin.eval
    return message


def plugin_from_message(message: Any, general: Limits) -> Plugin | WasmPlugin:
    """Convert a message to a plugin.

    Args:
        message: a Plugin message.
        general: the server's own limits.

    Raises:
        PluginError: the message has no code.
        ValueError: the kind is unknown, or a limit is out of its range.
    """
    code = message.WhichOneof("code")
    domain, limits = message.domain or None, limits_from_message(message.limits, general)
    if code == "wasm":
        return WasmPlugin(message.wasm, message.name or "plugin.wasm", domain=domain, limits=limits)
    name = message.name or "plugin.js"
    if code is None:
        raise PluginError("the plugin has no code").at(plugin=name)
    kind: Any = message.kind or "auto"
    return Plugin(message.javascript, name, kind, eval=not message.no_eval, domain=domain, limits=limits)


def deployed_from_message(message: Any) -> Deployed:
    """Convert a Deployment message to a value."""
    return Deployed(
        name=message.name,
        version=message.version,
        plugin=message.plugin,
        digest=message.digest,
        functions=tuple(message.functions),
    )


def stats_to_message(stats: PoolStats, *, calls: int, deployments: int) -> Any:
    """Convert a pool's statistics to a message."""
    return schema.StatsResponse(
        jobs=stats.jobs,
        failures=dict(stats.failures),
        bytes_in=stats.bytes_in,
        bytes_out=stats.bytes_out,
        queue=_percentiles(stats.queue),
        run=_percentiles(stats.run),
        reset=_percentiles(stats.reset),
        waiting=stats.waiting,
        in_flight=stats.in_flight,
        restarts=stats.restarts,
        workers=[{"worker": each.worker, "pid": each.pid or 0, "jobs": each.jobs} for each in stats.workers],
        calls=calls,
        deployments=deployments,
    )


def stats_from_message(message: Any) -> ServiceStats:
    """Convert a StatsResponse to a value."""
    same = ("jobs", "bytes_in", "bytes_out", "waiting", "in_flight", "restarts", "calls", "deployments")
    return ServiceStats(
        failures=dict(message.failures),
        queue=_spread(message.queue),
        run=_spread(message.run),
        reset=_spread(message.reset),
        workers=tuple((each.pid, each.jobs) for each in message.workers),
        **{name: getattr(message, name) for name in same},
    )


def _percentiles(spread: Distribution) -> dict[str, float]:
    of = spread.percentile
    return {"count": spread.count, "total": spread.total, "p50": of(50), "p90": of(90), "p99": of(99)}


def _spread(message: Any) -> Spread:
    return Spread(count=message.count, total=message.total, p50=message.p50, p90=message.p90, p99=message.p99)
