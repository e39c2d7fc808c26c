"""`pexec run`: a plugin's function over documents, results as newline-delimited JSON."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Annotated

import orjson
import typer

from parallel_exec.cli.batch import WORTH_S, DocumentOutcome, Note, run_batch, run_watched
from parallel_exec.cli.failures import FAILURE, Failure, say, usage
from parallel_exec.cli.inputs import read_documents
from parallel_exec.cli.options import (
    FilesArgument,
    FunctionOption,
    LinesOption,
    MemoryOption,
    PluginArgument,
    TimeOption,
    WorkersOption,
    count_workers,
    load_function,
    make_limits,
)
from parallel_exec.cli.output import Output
from parallel_exec.cli.startup import ready
from parallel_exec.cli.terminal import Bar


def run(
    *,
    plugin: PluginArgument,
    files: FilesArgument = None,
    function: FunctionOption = None,
    out: Annotated[
        str, typer.Option("-o", "--output", metavar="OUT", help="Write results to OUT; '-' is stdout.")
    ] = "-",
    lines: LinesOption = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first document that fails.")] = False,
    failed_as: Annotated[
        str | None,
        typer.Option(
            "--failed-as",
            metavar="JSON",
            help="Write this line for each document that fails, so that line N belongs to document N.",
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Reload the plugin whenever its file changes, and say so.")
    ] = False,
    workers: WorkersOption = None,
    time_limit: TimeOption = None,
    memory_limit: MemoryOption = None,
) -> None:
    """Run a plugin's function over documents.

    Each file is one document or, with --lines, each line. Results are written in the order of the documents, one line
    of JSON each. A document that fails writes no line (but see --failed-as): stderr says which one it was, counted
    from 0, and why. The others still run, and the exit status is 1. OUT appears at the end, complete; it does not
    appear if nothing succeeded or --fail-fast stopped the run.
    """
    limits = make_limits(memory_limit, time_limit)
    processes = count_workers(workers)
    placeholder = None if failed_as is None else _json_line(failed_as)
    ready()
    loaded, image, chosen = load_function(plugin, function, limits)
    if function is None:
        say(f"--function is not given; calling {chosen}()", "note")
    sources = files or ["-"]
    documents = read_documents(sources, lines=lines, in_thread=watch)
    outcomes: Generator[DocumentOutcome | Note] | Generator[DocumentOutcome]
    if watch:
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
    total = None if lines or "-" in sources else len(sources)
    with Output(out) as output, Bar("documents", total) as bar, closing(outcomes):
        done, failed = _write(outcomes, output, bar, placeholder, fail_fast=fail_fast)
        if done or not failed:
            output.keep()
    if failed:
        if failed > 1:
            say(f"{failed} of {failed + done} documents failed")
        raise typer.Exit(FAILURE)


def _write(
    outcomes: Generator[DocumentOutcome | Note] | Generator[DocumentOutcome],
    output: Output,
    bar: Bar,
    placeholder: bytes | None,
    *,
    fail_fast: bool,
) -> tuple[int, int]:
    """Write results and report failures; return how many documents succeeded and failed."""
    done = failed = 0
    for outcome in outcomes:
        if isinstance(outcome, Note):
            bar.pause()
            say(outcome, "note")
            continue
        if outcome.result is not None:
            done += 1
            output.write(outcome.result + b"\n")
        else:
            failed += 1
            bar.pause()
            problem = f"document {outcome.document.index} ({outcome.document.origin}): {outcome.problem}"
            if fail_fast:
                raise Failure(problem)
            say(problem)
            if placeholder is not None:
                output.write(placeholder)
        output.flush()
        bar.advance(1)
    return done, failed


def _json_line(text: str) -> bytes:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise usage(f"--failed-as must be JSON, such as null; got {text!r}: {error}") from None
    return text.replace("\n", " ").encode() + b"\n"
