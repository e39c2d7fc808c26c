"""The server: a pool behind gRPC, with health, reflection, and an end that loses nothing that runs."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import resource
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from parallel_exec.errors import PexecError, WorkerCrashed
from parallel_exec.limits import Limits
from parallel_exec.pool import Pool
from parallel_exec.service._protocol.messages import SERVICE
from parallel_exec.service._server.admission import Admission
from parallel_exec.service._server.auth import TokenCheck, bearer
from parallel_exec.service._server.registry import Registry
from parallel_exec.service._server.servicer import Servicer

_HEALTHY = health_pb2.HealthCheckResponse.SERVING
# A call is cancelled when its client has been silent for a minute and does not answer within the second figure.
_KEEPALIVE_MS = 60_000, 20_000
_UNUSED_MS = 600_000
_TELL_S = 1.0
_HANDSHAKE_MS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerOptions:
    """How a server serves.

    Attributes:
        listen: ``host:port``, port 0 for a free one, or ``unix:path``.
        workers: processes of the pool; None for one per CPU that may be used.
        limits: of every job; None for the default ones. Those of plugins and calls can only be tighter.
        certificate, key: PEM, for TLS; None for none.
        token: what callers have to know; None if they need nothing.
        message_bytes: most bytes of a message that comes in, and so of a document.
        deployments: how many there may be.
        calls: how many may work (deploy, swap, execute, stream) at a time; one connection may have half of them.
        idle_s: seconds after which a stream is ended on which nothing comes or goes and for which nothing runs.
        grace_s: seconds that what runs is given to end when the server stops.
        insecure: whether to serve others than this machine without a token or TLS.

    Raises:
        ValueError: a value is not what it can be, or others than this machine would be served without token and TLS.

    >>> ServerOptions(listen="0.0.0.0:50051")
    Traceback (most recent call last):
    ...
    ValueError: 0.0.0.0 is not of this machine alone: a token, a certificate and its key are needed, or insecure=True
    """

    listen: str = "127.0.0.1:0"
    workers: int | None = None
    limits: Limits | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    token: str | None = None
    message_bytes: int = 64 << 20
    deployments: int = 256
    calls: int = 256
    idle_s: float = 600.0
    grace_s: float = 30.0
    insecure: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("message_bytes", 1024),
            ("deployments", 1),
            ("calls", 1),
            ("idle_s", 0.01),
            ("grace_s", 0),
        ):
            if not least <= getattr(self, name) < 1e15:
                raise ValueError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate needs its key, and a key its certificate")
        if self.token == "":
            raise ValueError("the token is empty")
        if self.token is not None:
            bearer(self.token)
        if self.listen.startswith("unix:"):
            return
        host, colon, port = self.listen.rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"an address is host:port or unix:path; got {self.listen!r}")
        if not (self.insecure or (self.token and self.certificate) or _is_loopback(host)):
            raise ValueError(
                f"{host} is not of this machine alone: a token, a certificate and its key are needed, or insecure=True"
            )


class Server:
    """A server that runs. `start` makes one.

    Attributes:
        address: what clients connect to; with the port, where a free one was asked for.
        pool: its pool.
    """

    def __init__(
        self,
        options: ServerOptions,
        pool: Pool,
        server: Any,
        servicer: Servicer,
        admission: Admission,
        address: str,
    ) -> None:
        self.address = address
        self.pool = pool
        self._options = options
        self._server = server
        self._servicer = servicer
        self._admission = admission
        self._health: Any = None

    @classmethod
    async def start(cls, options: ServerOptions) -> Server:
        """Start a pool and serve it.

        Raises:
            PexecError: the address cannot be listened on, or the certificate and key are none.
        """
        limits = options.limits or Limits()
        pool = Pool(options.workers, limits=limits)
        try:
            registry = Registry(pool, limits, options.deployments)
            servicer = Servicer(pool, registry, min(options.message_bytes, limits.document_bytes), options.idle_s)
            admission = Admission(options.calls, options.idle_s)
            server = grpc.aio.server(
                interceptors=[*([TokenCheck(options.token)] if options.token else []), admission],
                options=[
                    ("grpc.max_receive_message_length", options.message_bytes),
                    ("grpc.max_send_message_length", -1),  # Limits.output_bytes bounds results
                    ("grpc.so_reuseport", 0),  # or two servers could share a port, each with other deployments
                    ("grpc.keepalive_time_ms", _KEEPALIVE_MS[0]),
                    ("grpc.keepalive_timeout_ms", _KEEPALIVE_MS[1]),
                    # Of one connection; a client that has more calls waits by itself.
                    ("grpc.max_concurrent_streams", max(2, options.calls // 2)),
                    ("grpc.max_allowed_incoming_connections", _most_connections()),
                    ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
                    # Nobody asks a connection without calls whether its client is still there; who is, connects anew.
                    ("grpc.max_connection_idle_ms", _UNUSED_MS),
                ],
            )
            started = cls(options, pool, server, servicer, admission, _bind(server, options))
            server.add_generic_rpc_handlers((servicer.handler(),))
            started._health = health.aio.HealthServicer()
            health_pb2_grpc.add_HealthServicer_to_server(started._health, server)
            reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
            for name in ("", SERVICE):
                await started._health.set(name, _HEALTHY)
            await server.start()
        except BaseException:
            pool.shutdown()
            raise
        return started

    async def serve_until(self, stop: asyncio.Event) -> None:
        """Serve until an event is set, and then stop.

        Raises:
            WorkerCrashed: the pool's workers die one after another; the server has stopped.
        """
        waits = [asyncio.create_task(each.wait()) for each in (stop, self._servicer.broken)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await self.stop()
        if self._servicer.broken.is_set():
            raise WorkerCrashed("the pool is broken: its workers die one after another")

    async def stop(self, grace_s: float | None = None) -> None:
        """Take no more calls and no more documents, let what runs end, and end the pool.

        Args:
            grace_s: seconds after which what still runs is stopped; by default what the options say.
        """
        # A watcher of health that does not read holds up whoever changes it.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._health.enter_graceful_shutdown(), _TELL_S)
        self._admission.stop()
        self._servicer.stopping.set()
        await self._server.stop(self._options.grace_s if grace_s is None else grace_s)
        await asyncio.to_thread(self.pool.shutdown, cancel_futures=True)


def _most_connections() -> int:
    """Return how many connections leave the pool half of the descriptors that this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft // 2


def _bind(server: Any, options: ServerOptions) -> str:
    host = options.listen.rpartition(":")[0]
    try:
        if options.certificate is None:
            port = server.add_insecure_port(options.listen)
        else:
            credentials = grpc.ssl_server_credentials([(options.key, options.certificate)])
            port = server.add_secure_port(options.listen, credentials)
    except RuntimeError:
        why = "it is in use or not this machine's"
        raise PexecError(f"cannot listen on {options.listen}: {why}, or certificate and key do not fit") from None
    return options.listen if options.listen.startswith("unix:") else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
