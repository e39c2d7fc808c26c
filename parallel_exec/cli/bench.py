"""`pexec bench`: the strategies side by side."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from parallel_exec.cli.failures import usage
from parallel_exec.cli.options import DebugOption, FunctionOption, JsonOption, MemoryOption, TimeOption, WorkersOption
from parallel_exec.cli.startup import ready
from parallel_exec.cli.work import DocumentArgument, PluginArgument, StrategiesOption, choose_strategies, make_work


def bench(
    plugin: PluginArgument = None,
    document: DocumentArgument = None,
    function: FunctionOption = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", metavar="N", help="Jobs of each strategy; by default what 1.2 s hold.", show_default=False
        ),
    ] = None,
    workers: WorkersOption = None,
    strategies: StrategiesOption = None,
    memory_limit: MemoryOption = None,
    time_limit: TimeOption = None,
    peers: Annotated[bool, typer.Option("--peers", help="Measure installed peers on the same work, too.")] = False,
    json: JsonOption = None,
    debug: DebugOption = False,
) -> None:
    """Compare strategies on one plugin and one document.

    The same job, over and over, by each strategy in turn, in random rounds. All must come to the same answer, to 1e-5.

    pexec bench verify compares WebAssembly runtimes on signed messages; see pexec bench verify --help.
    """
    if jobs is not None and jobs < 1:
        raise usage(f"--jobs must be at least 1; got {jobs}")
    from parallel_exec.cli.output import Output
    from parallel_exec.cli.terminal import Bar
    from parallel_exec.measure.compare import compare
    from parallel_exec.measure.report import comparison_table, make_console

    ready()
    names = choose_strategies(strategies)
    work, document_name = make_work(plugin, document, function, workers, memory_limit, time_limit)
    with Output(json) if json else nullcontext() as output:
        with Bar("jobs", quiet_s=0) as bar:
            outcome = compare(work, names=names, jobs=jobs, peers=peers, document_name=document_name, progress=bar)
        if output:
            output.write_json(outcome.as_json())
    console = make_console(stderr=json == "-")
    console.print(comparison_table(outcome, width=console.width))
