"""Documents in shared memory: what a server reads, what it refuses, and what is left behind."""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import mmap
import os
import random
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import parallel_exec as px
from parallel_exec.service import Client, ServiceError
from parallel_exec.service._protocol import schema
from parallel_exec.service._protocol.payloads import SCHEME, Arena, Arenas, document_at, open_arena
from parallel_exec.service._protocol.statuses import error_of_call
from tests.service.programs import Serve

SECRET = bytes(range(16))
HEX = SECRET.hex()
PUNCH_HOLE = 3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


def handle(fd: int, secret: str = HEX, pid: int | None = None) -> str:
    return f"{SCHEME}{pid or os.getpid()}/{fd}/{secret}"


@pytest.fixture
def memory() -> Iterator[int]:
    """Memory such as an arena's, not sealed yet."""
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.write(fd, SECRET + b"[1, 2, 3]")
    yield fd
    os.close(fd)


def seal(fd: int) -> None:
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)


def test_what_is_read(memory: int) -> None:
    seal(memory)
    view = open_arena(handle(memory))
    assert bytes(document_at(view, 16, 9, 100)) == b"[1, 2, 3]"
    assert bytes(document_at(view, 17, 1, 1)) == b"1"
    assert bytes(document_at(view, 25, 0, 0)) == b""
    assert view.readonly


@pytest.mark.parametrize(
    "given",
    [
        "",
        "shm://",
        f"shm://1/2/{HEX}0",
        f"shm://1/2/{HEX}\n",
        f"shm://1/2/{HEX.upper()}",
        f"shm://self/2/{HEX}",
        f"shm://../2/{HEX}",
        f"shm://1/../{HEX}",
        f"shm://1//{HEX}",
        f"shm://-1/2/{HEX}",
        f"shm://0/2/{HEX}",
        f"shm://1/2/3/{HEX}",
        f"shm://1/2/{HEX}/../../etc",
        f"file://1/2/{HEX}",
        "shm://pexec-" + HEX,
        "shm://\u0661/2/" + HEX,
    ],
)
def test_malformed_handles(given: str) -> None:
    with pytest.raises(px.InvalidDocument, match=r"a handle is shm://PID/FD/SECRET"):
        open_arena(given)


def descriptors() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir()}


def link(descriptor: str) -> str:
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except FileNotFoundError:
        return ""


def refused(given: str, text: str, most: int = 1000) -> None:
    before = descriptors()
    with pytest.raises(px.InvalidDocument, match=text):
        open_arena(given, most)
    assert descriptors() == before


def test_memory_that_is_refused(memory: int) -> None:
    refused(handle(memory), "not sealed against truncation")
    seal(memory)
    refused(handle(memory, "0" * 32), "not the shared memory of whoever sent this")
    refused(handle(memory, pid=2**31), "cannot be opened: No such file")
    refused(handle(987654321), "cannot be opened: No such file")
    os.ftruncate(memory, 64 + 1001)
    refused(handle(memory), "has 1065 bytes; 16 to 1064 are accepted")
    if os.geteuid() == 0:
        os.fchown(memory, 12345, 12345)
        refused(handle(memory), "must belong to the server's user")


def test_only_memory_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(SECRET + b"[1]")
    os.mkfifo(tmp_path / "pipe")
    for path, flags in (("file", os.O_RDONLY), ("pipe", os.O_RDWR), (".", os.O_RDONLY)):
        fd = os.open(tmp_path / path, flags)
        refused(handle(fd), "does not name memory")
        os.close(fd)
    with open("/dev/zero", "rb") as device:
        refused(handle(device.fileno()), "does not name memory")
    empty = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    seal(empty)
    refused(handle(empty), "has 0 bytes")
    os.close(empty)


def test_huge_pages_are_refused() -> None:
    """They may have run out when one is first touched, which kills the process."""
    try:
        fd = os.memfd_create("test", os.MFD_ALLOW_SEALING | os.MFD_HUGETLB)
    except OSError as error:
        pytest.skip(f"no memory of huge pages: {error}")
    os.ftruncate(fd, 1 << 30)
    seal(fd)
    refused(handle(fd), "does not use ordinary pages", most=1 << 30)
    os.close(fd)


def test_documents_that_are_not_there(memory: int) -> None:
    seal(memory)
    view = open_arena(handle(memory))
    for offset, length, text in (
        (16, 10, "has 25 bytes, not 10 from byte 16 on"),
        (26, 0, "not 0 from byte 26 on"),
        (2**64 - 1, 1, "not 1 from byte 18446744073709551615 on"),
        (0, 101, "has 101 bytes; at most 100"),
    ):
        with pytest.raises(px.InvalidDocument, match=text):
            document_at(view, offset, length, 100)


