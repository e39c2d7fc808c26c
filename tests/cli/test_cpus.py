"""That commands start as many workers as the cgroup's CPU quota allows.

One test sets a quota on a real cgroup of its own, if it may make one. The others have the commands read files of the
kernel's format from another folder.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from parallel_exec import _cpus, pool
from parallel_exec.cli import batch, options
from parallel_exec.limits import Limits
from tests.cli.command import Pexec, command

CPUS = 64
FILES = {"cpu.max": "max 100000", "box/cpu.max": "150000 100000"}


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this look like a machine with 64 CPUs and a cgroup with a quota of 1.5 CPUs."""
    for name, text in FILES.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (tmp_path / "membership").write_text("0::/box\n")
    monkeypatch.setattr(_cpus, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(_cpus, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(CPUS)))


@pytest.mark.usefixtures("container")
def test_the_quota_bounds_the_number_of_workers() -> None:
    assert _cpus.usable_cpus() == 2
    assert options.count_workers(None) == 2
    assert options.count_workers(5) == 5
    with pool.Pool() as started:
        assert len(started.stats().workers) == 2


@pytest.mark.usefixtures("container")
def test_run(pexec: Pexec, plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    class CountedPool(pool.Pool):
        def __init__(self, workers: int, *, limits: Limits) -> None:
            started.append(workers)
            super().__init__(workers, limits=limits)

    monkeypatch.setattr(pool, "Pool", CountedPool)
    monkeypatch.setattr(batch.run_batch, "__kwdefaults__", {"alone_s": 0.0})
    monkeypatch.setattr("parallel_exec.cli.run.WORTH_S", 0.0)
    (tmp_path / "docs").write_text('{"a":1}\n' * 5)
    for watch in ((), ("--watch",)):
        assert pexec("run", plugin, "docs", "--lines", *watch).out == "1\n" * 5
    assert started == [2, 2]


@pytest.mark.usefixtures("container")
@pytest.mark.parametrize("name", ["bench", "profile"])
def test_bench_and_profile(pexec: Pexec, tmp_path: Path, name: str) -> None:
    assert pexec(name, "--jobs", "2", "--strategies", "parallel", "--json", "out.json").status == 0
    figures = json.loads((tmp_path / "out.json").read_bytes())
    assert (figures["workers"], figures["machine"]["cpus"]) == (2, 2)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of this machine, with a quota of one CPU."""
    version2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    top = Path("/sys/fs/cgroup" if version2 else "/sys/fs/cgroup/cpu")
    folder = top / f"pexec-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        if version2:
            (folder / "cpu.max").write_text("100000 100000")
        else:
            (folder / "cpu.cfs_quota_us").write_text("100000")
    except OSError as error:
        folder.rmdir()
        pytest.skip(f"no quota can be set here: {error}")
    yield folder
    folder.rmdir()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU is all there is, with a quota or without")
def test_in_a_real_cgroup(cgroup: Path, tmp_path: Path, env: dict[str, str]) -> None:
    def workers() -> Any:
        join = f'echo $$ > "{cgroup}/cgroup.procs" && exec "$0" "$@"'
        words = command("profile", "--jobs", "1", "--strategies", "image", "--json", "-")
        ran = subprocess.run(["/bin/sh", "-c", join, *words], capture_output=True, cwd=tmp_path, env=env, check=True)
        return json.loads(ran.stdout)["workers"]

    assert workers() == 1
