"""`pexec run --watch`: the plugin's file changes while documents come in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import PexecProcess

Watching = tuple[subprocess.Popen[bytes], Path]


def write(path: Path, source: str) -> None:
    """Replace the file at once, as editors do."""
    new = path.with_suffix(".new")
    new.write_text(source)
    new.replace(path)


@pytest.fixture
def watching(tmp_path: Path, env: dict[str, str]) -> Iterator[Watching]:
    """A command that watches `f.js` and reads documents from its standard input; and that file."""
    path = tmp_path / "f.js"
    write(path, "function f(x) { return ['one', x] }")
    arguments = ["run", "f.js", "--function", "f", "--lines", "--watch", "--workers", "2"]
    child = subprocess.Popen(
        [sys.executable, "-m", "parallel_exec", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=env,
        start_new_session=True,
    )
    yield child, path
    child.kill()
    child.communicate()


def ask(child: subprocess.Popen[bytes], document: bytes) -> bytes:
    """Give it one document, and wait for its result, which does not wait for another document."""
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(document + b"\n")
    child.stdin.flush()
    return child.stdout.readline()


def test_each_document_runs_the_plugin_as_its_file_is_then(watching: Watching) -> None:
    child, path = watching
    assert ask(child, b"1") == b'["one",1]\n'
    assert ask(child, b"2") == b'["one",2]\n'
    write(path, "function f(x) { return ['two', x] }")
    assert ask(child, b"3") == b'["two",3]\n'
    for broken in ("function f(", "function g(x) { return x }", "throw new Error('top')"):
        write(path, broken)
        assert ask(child, b"4") == b'["two",4]\n'
    path.unlink()
    assert ask(child, b"5") == b'["two",5]\n'
    write(path, "function f(x) { return ['three', x] }")
    assert ask(child, b"6") == b'["three",6]\n'
    out, err = child.communicate()
    assert (child.returncode, out) == (0, b"")
    lines = err.decode().splitlines()
    assert len(lines) == 6 and all(line.startswith("pexec: note: ") for line in lines)
    assert "version 2" in lines[0] and "version 3" in lines[-1]
    assert "no longer has a function 'f'" in lines[2] and all("keeping the old version" in line for line in lines[1:5])


def test_documents_that_fail_are_told_and_the_rest_goes_on(watching: Watching) -> None:
    child, path = watching
    assert ask(child, b"[\n1") == b'["one",1]\n'
    write(path, "function f(x) { throw new Error('no') }")
    out, err = child.communicate(b"2\n")
    assert (child.returncode, out) == (1, b"")
    assert b"document 0 (stdin line 1)" in err and b"document 2 (stdin line 3)" in err and b"Error: no" in err


def test_ctrl_c_while_it_waits_for_a_document(watching: Watching) -> None:
    child, _ = watching
    assert ask(child, b"1") == b'["one",1]\n'
    os.kill(child.pid, signal.SIGINT)
    assert child.wait(60) == 130
    assert child.stderr is not None and child.stderr.read() == b"pexec: interrupted\n"


def test_files_are_read_to_their_end(process: PexecProcess, tmp_path: Path) -> None:
    (tmp_path / "f.js").write_text("function f(x) { return 2 * x }")
    (tmp_path / "many").write_bytes(b"".join(b"%d\n" % number for number in range(500)))
    ran = process("run", "f.js", "many", "--lines", "--watch", "--function", "f")
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.split() == [b"%d" % (2 * number) for number in range(500)]
