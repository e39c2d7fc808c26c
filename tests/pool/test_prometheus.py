"""Statistics for Prometheus, read back from the text that is scraped."""

from __future__ import annotations

import gc

import pytest

from parallel_exec.pool import Pool
from tests.pool.conftest import Tools

client = pytest.importorskip("prometheus_client", reason="pip install 'parallel_exec[prometheus]'")


def test_a_scrape_says_what_stats_say(tools: Tools) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    from parallel_exec.pool.prometheus import PoolCollector

    registry = client.CollectorRegistry()
    pool = Pool(1)
    registry.register(PoolCollector(pool, name="mine"))
    with pool:
        pool.warm_up()
        assert list(pool.map(tools.function("double"), range(50))) == list(range(0, 100, 2))
        pool.submit(tools.function("fail"), 1).exception()
        stats = pool.stats()
        families = list(text_string_to_metric_families(client.generate_latest(registry).decode()))
    samples: dict[tuple[str | tuple[str, str], ...], float] = {
        (sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples
    }
    mine = ("pool", "mine")
    assert samples["parallel_exec_jobs_total", mine] == stats.jobs == 51
    assert samples["parallel_exec_failures_total", ("error", "JSError"), mine] == 1
    assert samples["parallel_exec_document_bytes_total", mine] == stats.bytes_in
    assert samples["parallel_exec_workers", mine] == 1
    assert samples["parallel_exec_events_total", ("event", "worker started"), mine] == 1
    assert samples["parallel_exec_run_seconds_sum", mine] == pytest.approx(stats.run.total)
    buckets = {
        float(sample.labels["le"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "parallel_exec_run_seconds_bucket"
    }
    counts = [buckets[bound] for bound in sorted(buckets)]
    assert counts == sorted(counts) and counts[-1] == 51 == samples["parallel_exec_run_seconds_count", mine]
    assert sum(low < 51 for low in counts) >= 1
    del pool
    gc.collect()
    assert client.generate_latest(registry) == b""
