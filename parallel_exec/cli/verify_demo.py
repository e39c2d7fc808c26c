"""`pexec verify-demo`: signed messages through gRPC, Redis and a pool, and back."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from typing import Annotated, Literal

import typer

from parallel_exec.cli.failures import Failure, say, usage
from parallel_exec.cli.options import DebugOption, JsonOption, WorkersOption, count_workers
from parallel_exec.cli.startup import ready


def verify_demo(
    kind: Annotated[
        Literal["schnorr", "ecdsa", "random"], typer.Option("--kind", help="Of the signatures.")
    ] = "random",
    messages: Annotated[int, typer.Option("--messages", metavar="N", help="How many messages.")] = 1024,
    chaos: Annotated[
        bool, typer.Option("--chaos", help="Kill a worker, the consumer and Redis (kill -9) while messages run.")
    ] = False,
    workers: WorkersOption = None,
    json: JsonOption = None,
    debug: DebugOption = False,
) -> None:
    """Verify signed messages in WebAssembly, from a Redis stream, in the pool of a server, and check every answer.

    Starts a redis-server, `pexec serve` and `pexec consume` of its own, on loopback. Needs the extras service, redis
    and wasm, coincurve, and the modules that scripts/build_modules.py builds.
    """
    if messages < 8:
        raise usage(f"--messages must be at least 8; got {messages}")
    processes = count_workers(workers)
    try:
        from parallel_exec.verify.demo import run_demo
    except ModuleNotFoundError as error:
        raise ImportError(f"the demo needs {error.name}: pip install 'parallel_exec[service,redis,wasm]'") from None
    from parallel_exec.cli.output import Output

    ready()
    with Output(json) if json else nullcontext() as output:
        outcome = run_demo(kind, messages, workers=processes, chaos=chaos, say=lambda text: say(text, "note"))
        if output:
            output.write_json(asdict(outcome) | {"good": outcome.good})
    told = (
        f"{outcome.messages} messages, {outcome.right} answered rightly, {outcome.wrong} wrongly, {outcome.lost} lost, "
        f"{outcome.twice} answered twice; {outcome.seconds:.2f} s"
    )
    if not outcome.good:
        raise Failure(told)
    if json != "-":
        typer.echo(told)
