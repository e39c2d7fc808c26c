"""`pexec bench verify`: that every runtime comes to the right answers, and what is told of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from parallel_exec.errors import PexecError

pytest.importorskip("coincurve")
pytest.importorskip("ziglang")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
try:
    import build_modules
finally:
    sys.path.pop(0)

HOW = {"message", "batch", "swap"}
BOTH = [f"both-{build}-{target}" for build in ("speed", "size") for target in ("wide", "mvp")]


@pytest.fixture(scope="module", autouse=True)
def modules() -> None:
    for name in ("schnorr-speed-wide", "ecdsa-speed-wide", *BOTH):
        build_modules.build(name)


def test_all_runtimes_on_random_kinds(pexec, tmp_path, monkeypatch):
    from parallel_exec.verify import run

    monkeypatch.setattr(run, "ROUNDS", 2)
    monkeypatch.setattr(run, "ROUND_S", 0.001)
    ran = pexec("bench", "verify", "--messages", "24", "--workers", "2", "--json", "verify.json")
    assert (ran.status, ran.lines) == (0, [])
    figures = json.loads((tmp_path / "verify.json").read_bytes())
    rows = figures["rows"]
    assert (figures["kind"], figures["messages"], figures["workers"]) == ("random", 24, 2)
    assert rows[0]["name"] == "native (coincurve)" and rows[0]["times_native"] == 1
    for name in ("wasmtime Cranelift", "JavaScript in QuickJS", "wasmtime Cranelift, pool"):
        assert {row["how"] for row in rows if row["name"] == name} == {"message", "batch"}
        assert name in ran.out
    builds = {(row["build"], row["how"]) for row in rows if row["name"] == "wasmtime Cranelift"}
    assert builds == {(build, how) for build in ("speed", "size") for how in ("message", "batch")}
    assert len([row for row in rows if row["how"] == "swap"]) == 5
    for row in rows:
        assert row["how"] in HOW
        assert 8 <= row["messages"] <= 24
        assert len(row["rounds_us"]) == 2
        assert row["us_per_message"] > 0
        ratios = [mine / native for mine, native in zip(row["rounds_us"], rows[0]["rounds_us"], strict=True)]
        assert row["times_native"] == pytest.approx(sum(ratios) / 2, rel=0.01)
    measured = {row["name"] for row in rows}
    assert "native (coincurve), processes" in measured
    others = ("wasmtime Winch", "wasmtime Pulley", "wasm3")
    for name in (*others, *(f"{name}, processes" for name in others)):
        assert name in measured or f"not measured: {name}: {figures['missing'][name]}" in ran.out.replace("\n", " ")
    for published in ("2.7 to 3.2 x", "30 ms", *(["23 to 30 x"] if "wasm3" in measured else [])):
        assert published in ran.out


def test_a_missing_runtime_is_named(pexec, tmp_path, monkeypatch):
    from parallel_exec.verify import run

    monkeypatch.setattr(run, "ROUNDS", 1)
    monkeypatch.setattr(run, "ROUND_S", 0.001)
    monkeypatch.setitem(sys.modules, "wasm3", None)
    ran = pexec("bench", "verify", "--messages", "8", "--json", "verify.json")
    assert ran.status == 0
    figures = json.loads((tmp_path / "verify.json").read_bytes())
    assert "pip install pywasm3" in figures["missing"]["wasm3"]
    assert "not measured: wasm3: not installed" in ran.out
    assert all(row["name"] != "wasm3" for row in figures["rows"])


def test_a_wrong_answer_ends_the_run(pexec, monkeypatch):
    from parallel_exec.verify import runtimes

    monkeypatch.setattr(runtimes.Native, "verify", lambda self, messages: [True] * len(messages))
    ran = pexec("bench", "verify", "--messages", "24")
    assert ran.status == 1
    assert "native (coincurve) says of message" in ran.err


def test_signing_needs_its_package(monkeypatch):
    from parallel_exec.verify.messages import sign

    monkeypatch.setitem(sys.modules, "coincurve", None)
    with pytest.raises(PexecError, match="pip install coincurve"):
        sign("random", 8, 1)


def test_wrong_usage_is_refused(pexec):
    assert pexec("bench", "verify", "--messages", "3").status == 2
    assert pexec("bench", "verify", "--kind", "rsa").status == 2
    assert pexec("bench", "verify", "plugin.js").status == 2


def test_a_plugin_of_that_name_is_reached_by_a_path(pexec, tmp_path):
    (tmp_path / "verify").write_text("const f = x => x + 1")
    (tmp_path / "one.json").write_text("1")
    ran = pexec("bench", "./verify", "one.json", "--jobs", "2", "--strategies", "image", "--json", "-")
    assert ran.status == 0
    assert json.loads(ran.out)["plugin"]["name"] == "verify"
