"""Documents in shared memory: what a server reads, what it refuses, and what is left behind."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import deque
from pathlib import Path

import pytest

import parallel_exec as px
from parallel_exec.service import Client
from parallel_exec.service.shm import FOLDER, SCHEME, Segment, read_shared, sweep

NAME = "pexec-" + "0123456789abcdef" * 2


@pytest.fixture
def file():
    """A file in the shared memory's folder, of a segment's name."""
    path = Path(FOLDER, NAME)
    path.write_bytes(b"[1, 2, 3]")
    path.chmod(0o600)
    yield path
    path.unlink(missing_ok=True)


def test_what_is_read(file):
    assert read_shared(SCHEME + NAME, 0, 9, 100) == b"[1, 2, 3]"
    assert read_shared(SCHEME + NAME, 1, 1, 1) == b"1"
    assert read_shared(SCHEME + NAME, 9, 0, 0) == b""


@pytest.mark.parametrize(
    "handle",
    [
        "",
        NAME,
        "shm://",
        "shm://pexec-",
        f"shm://x{NAME}",
        f"shm://{NAME}x",
        f"shm://{NAME}\n",
        f"shm://{NAME.upper()}",
        f"shm:///dev/shm/{NAME}",
        f"shm://../shm/{NAME}",
        f"shm://{NAME}/../../../etc/passwd",
        f"file://{NAME}",
    ],
)
def test_handles_that_are_none(file, handle):
    with pytest.raises(px.InvalidDocument, match="a handle is shm://pexec- and 32 hex digits"):
        read_shared(handle, 0, 1, 100)


def test_files_that_are_refused(file, tmp_path):
    def refused(text: str, offset: int = 0, length: int = 1, most: int = 100) -> None:
        with pytest.raises(px.InvalidDocument, match=text):
            read_shared(SCHEME + NAME, offset, length, most)

    refused("has 101 bytes; at most 100", length=101)
    refused("has 9 bytes, not 10 from byte 0 on", length=10)
    refused("has 9 bytes, not 1 from byte 9 on", offset=9)
    refused("not 1 from byte 18446744073709551615 on", offset=2**64 - 1)
    file.chmod(0o622)
    refused("nobody else may write it")
    file.unlink()
    refused("cannot be opened: No such file")
    (tmp_path / "secret").write_bytes(b"[1]")
    file.symlink_to(tmp_path / "secret")
    refused("cannot be opened: Too many levels of symbolic links")
    file.unlink()
    os.mkfifo(file)
    refused("is no plain file")
    file.unlink()
    file.mkdir()
    refused("is no plain file")
    file.rmdir()
    if os.geteuid() == 0:
        file.write_bytes(b"[1]")
        os.chown(file, 12345, 12345)
        refused("must belong to the server's user")


def test_a_server_refuses_them_too_and_goes_on(client, file):
    from parallel_exec.service import messages

    client.deploy("shm", px.Plugin("const f = x => x"))
    for shared in ({"handle": "shm://x", "length": 1}, {"handle": SCHEME + NAME, "length": 1 << 62}):
        call = {"deployment": "shm", "function": "f"}
        with pytest.raises(px.InvalidDocument, match=r"a handle is|at most"):
            client._execute(call, messages.Document(shared=shared))
    assert client.execute("shm", "f", 5, shared=True) == 5
    client.undeploy("shm")


def test_a_segment_holds_what_was_not_freed():
    """Against a model: offsets of bytes that are still there are never given again."""
    chance = random.Random(1)
    with Segment(1000) as segment:
        held: deque[tuple[int, bytes]] = deque()
        refusals = 0
        for _ in range(1000):
            content = chance.randbytes(chance.choice([0, 1, 10, 200, 400]))
            offset = segment.put(content)
            if offset is None:
                refusals += 1
                assert held
                del_at = 0 if chance.random() < 0.7 else chance.randrange(len(held))
                segment.free(held[del_at][0])
                del held[del_at]
            else:
                held.append((offset, content))
            for at, expected in held:
                assert read_shared(segment.handle, at, len(expected), 1000) == expected
        assert refusals > 100
        for at, _ in held:
            segment.free(at)
        assert segment.put(bytes(1000)) == 0


def segments() -> set[str]:
    return {name for name in os.listdir(FOLDER) if name.startswith("pexec-")}


def test_nothing_is_left_behind(client):
    before = segments()
    client.deploy("shm", px.Plugin("const f = x => x"))
    results = client.stream("shm", "f", range(1000), shared=True)
    next(results)
    assert len(segments() - before) == 1
    results.close()
    client.execute("shm", "f", 5, shared=True)
    assert segments() <= before
    client.undeploy("shm")


def test_what_a_killed_client_left_goes_with_the_next_segment():
    code = (
        "from parallel_exec.service.shm import Segment; import os, signal; s = Segment(10);"
        "print(s.handle, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    name = ran.stdout.strip().removeprefix(SCHEME)
    assert name in segments()
    with Segment(10) as mine, Segment(10) as other:
        assert name not in segments()
        sweep()
        assert {mine.handle, other.handle} <= {SCHEME + each for each in segments()}


def test_a_document_larger_than_the_segment_is_sent_as_bytes(address):
    with Client(address) as client:
        client.deploy("large", px.Plugin("const f = x => x.length"))
        large = b'"' + b"x" * (20 << 20) + b'"'
        results = list(client.stream("large", "f", [b'"a"', large, b'"bc"'], shared=True))
        assert [result.value for result in results] == [1, 20 << 20, 2]
        client.undeploy("large")
