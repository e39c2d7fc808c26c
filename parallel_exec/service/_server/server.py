"""The server: a pool behind gRPC, with health, reflection, and a stop that lets running jobs end."""

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
from parallel_exec.service._protocol.connection import bearer, host_of
from parallel_exec.service._protocol.schema import SERVICE
from parallel_exec.service._server.admission import Admission, TokenCheck
from parallel_exec.service._server.methods import Servicer
from parallel_exec.service._server.registry import Registry

_HEALTHY = health_pb2.HealthCheckResponse.SERVING
# A call is cancelled when its client has been silent for a minute and then does not answer a ping in time.
_KEEPALIVE_MS = 60_000
_PING_MS = 20_000
_UNUSED_MS = 600_000
_TELL_S = 1.0
_HANDSHAKE_MS = 10_000
_MOST = 1e15  # beyond any sensible number or size


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerOptions:
    """How a server serves.

    Attributes:
        listen: ``host:port``, port 0 for a free one, or ``unix:path``.
        workers: processes of the pool; None for one per usable CPU.
        limits: bounds on every job; None for the default ones. Plugins and calls can only tighten them.
        certificate: the server's certificate, PEM, for TLS; None: no TLS.
        key: the certificate's key, PEM.
        token: what callers must know; None if anyone may call.
        message_bytes: the most bytes of an incoming message, and so of a document.
        deployments: how many there may be.
        calls: how many may work (deploy, swap, execute, stream) at a time; one connection may have half of them.
        idle_s: seconds after which an idle stream ends: one that moves no documents and has no job running.
        grace_s: seconds that running calls are given to end when the server stops.
        insecure: whether to serve other machines without a token or TLS.

    Raises:
        ValueError: a value is out of its range, or other machines would be served without a token and TLS.

    >>> ServerOptions(listen="0.0.0.0:50051")
    Traceback (most recent call last):
    ...
    ValueError: 0.0.0.0 is reachable from other machines: give a token, a certificate and its key, or insecure=True
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
            if not least <= getattr(self, name) < _MOST:
                raise ValueError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate needs its key, and a key its certificate")
        if self.token == "":
            raise ValueError("the token is empty")
        if self.token is not None:
            bearer(self.token)
        host = host_of(self.listen, least_port=0)
        if host is None or self.insecure or (self.token and self.certificate) or _is_loopback(host):
            return
        raise ValueError(
            f"{host} is reachable from other machines: give a token, a certificate and its key, or insecure=True"
        )


class Server:
    """A running server, made by `start`.

    Attributes:
        address: what clients connect to; if port 0 was asked for, with the port that it became.
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
            PexecError: it cannot bind the address, or the certificate and key are invalid.
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
                    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
                    ("grpc.keepalive_timeout_ms", _PING_MS),
                    # Per connection; a client with more calls queues them itself.
                    ("grpc.max_concurrent_streams", max(2, options.calls // 2)),
                    ("grpc.max_allowed_incoming_connections", _most_connections()),
                    ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
                    # Connections without calls are not pinged; a client that is still there reconnects.
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
            WorkerCrashed: the pool's workers keep dying; the server has stopped.
        """
        waits = [asyncio.create_task(each.wait()) for each in (stop, self._servicer.broken)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await self.stop()
        if self._servicer.broken.is_set():
            raise WorkerCrashed("the pool is broken: its workers keep dying")

    async def stop(self, grace_s: float | None = None) -> None:
        """Accept no more calls and documents, let running ones end, and shut the pool down.

        Args:
            grace_s: seconds after which what still runs is stopped; by default the options' `grace_s`.
        """
        # A watcher of health that does not read blocks this.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._health.enter_graceful_shutdown(), _TELL_S)
        self._admission.stop()
        self._servicer.stopping.set()
        await self._server.stop(self._options.grace_s if grace_s is None else grace_s)
        await asyncio.to_thread(self.pool.shutdown, cancel_futures=True)


def _most_connections() -> int:
    """Return half of the descriptors that this process may have: the rest is for the pool."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft // 2


def _bind(server: Any, options: ServerOptions) -> str:
    host = host_of(options.listen, least_port=0)
    try:
        if options.certificate is None:
            port = server.add_insecure_port(options.listen)
        else:
            credentials = grpc.ssl_server_credentials([(options.key, options.certificate)])
            port = server.add_secure_port(options.listen, credentials)
    except RuntimeError:
        why = "it is in use or not this machine's"
        raise PexecError(f"cannot listen on {options.listen}: {why}, or certificate and key do not fit") from None
    return options.listen if host is None else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
