"""`pexec bench verify`: that every runtime comes to the right answers, and what is told of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from parallel_exec.errors import PexecError
from tests.cli.command import Ran

pytest.importorskip("coincurve")
pytest.importorskip("ziglang")

HOW = {"message", "batch", "swap"}

Pexec = Callable[..., Ran]


@pytest.fixture
def one_short_round(monkeypatch: pytest.MonkeyPatch) -> None:
    from parallel_exec.verify import comparison

    monkeypatch.setattr(comparison, "ROUNDS", 1)
    monkeypatch.setattr(comparison, "ROUND_S", 0.001)


def test_all_runtimes_on_random_schemes(pexec: Pexec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from parallel_exec.verify import comparison

    monkeypatch.setattr(comparison, "ROUNDS", 2)
    monkeypatch.setattr(comparison, "ROUND_S", 0.001)
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
        assert name in measured or f"not measured: {name}: {figures['missing'][name]}" in " ".join(ran.out.split())
    for published in ("2.7 to 3.2 x", "30 ms", *(["23 to 30 x"] if "wasm3" in measured else [])):
        assert published in ran.out


@pytest.mark.usefixtures("one_short_round")
@pytest.mark.parametrize("scheme", ["schnorr", "ecdsa"])
def test_one_scheme_needs_no_swaps(pexec: Pexec, scheme: str) -> None:
    ran = pexec("bench", "verify", "--messages", "8", "--workers", "1", "--kind", scheme, "--json", "-")
    assert ran.status == 0, ran.err
    figures = json.loads(ran.out)
    assert {row["how"] for row in figures["rows"]} == {"message", "batch"}
    assert f"8 messages, {scheme}, one in eight tampered with" in ran.err


@pytest.mark.usefixtures("one_short_round")
def test_a_missing_runtime_is_named(pexec: Pexec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wasm3", None)
    ran = pexec("bench", "verify", "--messages", "8", "--json", "verify.json")
    assert ran.status == 0
    figures = json.loads((tmp_path / "verify.json").read_bytes())
    assert "pip install pywasm3" in figures["missing"]["wasm3"]
    assert "not measured: wasm3: not installed" in ran.out
    assert all(row["name"] != "wasm3" for row in figures["rows"])


def test_a_wrong_answer_ends_the_run(pexec: Pexec, monkeypatch: pytest.MonkeyPatch) -> None:
    from parallel_exec.verify import runtimes

    monkeypatch.setattr(runtimes.Native, "verify", lambda self, messages: [True] * len(messages))
    ran = pexec("bench", "verify", "--messages", "24")
    assert ran.status == 1
    assert "native (coincurve) says that message " in ran.err


def test_signing_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from parallel_exec.verify.messages import sign

    monkeypatch.setitem(sys.modules, "coincurve", None)
    with pytest.raises(PexecError, match=r"coincurve.* is not installed: pip install 'parallel_exec\[verify\]'"):
        sign("random", 8, 1)


def test_wrong_usage_is_refused(pexec: Pexec) -> None:
    assert pexec("bench", "verify", "--messages", "3").status == 2
    assert pexec("bench", "verify", "--kind", "rsa").status == 2
    assert pexec("bench", "verify", "plugin.js").status == 2


def test_a_plugin_of_that_name_is_reached_by_a_path(pexec: Pexec, tmp_path: Path) -> None:
    (tmp_path / "verify").write_text("const f = x => x + 1")
    (tmp_path / "one.json").write_text("1")
    ran = pexec("bench", "./verify", "one.json", "--jobs", "2", "--strategies", "image", "--json", "-")
    assert ran.status == 0
    assert json.loads(ran.out)["plugin"]["name"] == "verify"
