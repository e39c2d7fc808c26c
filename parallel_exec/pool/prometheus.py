"""A pool's statistics for Prometheus; needs the extra: ``pip install 'parallel_exec[prometheus]'``."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

from parallel_exec.pool._pool import Pool
from parallel_exec.pool._stats import Distribution, PoolStats

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["PoolCollector"]


class PoolCollector:
    """Gives a pool's statistics when it is scraped; nothing is done in between. It does not keep the pool open, and
    gives nothing once the pool is gone.

    ::

        from prometheus_client import REGISTRY
        REGISTRY.register(PoolCollector(pool, name="pricing"))

    Args:
        pool: the pool.
        name: value of the label ``pool``, to tell the metrics of several pools apart.

    Raises:
        ImportError: prometheus-client is not installed.
    """

    def __init__(self, pool: Pool, name: str = "default") -> None:
        try:
            import prometheus_client  # noqa: F401
        except ImportError:
            raise ImportError("metrics need prometheus-client: pip install 'parallel_exec[prometheus]'") from None
        self._pool = weakref.ref(pool)
        self._name = name

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, as the registry asks for them."""
        pool = self._pool()
        if pool is not None:
            yield from self._metrics(pool.stats())

    def describe(self) -> list[Metric]:
        """Nothing: registering collects nothing."""
        return []

    def _metrics(self, stats: PoolStats) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        counters = (
            ("jobs", "Jobs that have ended, failed ones included.", stats.jobs),
            ("document_bytes", "Bytes of documents.", stats.bytes_in),
            ("result_bytes", "Bytes of results, errors and console records.", stats.bytes_out),
            ("fuel", "WebAssembly instructions, where they are counted.", stats.fuel.total),
        )
        for name, text, value in counters:
            counter = CounterMetricFamily(f"parallel_exec_{name}", text, labels=["pool"])
            counter.add_metric([self._name], value)
            yield counter
        failures = CounterMetricFamily(
            "parallel_exec_failures", "Jobs that failed, by class.", labels=["pool", "error"]
        )
        for error, number in stats.failures.items():
            failures.add_metric([self._name, error], number)
        yield failures
        events = CounterMetricFamily("parallel_exec_events", "What happened to workers.", labels=["pool", "event"])
        for kind, number in stats.events.items():
            events.add_metric([self._name, kind], number)
        yield events
        gauges = (
            ("workers", "Workers that are alive.", len(stats.workers)),
            ("jobs_waiting", "Jobs that no worker has.", stats.waiting),
            ("jobs_in_flight", "Jobs that workers have.", stats.in_flight),
        )
        for name, text, value in gauges:
            gauge = GaugeMetricFamily(f"parallel_exec_{name}", text, labels=["pool"])
            gauge.add_metric([self._name], value)
            yield gauge
        times = (
            ("queue", "Seconds until a worker began a job.", stats.queue),
            ("run", "Seconds that jobs took, resets included.", stats.run),
            ("reset", "Seconds that resets took.", stats.reset),
        )
        for name, text, distribution in times:
            histogram = HistogramMetricFamily(f"parallel_exec_{name}_seconds", text, labels=["pool"])
            histogram.add_metric([self._name], _buckets(distribution), distribution.total)
            yield histogram


def _buckets(distribution: Distribution) -> list[tuple[str, float]]:
    """Cumulative buckets from a microsecond to some minutes, a factor of four apart."""
    found, below = [], 0
    for bits, number in enumerate(distribution.buckets):
        below += number
        if 10 <= bits <= 38 and bits % 2 == 0:
            found.append((repr((1 << bits) * distribution.unit), float(below)))
    return [*found, ("+Inf", float(distribution.count))]
