"""`pexec serve`: a gRPC server over a pool."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from parallel_exec.cli.failures import usage
from parallel_exec.cli.options import (
    MemoryOption,
    TimeOption,
    WorkersOption,
    count_workers,
    make_limits,
    parse_size,
    read_secret,
    read_token,
)
from parallel_exec.cli.startup import ready

if TYPE_CHECKING:
    from parallel_exec.service import ServerOptions


def serve(
    *,
    listen: Annotated[
        str,
        typer.Option("--listen", metavar="ADDRESS", help="host:port (port 0 picks a free one) or unix:path."),
    ] = "127.0.0.1:0",
    workers: WorkersOption = None,
    time_limit: TimeOption = None,
    memory_limit: MemoryOption = None,
    max_message_bytes: Annotated[
        str, typer.Option("--max-message-bytes", metavar="SIZE", help="Maximum size of a message, so of a document.")
    ] = "64M",
    max_calls: Annotated[int, typer.Option("--max-calls", metavar="N", help="Maximum number of active calls.")] = 256,
    idle_limit: Annotated[
        float, typer.Option("--idle-limit", metavar="SECONDS", help="End streams that have been idle for so long.")
    ] = 600.0,
    tls_cert: Annotated[str | None, typer.Option("--tls-cert", metavar="FILE", help="TLS certificate (PEM).")] = None,
    tls_key: Annotated[str | None, typer.Option("--tls-key", metavar="FILE", help="Its private key (PEM).")] = None,
    token_file: Annotated[
        str | None, typer.Option("--token-file", metavar="FILE", help="File with a token that callers must present.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Accept other machines even without a token or TLS.")
    ] = False,
    grace: Annotated[
        float, typer.Option("--grace", metavar="SECONDS", help="How long running calls may take to end on shutdown.")
    ] = 30.0,
) -> None:
    """Serve plugins over gRPC.

    The address is printed once the server accepts calls. SIGTERM and Ctrl-C stop the server: it accepts no new calls,
    running ones may end within --grace, and the exit status is 0. A second signal stops running calls at once. Anyone
    who may call the server may deploy plugins.
    """
    limits = make_limits(memory_limit, time_limit)
    certificate, key = read_secret(tls_cert, "--tls-cert"), read_secret(tls_key, "--tls-key")
    token = read_token(token_file)
    message_bytes = parse_size(max_message_bytes, "--max-message-bytes")
    processes = count_workers(workers)

    from parallel_exec.service import ServerOptions

    try:
        options = ServerOptions(
            listen=listen,
            workers=processes,
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