def test_an_arena_cannot_be_cut_short() -> None:
    with Arena(1000) as arena:
        pid, number, _ = arena.handle.removeprefix(SCHEME).split("/")
        fd = os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        os.close(fd)


def test_an_arena_holds_what_was_not_freed() -> None:
    """Against a model: bytes that have not been freed are never overwritten."""
    chance = random.Random(1)
    with Arena(4096) as arena:
        view = open_arena(arena.handle)
        held: deque[tuple[int, bytes]] = deque()
        refusals = 0
        for _ in range(1000):
            content = chance.randbytes(chance.choice([0, 1, 64, 65, 800, 1600]))
            offset = arena.put(content)
            if offset is None:
                refusals += 1
                assert held
                at = 0 if chance.random() < 0.7 else chance.randrange(len(held))
                arena.free(held[at][0])
                del held[at]
            else:
                held.append((offset, content))
            for offset, expected in held:
                assert document_at(view, offset, len(expected), 4096) == expected
        assert refusals > 100
        for offset, _ in held:
            arena.free(offset)
        first = arena.put(bytes(4096))
        assert first is not None and document_at(view, first, 4096, 4096) == bytes(4096)


def ask(client: Client, opened: dict[str, Any], requests: Iterable[dict[str, Any]]) -> list[Any]:
    """Send requests as they are, and return the responses."""
    with grpc.insecure_channel(client.address) as channel:
        call = channel.stream_stream(
            f"/{schema.SERVICE}/ExecuteStream",
            schema.StreamRequest.SerializeToString,
            schema.StreamResponse.FromString,
        )
        return list(call(schema.StreamRequest(**request) for request in itertools.chain([{"open": opened}], requests)))


def execute(client: Client, call: dict[str, str], memory: str = "", offset: int = 16, length: int = 9) -> Any:
    """Send a document's place as it is, and return the result."""
    place = schema.Document(shared={"offset": offset, "length": length})
    with grpc.insecure_channel(client.address) as channel:
        method = channel.unary_unary(
            f"/{schema.SERVICE}/Execute", schema.ExecuteRequest.SerializeToString, schema.ExecuteResponse.FromString
        )
        try:
            return method(schema.ExecuteRequest(call=call, document=place, memory=memory)).result
        except grpc.RpcError as error:
            raise error_of_call(error) from None


@pytest.fixture
def echo(client: Client) -> Iterator[dict[str, str]]:
    client.deploy("shm", px.Plugin("const f = x => x"))
    yield {"deployment": "shm", "function": "f"}
    client.undeploy("shm")


def test_a_server_refuses_them_too_and_goes_on(client: Client, echo: dict[str, str], memory: int) -> None:
    with pytest.raises(px.InvalidDocument, match="a handle is"):
        execute(client, echo, "shm://x")
    with pytest.raises(px.InvalidDocument, match="not sealed"):
        execute(client, echo, handle(memory))
    with pytest.raises(px.InvalidDocument, match="the call names none"):
        execute(client, echo)
    seal(memory)
    with pytest.raises(px.InvalidDocument, match="at most"):
        execute(client, echo, handle(memory), length=1 << 62)
    assert execute(client, echo, handle(memory)) == b"[1,2,3]"
    assert client.execute("shm", "f", 5, shared=True) == 5


def test_places_in_a_stream(client: Client, echo: dict[str, str], memory: int) -> None:
    """Each document by itself: those that are not there fail, and those that overlap are read twice."""
    seal(memory)
    places = [(16, 9), (17, 1), (16, 10), (16, 9), (1 << 63, 1 << 63), (0, 1 << 62), (20, 1)]
    requests: list[dict[str, Any]] = [
        {"documents": [b"7"], "places": list(itertools.chain(*places))},
        {"places": [23, 1]},
    ]
    responses = ask(client, {"call": echo, "memory": handle(memory)}, requests)
    documents = [number for response in responses for number in response.documents]
    results = [result for response in responses for result in response.results]
    assert documents == list(range(9))
    assert results == [b"7", b"[1,2,3]", b"1", b"", b"[1,2,3]", b"", b"", b"2", b"3"]
    failures = {failure.document: failure for response in responses for failure in response.failures}
    assert sorted(failures) == [3, 5, 6]
    assert {failure.error for failure in failures.values()} == {"InvalidDocument"}
    assert "not 10 from byte 16 on" in failures[3].message and "at most" in failures[6].message
    # Without memory, and with half a place.
    (response,) = ask(client, {"call": echo}, [{"places": [0, 1]}])
    assert "the call names none" in response.failures[0].message
    with pytest.raises(grpc.RpcError, match="places are pairs"):
        ask(client, {"call": echo, "memory": handle(memory)}, [{"places": [16, 9, 16]}])
    with pytest.raises(grpc.RpcError, match="a handle is"):
        ask(client, {"call": echo, "memory": "shm://x"}, [])


