"""The server as a process: how it stops, whom it answers, what it refuses."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import parallel_exec as px
from parallel_exec.cli.main import dispatch
from parallel_exec.service import Client, ServerOptions, ServiceError
from parallel_exec.service._protocol import schema
from tests.service.programs import Serve, Start

PLUGIN = px.Plugin(
    "function double(x) { return 2 * x }"
    "function wait(n) { let x = 0; for (let i = 0; i < n; i++) x = (x + i) % 7; return n }"
)
SERVING = health_pb2.HealthCheckResponse.SERVING


def health(channel: grpc.Channel, service: str = "") -> int:
    status: int = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service)).status
    return status


def until_it_runs(client: Client) -> None:
    while not client.stats().in_flight:
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_runs_end_and_takes_no_more(serve: Serve, number: signal.Signals) -> None:
    process, address = serve()
    with Client(address) as client:
        client.deploy("d", PLUGIN)
        running = client.submit("d", "wait", 5_000_000)
        until_it_runs(client)
        process.popen.send_signal(number)
        assert running.result() == b"5000000"
        assert process.end(None) == (0, "")
        with pytest.raises(ServiceError) as gone:
            client.execute("d", "double", 1)
    assert gone.value.code == "UNAVAILABLE"


def test_a_stream_ends_after_what_had_come_when_the_server_stops(serve: Serve) -> None:
    process, address = serve()
    with Client(address) as client:
        client.deploy("d", PLUGIN)
        more = threading.Event()

        def documents() -> Iterator[int]:
            yield from [2_000_000] * 4
            more.wait(60)

        results = client.stream("d", "wait", documents())
        got = [next(results).value]
        process.popen.send_signal(signal.SIGTERM)
        with pytest.raises(
            ServiceError, match="the server is stopping; documents from number 4 on were not run"
        ) as end:
            got.extend(result.value for result in results)
        more.set()
        assert got == [2_000_000] * 4
        assert end.value.code == "UNAVAILABLE"
    assert process.end(None) == (0, "")


def test_after_the_grace_what_runs_is_stopped(serve: Serve) -> None:
    process, address = serve("--grace", "0.2", "--time-limit", "300")
    with Client(address) as client:
        client.deploy("d", PLUGIN)
        running = client.submit("d", "wait", 1e15)
        until_it_runs(client)
        assert process.end(signal.SIGTERM) == (0, "")
        assert isinstance(running.exception(), ServiceError)


def test_a_second_signal_does_not_wait(serve: Serve) -> None:
    process, address = serve("--grace", "300", "--time-limit", "300")
    with Client(address) as client:
        client.deploy("d", PLUGIN)
        running = client.submit("d", "wait", 1e15)
        until_it_runs(client)
        process.popen.send_signal(signal.SIGTERM)
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
            while True:  # until it has heard of the first one
                health(channel)
        assert process.end(signal.SIGTERM) == (0, "")
        assert isinstance(running.exception(), ServiceError)


def test_a_client_that_is_killed_stops_its_jobs(serve: Serve, start: Start, tmp_path: Path) -> None:
    _, address = serve("--time-limit", "300")
    (tmp_path / "doc").write_text("1e15")
    with Client(address) as client:
        client.deploy("d", PLUGIN)
        caller = start("client", "execute", "d", "wait", str(tmp_path / "doc"), "--server", address)
        until_it_runs(client)
        caller.kill()
        while client.stats().calls:
            pass
        assert client.execute("d", "double", 21) == 42


def test_health_and_reflection(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        assert health(channel) == health(channel, schema.SERVICE) == SERVING
        requests = iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol=schema.SERVICE)])
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (found,) = stub.ServerReflectionInfo(requests)
        assert b"ExecuteStream" in found.file_descriptor_response.file_descriptor_proto[0]


def test_a_token(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    _, address = serve("--token-file", str(tmp_path / "token"))
    for wrong in (None, "s3cre", "s3crets", "S3cret"):
        with Client(address, token=wrong) as client:
            for call in (client.list, lambda: list(client.stream("d", "f", [1])), lambda: client.deploy("d", PLUGIN)):
                with pytest.raises(ServiceError, match="the token is missing or wrong") as refused:
                    call()
                assert refused.value.code == "UNAUTHENTICATED"
    with Client(address, token="s3cret") as client:
        client.deploy("d", PLUGIN)
        assert [result.value for result in client.stream("d", "double", [1, 2])] == [2, 4]
    with grpc.insecure_channel(address) as channel:
        assert health(channel) == SERVING


def test_callers_without_the_token_occupy_no_place(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    _, address = serve("--token-file", str(tmp_path / "token"), "--max-calls", "4")
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait()
        yield b""

    with grpc.insecure_channel(address) as channel:
        methods = [f"/{schema.SERVICE}/ExecuteStream", f"/{schema.SERVICE}/Execute", "/grpc.health.v1.Health/Watch"]
        try:
            for method in methods * 4:
                with pytest.raises(grpc.RpcError) as refused:
                    next(channel.stream_stream(method)(nothing(), timeout=60))
                assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        finally:
            never.set()
        assert health(channel) == SERVING


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """Files with a certificate for localhost, signed by itself, and its key."""
    x509 = pytest.importorskip("cryptography.x509", reason="pip install cryptography")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(private)
    return str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")


def test_tls(serve: Serve, certificate: tuple[str, str]) -> None:
    cert, key = certificate
    _, address = serve("--tls-cert", cert, "--tls-key", key, "--listen", "localhost:0")
    with open(cert, "rb") as file, Client(address, certificates=file.read()) as client:
        client.deploy("d", PLUGIN)
        assert client.execute("d", "double", 21) == 42
    with Client(address, timeout_s=20) as client, pytest.raises(ServiceError) as refused:
        client.list()
    assert refused.value.code == "UNAVAILABLE"


def test_a_unix_socket(serve: Serve, tmp_path: Path) -> None:
    _, address = serve("--listen", f"unix:{tmp_path}/s")
    assert address == f"unix:{tmp_path}/s"
    with Client(address) as client:
        client.deploy("d", PLUGIN)
        assert client.execute("d", "double", 21, shared=True) == 42


def test_messages_are_bounded(serve: Serve) -> None:
    _, address = serve("--max-message-bytes", "10000")
    with Client(address) as client:
        client.deploy("d", PLUGIN)
        large = b" " * 10_000 + b"1"
        with pytest.raises(ServiceError, match="larger than max") as refused:
            client.execute("d", "double", large)
        assert refused.value.code == "RESOURCE_EXHAUSTED"
        with pytest.raises(px.InvalidDocument, match="has 10001 bytes; at most 10000 are accepted"):
            client.execute("d", "double", large, shared=True)
        assert client.execute("d", "double", large[100:], shared=True) == 2


def test_a_pool_that_breaks_ends_the_server(serve: Serve) -> None:
    psutil = pytest.importorskip("psutil")
    process, address = serve()
    with Client(address) as client:
        client.deploy("d", PLUGIN)
        zygote = psutil.Process(process.popen.pid).children()[0]
        killed: set[int] = set()
        while len(killed) < 8:  # as many as a pool bears
            for worker in zygote.children():
                if worker.pid not in killed:
                    worker.kill()
                    killed.add(worker.pid)
        while process.popen.poll() is None:
            with pytest.raises(px.PexecError):  # of the pool, and then of a server that is not there
                client.execute("d", "double", 1)
    status, errors = process.end(None)
    assert status == 1
    assert errors == "pexec: error: the pool is broken: its workers keep dying\n"


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (
            ["--listen", "0.0.0.0:0"],
            2,
            "0.0.0.0 is reachable from other machines: give a token, a certificate and its key",
        ),
        (["--listen", "nonsense"], 2, "an address is host:port or unix:path; got 'nonsense'"),
        (["--listen", "127.0.0.1:99999"], 2, "an address is host:port"),
        (["--tls-cert", "/dev/null"], 2, "a certificate needs its key"),
        (["--tls-cert", "/dev/null", "--tls-key", "/dev/null"], 1, "cannot listen on 127.0.0.1:0: "),
        (["--token-file", "/dev/null"], 2, "the token is empty"),
        (["--token-file", "/nowhere"], 1, "--token-file: cannot read /nowhere: No such file or directory"),
        (["--max-message-bytes", "10"], 2, "message_bytes must be at least 1024; got 10"),
        (["--max-calls", "0"], 2, "calls must be at least 1; got 0"),
        (["--workers", "0"], 2, "--workers must be at least 1; got 0"),
        (["--listen", "192.0.2.1:0", "--insecure"], 1, "cannot listen on 192.0.2.1:0: "),
        (["--listen", "USED"], 1, "cannot listen on 127.0.0.1:"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(
    capfd: pytest.CaptureFixture[str], address: str, options: Sequence[str], status: int, says: str
) -> None:
    assert dispatch(["serve", *(address if each == "USED" else each for each in options)]) == status
    errors = capfd.readouterr().err
    assert errors.count("\n") == 1 and errors.startswith(f"pexec: error: {says}")


def test_options() -> None:
    assert ServerOptions(listen="[::1]:0").insecure is False
    assert ServerOptions(listen="0.0.0.0:1", insecure=True)
    assert ServerOptions(listen="0.0.0.0:1", token="t", certificate=b"c", key=b"k")
    assert os.environ["GRPC_VERBOSITY"]
