"""How many workers a pool has by default."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from parallel_exec._cpus import _cgroup_quota, usable_cpus


def test_affinity_bounds_the_number() -> None:
    assert 1 <= usable_cpus() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "membership", "quota"),
    [
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"cpu.max": "150000 100000"}, "0::/", 1.5),
        ({"cpu.max": "max 100000", "a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b", 2.0),
        ({"a/cpu.max": "200000 100000", "a/b/cpu.max": "50000 100000"}, "0::/a/b", 0.5),
        ({"cpu.max": "100000 100000"}, "0::/of/the/host", 1.0),
        ({"cpu/x/cpu.cfs_quota_us": "300000", "cpu/x/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/x", 3.0),
        ({"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/x", None),
        ({"cpu.max": "gibberish"}, "0::/", None),
    ],
)
def test_the_tightest_cgroup_quota_counts(
    tmp_path: Path, files: dict[str, str], membership: str, quota: float | None
) -> None:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (tmp_path / "membership").write_text(membership + "\n")
    assert _cgroup_quota(tmp_path / "cgroup", tmp_path / "membership") == quota
