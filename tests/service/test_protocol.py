"""The protocol as it is shipped, and what importing the package does not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_compiled_protocol_is_what_its_source_says():
    pytest.importorskip("grpc_tools", reason="pip install grpcio-tools")
    subprocess.run([sys.executable, str(ROOT / "scripts" / "make_protocol.py"), "--check"], check=True)


def test_the_package_imports_nothing_of_the_service():
    code = (
        "import sys, parallel_exec, parallel_exec.pool, parallel_exec.cli.main;"
        "print([name for name in ('grpc', 'google.protobuf', 'redis', 'parallel_exec.service') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("grpc", ["serve"], "'parallel_exec[service]'"),
        ("grpc", ["client", "list", "--server", "127.0.0.1:1"], "'parallel_exec[service]'"),
        (
            "redis",
            ["consume", "redis://x", "p.js", "--stream", "a", "--group", "b", "--results", "c"],
            "'parallel_exec[redis]'",
        ),
    ],
)
def test_a_missing_extra_is_named(module, arguments, extra):
    code = (
        f"import sys; sys.modules[{module!r}] = None; from parallel_exec.cli.main import dispatch;"
        "sys.exit(dispatch(sys.argv[1:]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert f"needs {module}: pip install {extra}\n" in ran.stderr
