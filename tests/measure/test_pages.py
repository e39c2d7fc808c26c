"""Pages of figures: that they say what was measured, on what, and how."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.pages import ROOT, Section, this_command, write_page
from parallel_exec.measure.machine import describe_machine, describe_versions


def test_a_page(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "speed.md"
    rows = [("a|b", 1), ("c", "2.5")]
    table = Section(columns=("what", "us"), rows=rows, notes=["Medians."])
    write_page(path, "Speed", table, Section(heading="Size", columns=("what", "KB"), rows=[("d", 3)]))
    text = path.read_text()
    assert text.startswith("# Speed\n\n")
    assert "\n\n| what | us |\n| --- | --: |\n| a\\|b | 1 |\n| c | 2.5 |\n\nMedians.\n\n" in text
    assert "\n\n## Size\n\n| what | KB |\n" in text
    for fact in (f"`{this_command()}`", describe_machine()["cpu"], f"wasmtime {describe_versions()['wasmtime']}"):
        assert fact in text


def test_the_command_starts_at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(ROOT / "bench" / "limits.py"), "--page", "a b.md"])
    assert this_command() == "python bench/limits.py --page 'a b.md'"
