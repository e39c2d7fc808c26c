"""`pexec consume`: documents from a Redis stream, results into another one."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parallel_exec.cli.client import CertificateOption, ServerOption, TokenOption, _connect
from parallel_exec.cli.failures import say, usage
from parallel_exec.cli.options import (
    DebugOption,
    FunctionOption,
    InputOption,
    MemoryOption,
    TimeOption,
    WorkersOption,
    count_workers,
    load_function,
    make_limits,
)
from parallel_exec.cli.startup import ready

if TYPE_CHECKING:
    from parallel_exec._codec.documents import Input
    from parallel_exec.limits import Limits
    from parallel_exec.queue.consumer import ConsumerOptions, Counts, Submit
    from parallel_exec.service import Client

Stop = Callable[[Any], None]


def consume(
    url: Annotated[
        str, typer.Argument(metavar="URL", envvar="PEXEC_REDIS", help="redis://HOST:PORT/DB.", show_default=False)
    ],
    plugin: Annotated[
        str | None,
        typer.Argument(metavar="PLUGIN", help="The file: JavaScript or a WebAssembly module.", show_default=False),
    ] = None,
    deployment: Annotated[
        str | None,
        typer.Option("--deployment", metavar="NAME", help="Run this deployment of --server in place of a plugin."),
    ] = None,
    stream: Annotated[str, typer.Option("--stream", metavar="KEY", help="The stream of documents.")] = "",
    group: Annotated[str, typer.Option("--group", metavar="NAME", help="The consumer group; made if missing.")] = "",
    results: Annotated[str, typer.Option("--results", metavar="KEY", help="The stream of results.")] = "",
    function: FunctionOption = None,
    input: InputOption = "json",
    field: Annotated[
        str, typer.Option("--field", metavar="NAME", help="The field of an entry that has the document.")
    ] = "document",
    dead: Annotated[
        str | None,
        typer.Option("--dead", metavar="KEY", help="Where entries go that fail too often; by default STREAM:dead."),
    ] = None,
    deliveries: Annotated[
        int, typer.Option("--deliveries", metavar="N", help="How often an entry is tried whose worker dies.")
    ] = 3,
    in_flight: Annotated[
        int, typer.Option("--in-flight", metavar="N", help="Most entries read and not answered.")
    ] = 256,
    claim_after: Annotated[
        float,
        typer.Option("--claim-after", metavar="SECONDS", help="When to take entries that another consumer left."),
    ] = 60.0,
    consumer: Annotated[
        str | None, typer.Option("--consumer", metavar="NAME", help="This one's name; by default one of its own.")
    ] = None,
    grace: Annotated[
        float, typer.Option("--grace", metavar="SECONDS", help="Time for what runs when told to stop.")
    ] = 30.0,
    workers: WorkersOption = None,
    time_limit: TimeOption = None,
    memory_limit: MemoryOption = None,
    server: ServerOption = "",
    token_file: TokenOption = None,
    tls_ca: CertificateOption = None,
    debug: DebugOption = False,
) -> None:
    """Run a plugin's function over the entries of a Redis stream.

    An entry is acknowledged in the same step in which its result is added. A result has the entry's id (`entry`),
    `status` ok or error, and `result` or what went wrong. SIGTERM and Ctrl-C let what runs end, exit status 0.
    """
    for option, value in (("--stream", stream), ("--group", group), ("--results", results)):
        if not value:
            raise usage(f"{option} is needed")
    if stream in (results, dead):
        raise usage("results and dead entries need streams of their own, not that of the documents")
    if (plugin is None) == (deployment is None):
        raise usage("either a plugin's file or --deployment is needed")
    limits = make_limits(memory_limit, time_limit)
    processes = count_workers(workers)

    try:
        import redis  # noqa: F401
    except ModuleNotFoundError:
        raise ImportError("pexec consume needs redis: pip install 'parallel_exec[redis]'") from None
    from parallel_exec.queue.consumer import ConsumerOptions

    try:
        options = ConsumerOptions(
            results=results,
            dead=dead or f"{stream}:dead",
            field=field,
            in_flight=in_flight,
            deliveries=deliveries,
            claim_after_s=claim_after,
            grace_s=grace,
        )
    except ValueError as error:
        raise usage("--" + str(error).replace("_s ", " ").replace("_", "-")) from None
    name = consumer or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    if deployment is None:
        assert plugin is not None
        runner = _local(plugin, function, input, limits, processes)
    elif function:
        runner = _remote(_connect(server, token_file, tls_ca), deployment, function, input, limits)
    else:
        raise usage("--function is needed with --deployment")
    with runner as (submit, stop):
        ready()
        counts = asyncio.run(_consume(url, (stream, group, name), submit, stop, options))
    say(f"{counts.results} results, {counts.errors} of them errors; {counts.dead} entries given up", "note")


@contextmanager
def _local(
    plugin: str, function: str | None, input: Input, limits: Limits, workers: int
) -> Iterator[tuple[Submit, Stop]]:
    """What begins and what stops a job in a pool of this process."""
    from parallel_exec.pool import Pool

    loaded, _, name = load_function(plugin, function, limits)
    chosen = loaded.function(name, input=input, output="bytes")
    with Pool(workers, limits=limits) as pool:
        yield lambda document: pool.submit(chosen, document), pool.stop


@contextmanager
def _remote(
    client: Client, deployment: str, function: str, input: Input, limits: Limits
) -> Iterator[tuple[Submit, Stop]]:
    """What begins and what stops a job on a server."""
    with client:
        yield (
            lambda document: client.submit(deployment, function, document, input=input, limits=limits),
            lambda _job: None,
        )


async def _consume(
    url: str, names: tuple[str, str, str], submit: Submit, stop_job: Stop, options: ConsumerOptions
) -> Counts:
    from parallel_exec.queue.consumer import Consumer
    from parallel_exec.queue.redis_streams import RedisQueue

    def lost(why: str) -> None:
        say(f"Redis is lost: {why}; going on when it is there again", "warning")

    stream, group, name = names
    queue = RedisQueue(url, stream=stream, group=group, consumer=name, on_lost=lost)
    await queue.open()
    consumer = Consumer(queue, submit, options)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    say(f"consuming {stream} as {name}", "note")
    try:
        await consumer.run(stop)
    finally:
        for job in consumer.unfinished:
            stop_job(job)
    return consumer.counts
