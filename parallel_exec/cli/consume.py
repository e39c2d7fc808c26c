"""`pexec consume`: documents from one Redis stream, results to another."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parallel_exec.cli.client import ServerAccess
from parallel_exec.cli.failures import say, usage
from parallel_exec.cli.options import (
    FunctionOption,
    InputOption,
    MemoryOption,
    TimeOption,
    WorkersOption,
    count_workers,
    load_function,
    make_limits,
    takes,
)
from parallel_exec.cli.startup import ready
from parallel_exec.limits import Limits

if TYPE_CHECKING:
    from parallel_exec._codec.documents import Input
    from parallel_exec.queue.consumer import ConsumerOptions, Counts, Submit
    from parallel_exec.service import Client

Stop = Callable[[Any], None]


@takes(ServerAccess)
def consume(
    access: ServerAccess,
    *,
    url: Annotated[
        str, typer.Argument(metavar="URL", envvar="PEXEC_REDIS", help="redis://HOST:PORT/DB.", show_default=False)
    ],
    plugin: Annotated[
        str | None,
        typer.Argument(metavar="PLUGIN", help="A JavaScript file or a WebAssembly module.", show_default=False),
    ] = None,
    deployment: Annotated[
        str | None,
        typer.Option("--deployment", metavar="NAME", help="Run this deployment on --server instead of a plugin."),
    ] = None,
    stream: Annotated[str, typer.Option("--stream", metavar="KEY", help="The stream to read documents from.")] = "",
    group: Annotated[str, typer.Option("--group", metavar="NAME", help="The consumer group; created if missing.")] = "",
    results: Annotated[str, typer.Option("--results", metavar="KEY", help="The stream to add results to.")] = "",
    function: FunctionOption = None,
    input: InputOption = "json",
    field: Annotated[
        str, typer.Option("--field", metavar="NAME", help="The field of an entry that holds the document.")
    ] = "document",
    dead: Annotated[
        str | None,
        typer.Option("--dead", metavar="KEY", help="The stream for entries that are given up; STREAM:dead by default."),
    ] = None,
    deliveries: Annotated[
        int, typer.Option("--deliveries", metavar="N", help="Attempts at an entry whose worker dies each time.")
    ] = 3,
    in_flight: Annotated[
        int, typer.Option("--in-flight", metavar="N", help="Maximum number of entries read and not yet answered.")
    ] = 256,
    claim_after: Annotated[
        float,
        typer.Option(
            "--claim-after", metavar="SECONDS", help="Take over entries that another consumer has left for so long."
        ),
    ] = 60.0,
    consumer: Annotated[
        str | None, typer.Option("--consumer", metavar="NAME", help="This consumer's name; unique by default.")
    ] = None,
    grace: Annotated[
        float, typer.Option("--grace", metavar="SECONDS", help="How long running jobs may take to end on shutdown.")
    ] = 30.0,
    workers: WorkersOption = None,
    time_limit: TimeOption = None,
    memory_limit: MemoryOption = None,
) -> None:
    """Run a plugin's function over the entries of a Redis stream.

    Adding a result and acknowledging its entry is a single step. A result holds the entry's id (`entry`), `status` (ok
    or error), and either `result` or what went wrong. SIGTERM and Ctrl-C let running jobs end; the exit status is 0.
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

    if importlib.util.find_spec("redis") is None:
        raise ImportError("pexec consume needs redis: pip install 'parallel_exec[redis]'")
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
        runner = _remote(access.connect(), deployment, function, input, limits)
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
    """Yield what starts a job in a pool of this process, and what stops it."""
    from parallel_exec.pool import Pool

    loaded, _, name = load_function(plugin, function, limits)
    chosen = loaded.function(name, input=input, output="bytes")
    with Pool(workers, limits=limits) as pool:
        yield lambda document: pool.submit(chosen, document), pool.stop


@contextmanager
def _remote(
    client: Client, deployment: str, function: str, input: Input, limits: Limits
) -> Iterator[tuple[Submit, Stop]]:
    """Yield what starts a job on a server, and what stops it (nothing does)."""
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
        say(f"Redis is lost: {why}; continuing once it is back", "warning")

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
