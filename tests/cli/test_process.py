"""What only a process of its own shows: exit statuses, pipes, signals, and what is imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import PexecProcess, StartPexec


def test_statuses_and_no_traceback(process: PexecProcess, plugin: str, tmp_path: Path) -> None:
    good = process("run", plugin, "--function", "pick", stdin=b'{"a": [1, "\xc3\xa9"]}')
    assert (good.returncode, good.stdout, good.stderr) == (0, b'[1,"\xc3\xa9"]\n', b"")
    failure = process("run", plugin, "--function", "pick", stdin=b"{")
    assert failure.returncode == 1
    assert failure.stderr.count(b"\n") == 1
    assert failure.stderr.startswith(b"pexec: error: ")
    usage = process("run", plugin, "--workers", "0")
    assert (usage.returncode, usage.stdout) == (2, b"")
    assert usage.stderr == b"pexec: error: --workers must be at least 1; got 0\n"


def test_a_reader_that_has_enough_is_no_error(start: StartPexec, plugin: str, tmp_path: Path) -> None:
    (tmp_path / "many").write_bytes(b'{"a": "%s"}\n' % (b"x" * 1000) * 2000)
    child = start("run", plugin, "many", "--lines", "--function", "pick")
    assert child.stdout is not None and child.stderr is not None
    assert child.stdout.readline() == b'"' + b"x" * 1000 + b'"\n'
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait() == 128 + signal.SIGPIPE
    child.stderr.close()


@pytest.mark.parametrize(
    ("number", "status", "says"), [(signal.SIGINT, 130, b"pexec: interrupted\n"), (signal.SIGTERM, 143, b"")]
)
@pytest.mark.parametrize("workers", [1, 2])
def test_signals_end_it_at_once_and_leave_nothing(
    start: StartPexec, tmp_path: Path, number: signal.Signals, status: int, says: bytes, workers: int
) -> None:
    # The first documents are quick and their failures are told, so that what is read from stderr says how far it is.
    (tmp_path / "p.js").write_text("function f(d) { if (d) { let i = 0; while (i < 1e6) i++; throw 1 } for (;;) ; }")
    (tmp_path / "docs").write_bytes(b"1\n" * 40 + b"0\n" * 40)
    child = start("run", "p.js", "docs", "--lines", "--time-limit", "300", "--workers", str(workers), "-o", "out")
    assert child.stdout is not None and child.stderr is not None
    for _ in range(41):  # one note, and every quick document
        assert child.stderr.readline()
    child.send_signal(number)
    assert child.stderr.read() == says
    assert child.wait() == status
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "p.js"]
    for pipe in (child.stdout, child.stderr):
        pipe.close()


def test_one_small_document_imports_neither_what_draws_nor_what_starts_processes(
    plugin: str, tmp_path: Path, env: dict[str, str]
) -> None:
    (tmp_path / "one.json").write_text('{"a": 1}')
    code = (
        "import sys; from parallel_exec.cli.main import dispatch; status = dispatch(sys.argv[1:]);"
        "heavy = ('rich', 'psutil', 'parallel_exec.pool', 'parallel_exec.measure.strategies',"
        "'parallel_exec.measure.report');"
        "print(status, [name for name in heavy if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, "run", plugin, "one.json", "--function", "pick"],
        capture_output=True,
        cwd=tmp_path,
        env=env,
        check=True,
    )
    assert ran.stdout == b"1\n0 []\n"


def test_a_full_disk_behind_stdout(process: PexecProcess, plugin: str, tmp_path: Path, env: dict[str, str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    (tmp_path / "one.json").write_text('{"a": 1}')
    for arguments in (["run", plugin, "one.json", "--function", "pick"], ["plugin", "inspect", plugin], ["--version"]):
        with open("/dev/full", "wb") as full:
            ran = subprocess.run(
                [sys.executable, "-m", "parallel_exec", *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                cwd=tmp_path,
                env=env,
                check=False,
            )
        assert ran.returncode == 1
        assert ran.stderr.count(b"\n") == 1
        assert b"No space left on device" in ran.stderr


@pytest.mark.parametrize(
    ("closed", "says"),
    [
        ("<&-", b"pexec: error: document 0 (stdin): cannot read it: it is closed\n"),
        (">&-", b"pexec: error: cannot write stdout: it is closed\n"),
    ],
)
def test_closed_standard_streams(plugin: str, tmp_path: Path, env: dict[str, str], closed: str, says: bytes) -> None:
    shell = f'exec "$0" -m parallel_exec run {plugin} --function pick {closed}'
    ran = subprocess.run(
        ["/bin/sh", "-c", shell, sys.executable], input=b"1", capture_output=True, cwd=tmp_path, env=env, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, b"", says)


def test_progress_is_shown_on_a_terminal_and_only_on_stderr(tmp_path: Path, env: dict[str, str]) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "parallel_exec", "bench", "--jobs", "3", "--strategies", "image"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd=tmp_path,
        env=env | {"TERM": "xterm"},
    )
    os.close(theirs)
    assert child.stdout is not None
    out = child.stdout.read()
    child.stdout.close()
    assert child.wait() == 0
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert b"jobs" in shown
    assert b"\x1b" not in out
    assert b" image " in out
