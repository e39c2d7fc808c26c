"""The protocol as it is shipped, and what importing the package does not import."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_compiled_protocol_is_what_its_source_says() -> None:
    pytest.importorskip("grpc_tools", reason="pip install grpcio-tools")
    subprocess.run([sys.executable, str(ROOT / "scripts" / "make_protocol.py"), "--check"], check=True)


def test_requests_are_read_as_protobuf_reads_them() -> None:
    """Including malformed ones, and ones that are shorter than they claim."""
    schema = pytest.importorskip("parallel_exec.service._protocol.schema")
    from google.protobuf.message import DecodeError

    from parallel_exec.service._protocol.payloads import SMALL, parse_request, serialize_documents

    def read(parse: Callable[[bytes], Any], data: bytes) -> Any:
        try:
            request = parse(data)
        except DecodeError:
            return "no request"
        if isinstance(request, list):
            return [bytes(document) for document in request], [], ""
        return list(request.documents), list(request.places), request.open.memory

    chance = random.Random(5)
    fast = broken = 0
    for _ in range(2000):
        sizes = [chance.choice([0, 1, SMALL - 1, SMALL, 20_000]) for _ in range(chance.randrange(4))]
        data = serialize_documents([chance.randbytes(size) for size in sizes])
        if chance.random() < 0.3:
            data += schema.StreamRequest(open={"memory": "m"}, places=[1, 2**64 - 1]).SerializeToString()
        if chance.random() < 0.4 and data:
            at = chance.choice([0, 1, 2, 3, len(data) - 1, chance.randrange(len(data))])
            data = data[:at] + chance.choice([b"", b"\x12", b"\xff\xff\xff\xff\xff", data[at : at + 1]])
        expected = read(schema.StreamRequest.FromString, data)
        assert read(parse_request, data) == expected
        broken += expected == "no request"
        fast += expected != "no request" and isinstance(parse_request(data), list)
    assert broken > 100 and fast > 100


def test_the_package_imports_nothing_of_the_service() -> None:
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
def test_a_missing_extra_is_named(module: str, arguments: Sequence[str], extra: str) -> None:
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
