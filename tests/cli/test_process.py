"""What only a process of its own shows: exit statuses, pipes, signals, and what is imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest


def test_statuses_and_no_traceback(process, plugin, tmp_path):
    good = process("run", plugin, "--function", "pick", stdin=b'{"a": [1, "\xc3\xa9"]}')
    assert (good.returncode, good.stdout, good.stderr) == (0, b'[1,"\xc3\xa9"]\n', b"")
    failure = process("run", plugin, "--function", "pick", stdin=b"{")
    assert failure.returncode == 1
    assert failure.stderr.count(b"\n") == 1
    assert failure.stderr.startswith(b"pexec: error: ")
    usage = process("run", plugin, "--workers", "0")
    assert (usage.returncode, usage.stdout) == (2, b"")
    assert usage.stderr == b"pexec: error: --workers must be at least 1; got 0\n"


def test_a_reader_that_has_enough_is_no_error(start, plugin, tmp_path):
    (tmp_path / "many").write_bytes(b'{"a": "%s"}\n' % (b"x" * 1000) * 2000)
    child = start("run", plugin, "many", "--lines", "--function", "pick")
    assert child.stdout.readline() == b'"' + b"x" * 1000 + b'"\n'
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait() == 128 + signal.SIGPIPE
    child.stderr.close()


@pytest.mark.parametrize(
    ("number", "status", "says"), [(signal.SIGINT, 130, b"pexec: interrupted\n"), (signal.SIGTERM, 143, b"")]
)
@pytest.mark.parametrize("workers", [1, 2])
def test_signals_end_it_at_once_and_leave_nothing(start, tmp_path, number, status, says, workers):
    # The first documents are quick and their failures are told, so that what is read from stderr says how far it is.
    (tmp_path / "p.js").write_text("function f(d) { if (d) { let i = 0; while (i < 1e6) i++; throw 1 } for (;;) ; }")
    (tmp_path / "docs").write_bytes(b"1\n" * 40 + b"0\n" * 40)
    child = start("run", "p.js", "docs", "--lines", "--time-limit", "300", "--workers", str(workers), "-o", "out")
    for _ in range(41):  # one note, and every quick document
        assert child.stderr.readline()
    child.send_signal(number)
    assert child.stderr.read() == says
    assert child.wait() == status
    assert sorted(os.listdir(tmp_path)) == ["docs", "p.js"]
    for pipe in (child.stdout, child.stderr):
        pipe.close()


def test_one_small_document_imports_neither_what_draws_nor_what_starts_processes(plugin, tmp_path, env):
    (tmp_path / "one.json").write_text('{"a": 1}')
    code = (
        "import sys; from parallel_exec.cli.main import dispatch; status = dispatch(sys.argv[1:]);"
        "heavy = ('rich', 'psutil', 'parallel_exec.pool', 'parallel_exec.strategies', 'parallel_exec.bench.report');"
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
