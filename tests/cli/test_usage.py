"""Bad input: one clear line, status 2 for usage and 1 for failures, nothing half-written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.command import Pexec

GOOD = b'{"a": 1}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.js").write_text("function f(d) { return d.a }")
    (tmp_path / "syntax.js").write_text("function f( {")
    (tmp_path / "throws.js").write_text("null.x; function f() {}")
    (tmp_path / "latin.js").write_bytes(b"// caf\xe9\nfunction f() {}")
    (tmp_path / "good.json").write_bytes(GOOD)
    (tmp_path / "bad.json").write_text('{"a": }')
    (tmp_path / "dir").mkdir()
    return tmp_path


USAGE = [
    (["run"], "PLUGIN"),
    (["frobnicate"], "frobnicate"),
    (["run", "good.js", "good.json", "--colour"], "--colour"),
    (["run", "good.js", "good.json", "--workers", "0"], "--workers must be at least 1; got 0"),
    (["run", "good.js", "good.json", "--workers", "-3"], "--workers must be at least 1; got -3"),
    (["run", "good.js", "good.json", "--workers", "two"], "--workers"),
    (["run", "good.js", "good.json", "--time-limit", "0"], "--time-limit must be a number of seconds above 0"),
    (["run", "good.js", "good.json", "--time-limit", "nan"], "--time-limit"),
    (["run", "good.js", "good.json", "--memory-limit", "lots"], "--memory-limit must be a number of bytes"),
    (["run", "good.js", "good.json", "--memory-limit", "1k"], "--memory-limit must be an integer from"),
    (["run", "good.js", "good.json", "--function", ""], "--function must be a name"),
    (["bench", "--workers", "0"], "--workers must be at least 1; got 0"),
    (["bench", "--jobs", "0"], "--jobs must be at least 1; got 0"),
    (
        ["bench", "--strategies", "image,magic"],
        "unknown strategy 'magic'; choose from baseline, wizer, wizer-plus, cached",
    ),
    (["bench", "--strategies", ","], "--strategies names no strategy"),
    (["profile", "--strategies", "magic"], "unknown strategy 'magic'"),
    (["profile", "--jobs", "0"], "--jobs must be at least 1; got 0"),
    (["plugin", "bake", "good.js"], "-o is needed"),
    (["plugin"], "command"),
    (["cache", "explode"], "explode"),
]

FAILURES = [
    (["run", "missing.js", "good.json"], "missing.js: cannot read the plugin: No such file or directory"),
    (["run", "dir", "good.json"], "dir: cannot read the plugin: Is a directory"),
    (["run", "latin.js", "good.json"], "latin.js: the plugin is not UTF-8 text"),
    (["run", "syntax.js", "good.json"], "syntax.js: the plugin does not compile: SyntaxError"),
    (["run", "throws.js", "good.json"], "throws.js: the plugin fails while it is loaded: TypeError"),
    (["run", "good.js", "missing.json"], "missing.json"),
    (["run", "good.js", "good.json", "--function", "g"], "good.js: the plugin has no function 'g'; it has f"),
    (["run", "good.js", "bad.json"], "document 0 (bad.json): good.js: f(): the document is not JSON"),
    (["run", "good.js", "good.json", "-o", "dir"], "cannot write dir: Is a directory"),
    (["bench", "missing.js"], "missing.js: cannot read the plugin"),
    (["bench", "syntax.js"], "syntax.js: the plugin does not compile"),
    (["bench", "good.js", "missing.json"], "cannot read the document missing.json: No such file or directory"),
    (["bench", "good.js", "dir"], "cannot read the document dir: Is a directory"),
    (["bench", "good.js", "bad.json"], "good.js: f(): the document is not JSON"),
    (["bench", "good.js", "good.json", "--function", "g"], "no function 'g'"),
    (
        ["bench", "good.js", "good.json", "--json", "no/such/file"],
        "cannot write no/such/file: No such file or directory",
    ),
    (["profile", "good.js", "good.json", "--json", "dir"], "cannot write dir: Is a directory"),
    (["plugin", "bake", "syntax.js", "-o", "out.wasm"], "syntax.js: the plugin does not compile"),
    (["plugin", "bake", "good.js", "-o", "dir"], "cannot write dir: Is a directory"),
    (
        ["plugin", "bake", "good.js", "-o", "out.wasm", "--sample", "missing.json"],
        "cannot read the sample missing.json",
    ),
    (["plugin", "bake", "good.js", "-o", "out.wasm", "--sample", "bad.json"], "the warm-up with sample 0 fails"),
    (["plugin", "inspect", "missing"], "cannot read missing: No such file or directory"),
    (["plugin", "inspect", "dir"], "cannot read dir: Is a directory"),
]


@pytest.mark.parametrize(
    ("arguments", "says", "status"),
    [(*case, 2) for case in USAGE] + [(*case, 1) for case in FAILURES],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_one_clear_line(pexec: Pexec, folder: Path, arguments: list[str], says: str, status: int) -> None:
    before = sorted(path.name for path in folder.iterdir())
    ran = pexec(*arguments)
    assert ran.status == status
    assert ran.out == ""
    (line,) = ran.lines
    assert line.startswith("pexec: error: ")
    assert says in line
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_unreadable_file(pexec: Pexec, folder: Path) -> None:
    (folder / "secret.js").write_text("")
    (folder / "secret.js").chmod(0)
    if os.access(folder / "secret.js", os.R_OK):
        pytest.skip("this user can read every file")
    assert pexec("run", "secret.js").lines == ["pexec: error: secret.js: cannot read the plugin: Permission denied"]


def test_debug_shows_the_traceback_wherever_it_stands(pexec: Pexec, folder: Path) -> None:
    for arguments in (["--debug", "run", "syntax.js"], ["run", "syntax.js", "--debug"]):
        ran = pexec(*arguments)
        assert ran.status == 1
        assert "Traceback (most recent call last)" in ran.err
        assert ran.err.splitlines()[-1].startswith("pexec: error: syntax.js: ")


def test_a_bug_of_ours_is_one_line_too(pexec: Pexec, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parallel_exec.cli.run.count_workers", lambda workers: 1 / 0)
    ran = pexec("run", "good.js", "good.json")
    assert ran.status == 1
    assert ran.lines == ["pexec: error: internal error: ZeroDivisionError: division by zero (--debug shows where)"]


def test_version_and_help(pexec: Pexec) -> None:
    assert pexec("--version").out.startswith("pexec ")
    for arguments in ([], ["--help"]):
        ran = pexec(*arguments)
        assert ran.status == 0
        for name in ("run", "bench", "profile", "plugin", "cache"):
            assert f"\n  {name} " in ran.out
    for name in ("run", "bench", "profile", "plugin", "cache"):
        assert pexec(name, "--help").status == 0