def test_memory_that_its_owner_changes_and_empties_harms_nobody(client: Client, echo: dict[str, str]) -> None:
    """While the server reads it. Pages that are given back read as zeros; that is no SIGBUS."""
    size, count = 1 << 20, 1000
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    seal(fd)
    with mmap.mmap(fd, size) as view:
        view[:16] = SECRET

        def requests() -> Iterator[dict[str, Any]]:
            for number in range(count):
                view[4096:] = (b'"x"' if number % 2 else b'"y"') * ((size - 4096) // 3)
                if number % 10 == 9:
                    assert ctypes.CDLL(None).fallocate(fd, PUNCH_HOLE, ctypes.c_long(4096), ctypes.c_long(size)) == 0
                yield {"places": [4096 + 3 * number, 3]}

        responses = ask(client, {"call": echo, "memory": handle(fd)}, requests())
    os.close(fd)
    results = [result for response in responses for result in response.results]
    assert len(results) == count
    assert set(results) <= {b'"x"', b'"y"', b""}
    assert {failure.error for response in responses for failure in response.failures} <= {"InvalidDocument"}
    assert client.execute("shm", "f", 5) == 5


def arenas(pid: int) -> int:
    return Path(f"/proc/{pid}/maps").read_text().count("memfd:pexec ")


def test_an_arena_is_kept_if_nothing_in_it_is_needed() -> None:
    arenas = Arenas(1000)
    with arenas.lend() as first, arenas.lend() as second:
        assert first is not second
        offset = first.put(b"1")
    with arenas.lend() as third:
        assert third is second
        with pytest.raises(ValueError, match="closed"):
            first.put(b"1")  # it was given back with something in it
        assert offset is not None and offset == third.put(b"1")
        third.free(offset)
    arenas.close()
    with arenas.lend() as fourth:
        assert fourth is not third
    with pytest.raises(ValueError, match="closed"):
        fourth.put(b"1")


def test_nothing_is_left_behind(serve: Serve) -> None:
    process, address = serve()
    before = descriptors()
    with Client(address) as client:
        client.deploy("shm", px.Plugin("const f = x => x"))
        results = client.stream("shm", "f", itertools.count(), shared=True)
        next(results)
        assert (arenas(os.getpid()), arenas(process.popen.pid)) == (1, 1)
        results.close()
        for _ in range(3):
            assert sum(1 for _ in client.stream("shm", "f", range(100), shared=True)) == 100
        client.execute("shm", "f", 5, shared=True)
        with pytest.raises(px.InvalidDocument):
            client.execute("shm", "f", b"{", shared=True)
        with pytest.raises(ServiceError):
            client.execute("shm", "nope", b"{", shared=True)
        assert arenas(os.getpid()) == 1  # for the next stream
        while client.stats().calls or arenas(process.popen.pid):
            pass
        late = client.stream("shm", "f", [1], shared=True)
    with pytest.raises(ValueError, match=r"(?i)channel closed|closed channel"):
        next(late)
    assert arenas(os.getpid()) == 0
    assert not [each for each in descriptors() - before if "memfd" in link(each)]


def test_what_a_killed_client_had_is_gone(serve: Serve) -> None:
    process, address = serve()
    with Client(address) as client:
        client.deploy("shm", px.Plugin("const f = x => x"))
        code = (
            "import itertools, os, signal, sys; from parallel_exec.service import Client\n"
            "for result in Client(sys.argv[1]).stream('shm', 'f', itertools.count(), shared=True):\n"
            "    if result.document == 100: os.kill(os.getpid(), signal.SIGKILL)"
        )
        subprocess.run([sys.executable, "-c", code, address], check=False)
        while client.stats().calls or arenas(process.popen.pid):
            pass


def test_a_document_larger_than_the_arena_is_sent_as_bytes(address: str) -> None:
    with Client(address) as client:
        client.deploy("large", px.Plugin("const f = x => x.length"))
        large = b'"' + b"x" * (20 << 20) + b'"'
        results = list(client.stream("large", "f", [b'"a"', large, b'"bc"'], shared=True))
        assert [result.value for result in results] == [1, 20 << 20, 2]
        client.undeploy("large")
