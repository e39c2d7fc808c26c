"""Plugins, limits, deployments and statistics as messages, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from parallel_exec.errors import PluginError
from parallel_exec.limits import Limits
from parallel_exec.plugins import Plugin, WasmPlugin
from parallel_exec.pool import PoolStats
from parallel_exec.pool._stats import Distribution
from parallel_exec.service._protocol import messages
from parallel_exec.service._protocol.values import Deployed, ServiceStats, Spread

_BOUNDS = ("time_s", "grace_s", "fuel", "memory_bytes", "output_bytes", "document_bytes", "console_bytes")


def limits_to_message(limits: Limits | None) -> Any:
    """Return limits as a message; None is one that says nothing.

    Raises:
        ValueError: the limits say more than bounds, which is all that a server takes.
    """
    if limits is None:
        return messages.Limits()
    said = {name: getattr(limits, name) for name in _BOUNDS if getattr(limits, name) is not None}
    if replace(Limits(), **said) != replace(limits, time_s=limits.time_s or Limits().time_s):
        raise ValueError("a server takes bounds only: Limits.seed, time, clock and interrupt cannot be sent")
    return messages.Limits(**said)


def limits_from_message(message: Any, general: Limits) -> Limits | None:
    """Return the limits that a message asks for, or None if it says nothing.

    Args:
        message: what came.
        general: the limits that hold anyway, and so for what the message does not say.

    Raises:
        ValueError: a value is out of its range; the message names the field.
    """
    said = {name: value for name in _BOUNDS if (value := getattr(message, name))}
    return replace(general, **said) if said else None


def plugin_to_message(plugin: Plugin | WasmPlugin) -> Any:
    """Return a plugin as a message.

    Raises:
        ValueError: the plugin has host functions, which are this process's. UnicodeEncodeError: its source is no text.
    """
    if plugin.host:
        raise ValueError(f"{plugin.name}: a plugin with host functions cannot be sent to a server")
    message = messages.Plugin(name=plugin.name, domain=plugin.domain or "", limits=limits_to_message(plugin.limits))
    if isinstance(plugin, WasmPlugin):
        message.wasm = plugin.wasm
    else:
        message.javascript, message.kind, message.no_eval = plugin.source, plugin.kind, not plugin.eval
    return message


def plugin_from_message(message: Any, general: Limits) -> Plugin | WasmPlugin:
    """Return the plugin that a message has.

    Args:
        message: what came.
        general: the limits that hold anyway.

    Raises:
        PluginError: the message has no code. ValueError: a value is not what it can be.
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
    """Return a deployment that a message tells of."""
    return Deployed(
        name=message.name,
        version=message.version,
        plugin=message.plugin,
        digest=message.digest,
        functions=tuple(message.functions),
    )


def stats_to_message(stats: PoolStats, *, calls: int, deployments: int) -> Any:
    """Return a pool's statistics as a message."""
    return messages.StatsResponse(
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
    """Return the statistics that a message tells."""
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
