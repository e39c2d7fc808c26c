"""`pexec bench` and `pexec profile`: that all strategies come to the same, and what is told of them."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from parallel_exec.measure.strategies import STRATEGIES, JobStage
from parallel_exec.measure.strategies.resident import Resident
from tests.cli.command import Pexec

ALL = ["baseline", "wizer", "wizer-plus", "cached", "parser", "image", "parallel"]
ENTRY = {"name": str, "median_us": float, "p10_us": float, "p90_us": float, "jobs": int, "jobs_per_s": float}


def check_entry(entry: dict[str, Any], jobs: int) -> None:
    for key, kind in ENTRY.items():
        assert isinstance(entry[key], kind), key
    assert 0 < entry["p10_us"] <= entry["median_us"] <= entry["p90_us"]
    assert entry["jobs"] == jobs
    assert entry["jobs_per_s"] > 0


def test_all_strategies_on_the_shipped_fixture(pexec: Pexec, tmp_path: Path) -> None:
    ran = pexec("bench", "--jobs", "12", "--workers", "2", "--json", "bench.json")
    assert (ran.status, ran.lines) == (0, [])
    for name in ALL:
        assert f"\n {name} " in ran.out
    for reference in ("8.33 ms", "0.476 ms", "Rust, another machine"):
        assert reference in ran.out
    figures = json.loads((tmp_path / "bench.json").read_bytes())
    assert [entry["name"] for entry in figures["strategies"]] == ALL
    for entry in figures["strategies"]:
        check_entry(entry, 12)
        assert entry["answer"] == pytest.approx(figures["strategies"][0]["answer"], rel=1e-5)
    assert figures["strategies"][0]["answer"] > 1000
    # Twelve jobs in flight are one batch, and one measurement has no spread.
    assert [entry["samples"] for entry in figures["strategies"]] == [12] * (len(ALL) - 1) + [1]
    (row,) = (line for line in ran.out.splitlines() if line.startswith(" parallel "))
    assert row.count(" us ") + row.count(" ms ") == 3  # median, first result and reference; no p10, no p90
    assert "for one batch, so no p10 and p90" in ran.out
    assert figures["peers"] == []
    assert figures["machine"]["cpus"] >= 1
    assert {"parallel_exec", "python", "wasmtime"} <= figures["versions"].keys()
    assert figures["document"]["name"] == "track_points.json"
    assert figures["document"]["bytes"] > 100_000


def test_own_plugin_and_document(pexec: Pexec, tmp_path: Path) -> None:
    # Chance and time are the same for all strategies, or their answers would differ.
    (tmp_path / "p.mjs").write_text(
        "export async function f(d) {"
        " const chance = [Math.random(), Math.random()];"
        " return { sum: d.a + d.b, text: 'é', none: undefined, chance, time: Date.now() } }"
    )
    (tmp_path / "d.json").write_text('{"a": 1, "b": 2}')
    arguments = ("--jobs", "3", "--workers", "1", "--strategies", ",".join(reversed(ALL)), "--json", "-")
    ran = pexec("bench", "p.mjs", "d.json", *arguments)
    assert ran.status == 0
    figures = json.loads(ran.out)
    assert [entry["name"] for entry in figures["strategies"]] == ALL
    for entry in figures["strategies"]:
        answer = entry["answer"]
        assert answer == figures["strategies"][0]["answer"]
        assert (answer["sum"], answer["text"]) == (3, "é")
        assert answer.keys() == {"sum", "text", "chance", "time"}
        assert answer["chance"][0] != answer["chance"][1]
    assert "baseline" in ran.err  # the table makes way for the JSON
    assert "another machine" not in ran.err  # what is reported from there is of the shipped document
    assert figures["reference_ms"] == {}


def test_another_answer_is_an_error_that_names_the_strategy(
    pexec: Pexec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(Resident):
        def run(self) -> bytes:
            return super().run().replace(b"1", b"1.001")

    monkeypatch.setitem(STRATEGIES, "image", Wrong)
    (tmp_path / "p.js").write_text("const f = d => ({ deep: [0, d] })")
    (tmp_path / "d.json").write_text("1")
    ran = pexec("bench", "p.js", "d.json", "--jobs", "2", "--strategies", "baseline,image", "--json", "out.json")
    assert ran.status == 1
    assert ran.lines == ["pexec: error: the answers of 'baseline' and 'image' differ at $.deep[1]: 1 and 1.001"]
    assert ran.out == ""
    assert not (tmp_path / "out.json").exists()


def test_an_answer_that_changes_later_is_an_error_too(
    pexec: Pexec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fickle(Resident):
        jobs = 0

        def run(self) -> bytes:
            self.jobs += 1
            return super().run() if self.jobs < 9 else b"2"

    monkeypatch.setitem(STRATEGIES, "image", Fickle)
    (tmp_path / "p.js").write_text("const f = d => d")
    (tmp_path / "d.json").write_text("1")
    ran = pexec("bench", "p.js", "d.json", "--jobs", "20", "--strategies", "baseline,image")
    assert ran.status == 1
    assert "differ at $: 1 and 2" in ran.lines[0]


def test_peers(pexec: Pexec, tmp_path: Path) -> None:
    ran = pexec("bench", "--jobs", "3", "--strategies", "image", "--peers", "--json", "bench.json")
    assert ran.status == 0
    figures = json.loads((tmp_path / "bench.json").read_bytes())
    measured = {entry["name"]: entry for entry in figures["peers"]}
    modules = {"quickjs-ng native": "quickjs", "mini-racer (V8)": "py_mini_racer", "Python with orjson": "orjson"}
    for name, module in modules.items():
        if importlib.util.find_spec(module):
            check_entry(measured[name], 3)
            assert measured[name]["answer"] == pytest.approx(figures["strategies"][0]["answer"], rel=1e-5)
        else:
            assert figures["peers_missing"][name].startswith("not installed: pip install ")
            assert f"not measured: {name}: not installed" in ran.out


def test_peers_that_cannot_are_named(pexec: Pexec, tmp_path: Path) -> None:
    (tmp_path / "p.mjs").write_text("export const f = d => d")
    (tmp_path / "d.json").write_text("1")
    ran = pexec("bench", "p.mjs", "d.json", "--jobs", "2", "--strategies", "image", "--peers")
    assert ran.status == 0
    assert "not measured: Python with orjson: only the shipped plugin has a counterpart in Python" in ran.out


def test_profile(pexec: Pexec, tmp_path: Path) -> None:
    ran = pexec("profile", "--jobs", "10", "--workers", "1", "--json", "profile.json")
    assert (ran.status, ran.lines) == (0, [])
    figures = json.loads((tmp_path / "profile.json").read_bytes())
    assert figures["stages"] == [str(stage) for stage in JobStage]
    stages = {entry["name"]: entry["stages_us"] for entry in figures["strategies"]}
    assert list(stages) == ALL
    always = {"copy in", "run", "write", "copy out", "reset"}
    assert stages["baseline"].keys() == always | {"instantiate", "initialise", "load script", "parse"}
    assert stages["wizer"].keys() == always | {"instantiate", "load script", "parse"}
    assert stages["wizer-plus"].keys() == stages["parser"].keys() == always | {"instantiate", "parse"}
    assert stages["cached"].keys() == always | {"instantiate"}
    assert stages["image"].keys() == always | {"parse"}
    assert stages["parallel"].keys() == always | {"parse", "transport"}
    for entry in figures["strategies"]:
        assert entry["jobs"] == 10
        assert entry["total_us"] > 0
        assert entry["sum_us"] == pytest.approx(sum(entry["stages_us"].values()), abs=0.01)
    assert "timed as separate calls, the whole job on its own" in ran.out


def test_a_job_that_fails_names_the_strategy(pexec: Pexec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Resident):
        def prepare(self) -> None:
            self.work = dataclasses.replace(self.work, function="g")
            super().prepare()

    monkeypatch.setitem(STRATEGIES, "image", Failing)
    (tmp_path / "p.js").write_text("const f = d => d")
    (tmp_path / "d.json").write_text("1")
    ran = pexec("bench", "p.js", "d.json", "--jobs", "2", "--strategies", "baseline,image")
    assert ran.status == 1
    assert ran.lines[0].startswith("pexec: error: image: p.js: g(): the plugin has no function 'g'")


def test_answers_that_are_hard_to_write(pexec: Pexec, tmp_path: Path) -> None:
    (tmp_path / "p.js").write_text(r"const f = d => ['\ud800', 1e400, 2 ** 70, -0, '\u2028']")
    (tmp_path / "d.json").write_text("1")
    ran = pexec("bench", "p.js", "d.json", "--jobs", "2", "--strategies", "baseline,image", "--json", "out.json")
    assert ran.status == 0
    answer = json.loads((tmp_path / "out.json").read_bytes())["strategies"][1]["answer"]
    assert answer == ["\ud800", None, 2**70, 0, "\u2028"]
