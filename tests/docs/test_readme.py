"""The examples of README.md, and those of docs/ that are marked (pages.py), run as they stand.

Each page is read as by somebody with an editor, a terminal and a Python prompt open in one empty folder: a JavaScript
block is saved under the name in its first line, shell blocks are typed into one bash, Python blocks into one namespace,
each twice. What a line ``print(...)  # text`` prints is compared with the text.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import PAGES, ROOT, Block, blocks
from tests.wasm.vectors import build_modules

README = ROOT / "README.md"
SILENCE_S = 120  # how long a shell block may take

_PROMISED = re.compile(r"^\s*print\(.*\)  # (.+)$", re.MULTILINE)
_SAVED_AS = re.compile(r"// (\S+\.js)\n")


class Terminal:
    """A bash in a folder, with the commands of this interpreter's environment first on its PATH."""

    def __init__(self, folder: Path) -> None:
        paths = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(ROOT)}
        joined = {name: os.pathsep.join(filter(None, [path, os.environ.get(name)])) for name, path in paths.items()}
        self._folder = folder
        self._bash = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=os.environ | joined,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.run("set -euo pipefail\n")

    def run(self, text: str) -> None:
        """Run a block, whose commands must all succeed."""
        (self._folder / "block.sh").write_text(text, encoding="utf-8")
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write("source ./block.sh < /dev/null; echo; echo END-OF-BLOCK\n")
        self._bash.stdin.flush()
        timer = threading.Timer(SILENCE_S, self.close)
        timer.start()
        said = []
        try:
            for line in self._bash.stdout:
                if line == "END-OF-BLOCK\n":
                    return
                said.append(line)
        finally:
            timer.cancel()
        pytest.fail(f"the shell ended in this block:\n{text}\nand said:\n{''.join(said)}")

    def close(self) -> None:
        """End bash and whatever it has started."""
        if self._bash.poll() is None:
            os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.communicate()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    yield opened
    opened.close()


def run_python(page: Path, block: Block, namespace: dict[str, Any]) -> None:
    """Run a Python block; a traceback shows the page's own lines."""
    exec(compile("\n" * (block.line - 1) + block.text, page, "exec"), namespace)


def examples() -> list[Path]:
    return [page for page in PAGES if any(block.runs(by_default=page == README) for block in blocks(page))]


@pytest.mark.parametrize("page", examples(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_run(
    page: Path,
    tmp_path: Path,
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "examples"}
    for block in blocks(page):
        if not block.runs(by_default=page == README):
            continue
        if block.note.startswith("needs verify.wasm"):
            (tmp_path / "verify.wasm").write_bytes(build_modules().build("both-speed-wide").read_bytes())
        match block.language:
            case "js":
                name = _SAVED_AS.match(block.text)
                assert name is not None, f"line {block.line}: the first line does not say what the file is called"
                (tmp_path / name[1]).write_text(block.text, encoding="utf-8")
            case "sh":
                terminal.run(block.text)
            case "python":
                for _ in range(2):
                    capsys.readouterr()
                    run_python(page, block, namespace)
                    printed = capsys.readouterr().out.splitlines()
                    rest = iter(printed)
                    for text in _PROMISED.findall(block.text):
                        assert text in rest, f"line {block.line} on: {text!r} is not printed; this is: {printed}"
            case other:
                pytest.fail(f"line {block.line}: a block of {other or 'no language'}, which nobody knows how to run")


def test_the_readme_has_examples_of_each_kind() -> None:
    languages = [block.language for block in blocks(README) if block.runs(by_default=True)]
    assert {"js", "python", "sh"} == set(languages)
    assert len(languages) >= 10
