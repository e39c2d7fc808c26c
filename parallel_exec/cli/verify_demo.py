"""`pexec verify-demo`: signed messages through gRPC, Redis and a pool, and back."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from typing import Annotated

import typer

from parallel_exec.cli.bench_verify import MessagesOption, SchemeOption, check_count
from parallel_exec.cli.failures import Failure, say
from parallel_exec.cli.options import DebugOption, JsonOption, WorkersOption, count_workers
from parallel_exec.cli.startup import ready


def verify_demo(
    scheme: SchemeOption = "random",
    messages: MessagesOption = 1024,
    chaos: Annotated[
        bool, typer.Option("--chaos", help="Kill a worker, the consumer and Redis (kill -9) while messages run.")
    ] = False,
    workers: WorkersOption = None,
    json: JsonOption = None,
    debug: DebugOption = False,  # noqa: ARG001 - its callback has dealt with it
) -> None:
    """Verify signed messages in WebAssembly, from a Redis stream, in the pool of a server, and check every answer.

    Starts its own redis-server, `pexec serve` and `pexec consume`, on loopback. Needs redis-server and the extra
    verify.
    """
    check_count(messages)
    processes = count_workers(workers)
    try:
        from parallel_exec.verify.demo import run_demo
    except ImportError as error:
        raise ImportError(
            f"the demo needs {error.name or 'more packages'}: pip install 'parallel_exec[verify]'"
        ) from None
    from parallel_exec.cli.output import Output

    ready()
    with Output(json) if json else nullcontext() as output:
        outcome = run_demo(scheme, messages, workers=processes, chaos=chaos, say=lambda text: say(text, "note"))
        if output:
            output.write_json(asdict(outcome) | {"good": outcome.good})
    told = (
        f"{outcome.messages} messages: {outcome.right} answered correctly, {outcome.wrong} wrongly, "
        f"{outcome.lost} lost, {outcome.twice} answered twice; {outcome.seconds:.2f} s"
    )
    if not outcome.good:
        raise Failure(told)
    if json != "-":
        typer.echo(told)
