"""`pexec serve`: a gRPC server over a pool."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from parallel_exec.cli.failures import usage
from parallel_exec.cli.options import (
    DebugOption,
    MemoryOption,
    TimeOption,
    WorkersOption,
    make_limits,
    parse_size,
    read_secret,
)
from parallel_exec.cli.startup import ready

if TYPE_CHECKING:
    from parallel_exec.service import ServerOptions


def serve(
    listen: Annotated[
        str,
        typer.Option("--listen", metavar="ADDRESS", help="host:port, port 0 for a free one, or unix:path."),
    ] = "127.0.0.1:0",
    workers: WorkersOption = None,
    time_limit: TimeOption = None,
    memory_limit: MemoryOption = None,
    max_message_bytes: Annotated[
        str, typer.Option("--max-message-bytes", metavar="SIZE", help="Size of a message, and so of a document.")
    ] = "64M",
    max_calls: Annotated[int, typer.Option("--max-calls", metavar="N", help="Calls that work at a time.")] = 256,
    idle_limit: Annotated[
        float, typer.Option("--idle-limit", metavar="SECONDS", help="When to end streams on which nothing happens.")
    ] = 600.0,
    tls_cert: Annotated[str | None, typer.Option("--tls-cert", metavar="FILE", help="Certificate, PEM.")] = None,
    tls_key: Annotated[str | None, typer.Option("--tls-key", metavar="FILE", help="Its key, PEM.")] = None,
    token_file: Annotated[
        str | None, typer.Option("--token-file", metavar="FILE", help="A file with the token that callers must know.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve other machines even without token or TLS.")
    ] = False,
    grace: Annotated[
        float, typer.Option("--grace", metavar="SECONDS", help="Time for what runs when the server is told to stop.")
    ] = 30.0,
    debug: DebugOption = False,
) -> None:
    """Serve plugins over gRPC.

    The address is printed when calls are answered. SIGTERM and Ctrl-C stop the server: no new calls, what runs ends
    within --grace, exit status 0. A second signal stops what runs at once. Whoever may call may deploy plugins.
    """
    limits = make_limits(time_s=time_limit, memory=memory_limit)
    certificate = None if tls_cert is None else read_secret(tls_cert, "--tls-cert")
    key = None if tls_key is None else read_secret(tls_key, "--tls-key")
    token = None if token_file is None else read_secret(token_file, "--token-file").decode(errors="replace").strip()
    message_bytes = parse_size(max_message_bytes, "--max-message-bytes")
    if workers is not None and workers < 1:
        raise usage(f"--workers must be at least 1; got {workers}")

    from parallel_exec.service import ServerOptions

    try:
        options = ServerOptions(
            listen=listen,
            workers=workers,
            limits=limits,
            certificate=certificate,
            key=key,
            token=token,
            message_bytes=message_bytes,
            calls=max_calls,
            idle_s=idle_limit,
            grace_s=grace,
            insecure=insecure,
        )
    except ValueError as error:
        raise usage(str(error).replace("or insecure=True", "or --insecure")) from None
    ready()
    asyncio.run(_serve(options))


async def _serve(options: ServerOptions) -> None:
    from parallel_exec.service import Server

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    server = await Server.start(options)

    hurries: list[asyncio.Task[None]] = []

    def on_signal() -> None:
        if stop.is_set():
            hurries.append(asyncio.create_task(server.stop(0)))
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    typer.echo(f"serving on {server.address}")
    await server.serve_until(stop)
