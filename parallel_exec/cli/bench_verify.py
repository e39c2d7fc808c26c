"""`pexec bench verify`: signatures verified natively, in WebAssembly and in JavaScript, side by side."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from parallel_exec.cli.failures import usage
from parallel_exec.cli.options import DebugOption, JsonOption, WorkersOption, count_workers
from parallel_exec.cli.startup import ready
from parallel_exec.verify.messages import LEAST_MESSAGES, SchemeChoice

SchemeOption = Annotated[
    SchemeChoice, typer.Option("--kind", help="Of the signatures; random draws one for each message.")
]
MessagesOption = Annotated[int, typer.Option("--messages", metavar="N", help="How many messages are signed.")]


def verify(
    scheme: SchemeOption = "random",
    messages: MessagesOption = 1024,
    workers: WorkersOption = None,
    json: JsonOption = None,
    debug: DebugOption = False,  # noqa: ARG001 - its callback has dealt with it
) -> None:
    """Compare runtimes on signed messages: Schnorr (BIP-340), ECDSA (secp256k1), or both in a random order, which also
    compares ways to swap modules.

    Every answer is checked. Needs the extra verify; with the extra bench, wasm3 takes part.
    """
    check_count(messages)
    from parallel_exec.cli.output import Output
    from parallel_exec.cli.terminal import Bar
    from parallel_exec.measure.report import make_console
    from parallel_exec.verify.comparison import compare_runtimes, runtimes_table

    ready()
    with Output(json) if json else nullcontext() as output:
        with Bar("rounds", quiet_s=0) as bar:
            comparison = compare_runtimes(scheme, messages, workers=count_workers(workers), say=bar.say)
        if output:
            output.write_json(comparison.as_json())
    make_console(stderr=json == "-").print(runtimes_table(comparison))


def check_count(messages: int) -> None:
    """Refuse a number of messages that is too small to measure or to interrupt.

    Raises:
        Failure: it is.
    """
    if messages < LEAST_MESSAGES:
        raise usage(f"--messages must be at least {LEAST_MESSAGES}; got {messages}")
