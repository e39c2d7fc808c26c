"""`pexec run`: a plugin's function over documents, results as newline-delimited JSON."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from parallel_exec.cli.failures import FAILURE, Failure, say, usage
from parallel_exec.cli.options import (
    DebugOption,
    FunctionOption,
    MemoryOption,
    TimeOption,
    WorkersOption,
    count_workers,
    load_function,
    make_limits,
)
from parallel_exec.cli.startup import ready

if TYPE_CHECKING:
    from parallel_exec.cli.batch import Outcome


def run(
    plugin: Annotated[
        str, typer.Argument(metavar="PLUGIN", help="JavaScript or a WebAssembly module.", show_default=False)
    ],
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILES", help="The documents; - is stdin, and so is none.", show_default=False),
    ] = None,
    function: FunctionOption = None,
    out: Annotated[
        str, typer.Option("-o", "--output", metavar="OUT", help="Where results go; - is stdout.", show_default=False)
    ] = "-",
    lines: Annotated[
        bool, typer.Option("--lines", help="Each line of a file that is not blank is a document, not each file.")
    ] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first document that fails.")] = False,
    failed_as: Annotated[
        str | None,
        typer.Option(
            "--failed-as",
            metavar="JSON",
            help="Write this line for a document that fails, so that line N belongs to document N.",
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Run each document by the plugin as its file is then, and say when it changes."),
    ] = False,
    workers: WorkersOption = None,
    time_limit: TimeOption = None,
    memory_limit: MemoryOption = None,
    debug: DebugOption = False,
) -> None:
    """Run a plugin's function over documents.

    Every file is one document, or with --lines every line. Results are written in the order of the documents, one
    line of JSON each. A document that fails has no line (but see --failed-as); stderr says which it was, counted from
    0, and why; the rest goes on, and the exit status is 1. OUT appears at the end, whole, and not at all if nothing
    succeeded or --fail-fast stopped the run.
    """
    limits = make_limits(memory_limit, time_limit)
    processes = count_workers(workers)
    placeholder = _placeholder(failed_as)

    from parallel_exec.cli.batch import WORTH_S, run_batch
    from parallel_exec.cli.inputs import read_documents
    from parallel_exec.cli.output import Output
    from parallel_exec.cli.terminal import Bar

    ready()
    loaded, image, chosen = load_function(plugin, function, limits)
    if function is None:
        say(f"--function is not given; calling {chosen}()", "note")
    sources = files or ["-"]
    failed = done = 0
    total = None if lines or "-" in sources else len(sources)
    documents = read_documents(sources, lines=lines, in_thread=watch)
    outcomes: Generator[Outcome | str]
    if watch:
        from parallel_exec.cli.watch import run_watched

        outcomes = run_watched(plugin, loaded, chosen, documents, limits=limits, workers=processes)
    else:
        outcomes = run_batch(
            loaded.function(chosen, input="json", output="bytes"),
            image,
            documents,
            limits=limits,
            workers=processes,
            worth_s=WORTH_S if workers is None else 0.0,
        )
    with Output(out) as output, Bar("documents", total) as bar, closing(outcomes):
        for outcome in outcomes:
            if isinstance(outcome, str):
                bar.pause()
                say(outcome, "note")
                continue
            if outcome.result is not None:
                done += 1
                output.write(outcome.result + b"\n")
            else:
                failed += 1
                bar.pause()
                where = f"document {outcome.document.index} ({outcome.document.origin})"
                if fail_fast:
                    raise Failure(f"{where}: {outcome.problem}")
                say(f"{where}: {outcome.problem}")
                if placeholder is not None:
                    output.write(placeholder)
            output.flush()
            bar.advance(1)
        if done or not failed:
            output.keep()
    if failed:
        if failed > 1:
            say(f"{failed} of {failed + done} documents failed")
        raise typer.Exit(FAILURE)


def _placeholder(text: str | None) -> bytes | None:
    if text is None:
        return None
    import orjson

    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise usage(f"--failed-as must be JSON, such as null; got {text!r}: {error}") from None
    return text.replace("\n", " ").encode() + b"\n"
