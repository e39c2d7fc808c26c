from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from parallel_exec.cli.main import dispatch
from tests.cli.command import Pexec, PexecProcess, Ran, StartPexec, command

ROOT = Path(__file__).resolve().parent.parent.parent

PLUGIN = """
function pick(d) { if (d.bad) throw new TypeError("no " + d.bad); return d.a }
"""


@pytest.fixture
def pexec(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pexec:
    """Run a command line in this process, in a temporary directory."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        status = dispatch(arguments)
        sys.stdout.flush()
        return Ran(status, *capfd.readouterr())

    return run


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    (tmp_path / "pick.js").write_text(PLUGIN)
    return "pick.js"


@pytest.fixture
def env() -> dict[str, str]:
    """An environment in which this checkout's package is found, installed or not."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


@pytest.fixture
def process(tmp_path: Path, env: dict[str, str]) -> PexecProcess:
    """Run a command line in a process of its own, in a temporary directory."""

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command(*arguments), input=stdin, capture_output=True, cwd=tmp_path, env=env, check=False)

    return run


@pytest.fixture
def start(tmp_path: Path, env: dict[str, str]) -> StartPexec:
    """Start a command line in a process group of its own."""

    def popen(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=env,
            start_new_session=True,
        )

    return popen
