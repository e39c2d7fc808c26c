"""Callers that send nothing, read nothing or send nonsense: others are served, and what they used is given back."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import parallel_exec as px
from parallel_exec.service import Client, ServiceError
from parallel_exec.service._protocol import schema
from tests.service.programs import Serve

PLUGIN = px.Plugin("const double = x => 2 * x; const long = x => 'x'.repeat(1e6); function spin() { for (;;) ; }")
STREAM = f"/{schema.SERVICE}/ExecuteStream"
EXECUTE = f"/{schema.SERVICE}/Execute"
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


class Silence:
    """Requests that stop coming after the first ones."""

    def __init__(self, *first: bytes) -> None:
        self._first = first
        self._never = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        yield from self._first
        self._never.wait()

    def end(self) -> None:
        self._never.set()


MakeSilence = Callable[..., Silence]


@pytest.fixture
def silence() -> Iterator[MakeSilence]:
    made: list[Silence] = []

    def make(*first: bytes) -> Silence:
        made.append(Silence(*first))
        return made[-1]

    yield make
    for each in made:
        each.end()


def connect(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])


def opened(function: str = "double", **more: Any) -> bytes:
    call = {"deployment": "d", "function": function}
    content: bytes = schema.StreamRequest(open={"call": call}, **more).SerializeToString()
    return content


@pytest.mark.parametrize("method", [STREAM, EXECUTE, CHECK, WATCH, REFLECTION])
def test_a_client_that_fills_its_connection_blocks_nobody_else(serve: Serve, silence: MakeSilence, method: str) -> None:
    _, address = serve("--max-calls", "8")
    with Client(address, timeout_s=60) as client, connect(address) as full, connect(address) as other:
        client.deploy("d", PLUGIN)
        held = [full.stream_stream(method)(iter(silence())) for _ in range(20)]
        # The connection is full when a call on it does not get through.
        with pytest.raises(grpc.RpcError):
            while True:
                health_pb2_grpc.HealthStub(full).Check(health_pb2.HealthCheckRequest(), timeout=0.5)
        assert health_pb2_grpc.HealthStub(other).Check(health_pb2.HealthCheckRequest(), timeout=60).status == 1
        assert client.execute("d", "double", 21) == 42
        assert [each.name for each in client.list()] == ["d"]
        assert len(held) == 20  # until here


def test_with_all_places_taken_other_calls_are_still_answered(serve: Serve, silence: MakeSilence) -> None:
    _, address = serve("--max-calls", "2")
    with Client(address, timeout_s=60) as client, connect(address) as other:
        client.deploy("d", PLUGIN)
        held = [other.stream_stream(STREAM)(iter(silence(opened(documents=[b"1"])))) for _ in range(2)]
        for call in held:
            next(call)
        with pytest.raises(ServiceError, match="the server already has 2 calls, the most it accepts") as refused:
            client.execute("d", "double", 1)
        assert refused.value.code == "UNAVAILABLE"
        assert client.stats().calls == 2 and len(client.list()) == 1
        for call in held:
            call.cancel()
        while client.stats().calls:
            pass
        assert client.execute("d", "double", 21) == 42


@pytest.mark.parametrize(
    ("first", "says"),
    [((), "no request has come for 0.2 s"), ((opened(documents=[b"1"]),), "nothing has come, and no outcome has been")],
)
def test_a_stream_on_which_nothing_happens_ends(
    serve: Serve, silence: MakeSilence, first: tuple[bytes, ...], says: str
) -> None:
    _, address = serve("--idle-limit", "0.2")
    with Client(address) as client, connect(address) as other:
        client.deploy("d", PLUGIN)
        with pytest.raises(grpc.RpcError) as ended:
            list(other.stream_stream(STREAM)(iter(silence(*first))))
        assert ended.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert ended.value.details().startswith(says)
        with pytest.raises(px.JobTimeout):  # what runs is not idle
            list(client.stream("d", "spin", [1], limits=px.Limits(time_s=1)))


def test_a_stream_whose_results_nobody_reads_ends(serve: Serve) -> None:
    _, address = serve("--idle-limit", "0.2")
    with Client(address) as client, Client(address) as slow:
        client.deploy("d", PLUGIN)
        results = slow.stream("d", "long", range(100))
        next(results)
        while client.stats().calls:
            pass
        with pytest.raises(ServiceError, match="no outcome has been taken"):
            list(results)


@pytest.mark.parametrize("content", [b"\xff\xff", b"\x12\xff\xff\xff\xff\x0f"])
@pytest.mark.parametrize("method", [STREAM, EXECUTE, CHECK, f"/{schema.SERVICE}/Deploy"])
def test_a_malformed_request_is_refused_as_such(address: str, method: str, content: bytes) -> None:
    with connect(address) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            list(channel.stream_stream(method)(iter([content])))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError, match="the call has no request"):
            list(channel.stream_stream(method)(iter([])))


def test_a_malformed_request_in_the_middle_of_a_stream(client: Client) -> None:
    client.deploy("d", PLUGIN)
    with connect(client.address) as channel, pytest.raises(grpc.RpcError, match="the request is malformed"):
        list(channel.stream_stream(STREAM)(iter([opened(documents=[b"1"]), b"\xff\xff"])))
    client.undeploy("d")


def test_clients_that_wait_or_watch_do_not_delay_the_stop(serve: Serve, silence: MakeSilence) -> None:
    process, address = serve("--grace", "300")
    with connect(address) as channel:
        watched = channel.stream_stream(WATCH)(iter(silence(b"")))
        assert next(watched) == b"\x08\x01"
        waiting = channel.stream_stream(EXECUTE)(iter(silence()))
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())  # by now it waits
        assert process.end(signal.SIGTERM) == (0, "")
        assert waiting.code() == grpc.StatusCode.UNAVAILABLE


def test_a_watcher_that_takes_no_byte_does_not_delay_the_stop(serve: Serve) -> None:
    """HTTP/2 by hand: a window of no bytes, and Health.Watch."""
    process, address = serve("--grace", "0.1")

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload

    fields = {":method": "POST", ":scheme": "http", ":path": WATCH, ":authority": "x", "te": "trailers"}
    fields["content-type"] = "application/grpc"
    headers = b"".join(
        b"\0" + b"".join(bytes([len(part)]) + part.encode() for part in field) for field in fields.items()
    )
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as watcher:
        no_window = frame(4, 0, 0, (4).to_bytes(2) + bytes(4))
        call = frame(1, 4, 1, headers) + frame(0, 1, 1, bytes(5))
        watcher.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + no_window + call)
        stream = watcher.makefile("rb")
        answered = False
        while not answered:  # until the answer's headers are there, and so its message waits
            head = stream.read(9)
            stream.read(int.from_bytes(head[:3]))
            answered = head[3] == 1
        assert process.end(signal.SIGTERM) == (0, "")


def test_what_failed_calls_used_is_given_back(serve: Serve) -> None:
    process, address = serve()

    def arenas() -> int:
        links = list(Path(f"/proc/{process.popen.pid}/fd").iterdir())
        return sum("memfd:pexec" in str(link.readlink()) for link in links if link.is_symlink())

    psutil = pytest.importorskip("psutil")
    server = psutil.Process(process.popen.pid)
    with Client(address) as client:
        client.deploy("d", PLUGIN)
        large = b"!" + b" " * 10_000_000

        def leave() -> None:
            results = client.stream("d", "double", range(300), shared=True)
            next(results)
            results.close()
            raise px.PexecError("left")

        failing = (
            leave,
            lambda: client.execute("d", "double", b"!", shared=True),
            lambda: list(client.stream("d", "double", [b"1", b"!"], shared=True)),
            lambda: client.execute("d", "nope", large),
            lambda: client.execute("d", "double", large),
        )
        for call in failing:
            with pytest.raises(px.PexecError):
                call()
        before = server.memory_info().rss
        for call in failing * 10:
            with pytest.raises(px.PexecError):
                call()
        while client.stats().calls:
            pass
        client.list()
        assert arenas() <= 2  # one may be about to go
        assert server.memory_info().rss - before < 60 << 20


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "\0", "a\x1b[31m", "a\u202eb"])
def test_names_that_are_refused(client: Client, name: str) -> None:
    with pytest.raises(ServiceError, match="1 to 200 characters, all of them printable"):
        client.deploy(name, PLUGIN)
