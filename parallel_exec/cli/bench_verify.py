"""`pexec bench verify`: signatures verified natively, in WebAssembly and in JavaScript, side by side."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated, Literal

import typer

from parallel_exec.cli.failures import usage
from parallel_exec.cli.options import DebugOption, JsonOption, WorkersOption, count_workers
from parallel_exec.cli.startup import ready


def verify(
    kind: Annotated[
        Literal["schnorr", "ecdsa", "random"],
        typer.Option("--kind", help="Of the signatures; random draws it for each message, and compares module swaps."),
    ] = "random",
    messages: Annotated[int, typer.Option("--messages", metavar="N", help="How many messages are signed.")] = 1024,
    workers: WorkersOption = None,
    json: JsonOption = None,
    debug: DebugOption = False,
) -> None:
    """Compare runtimes on signed messages: Schnorr (BIP-340), ECDSA (secp256k1), or both in a random order.

    Needs coincurve, and the modules that scripts/build_modules.py builds. Every answer is checked.
    """
    if messages < 8:
        raise usage(f"--messages must be at least 8; got {messages}")
    from parallel_exec.cli.output import Output
    from parallel_exec.cli.terminal import Bar
    from parallel_exec.measure.report import make_console
    from parallel_exec.verify.report import verification_table
    from parallel_exec.verify.run import run

    ready()
    with Output(json) if json else nullcontext() as output:
        with Bar("rounds", quiet_s=0) as bar:
            outcome = run(kind, messages, workers=count_workers(workers), say=bar.say)
        if output:
            output.write_json(outcome.as_json())
    make_console(stderr=json == "-").print(verification_table(outcome))
