"""`pexec profile`: where the time of a job goes."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from parallel_exec.cli.failures import usage
from parallel_exec.cli.options import DebugOption, FunctionOption, JsonOption, MemoryOption, TimeOption, WorkersOption
from parallel_exec.cli.startup import ready
from parallel_exec.cli.work import DocumentArgument, PluginArgument, StrategiesOption, choose_strategies, make_work


def profile(
    plugin: PluginArgument = None,
    document: DocumentArgument = None,
    function: FunctionOption = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Jobs of each strategy.")] = 50,
    workers: WorkersOption = None,
    strategies: StrategiesOption = None,
    memory_limit: MemoryOption = None,
    time_limit: TimeOption = None,
    json: JsonOption = None,
    debug: DebugOption = False,
) -> None:
    """Show where the time of a job goes, by strategy.

    Each part of a job (instantiate, initialise, load script, copy in, parse, run, write, copy out, reset, transport)
    is timed as a call of its own, and the job as a whole apart from them.
    """
    if jobs < 1:
        raise usage(f"--jobs must be at least 1; got {jobs}")
    from parallel_exec.cli.output import Output
    from parallel_exec.cli.terminal import Bar
    from parallel_exec.measure.profile import profile as take_apart
    from parallel_exec.measure.report import make_console, profile_table

    ready()
    names = choose_strategies(strategies)
    work, document_name = make_work(plugin, document, function, workers, memory_limit, time_limit)
    with Output(json) if json else nullcontext() as output:
        with Bar("jobs", quiet_s=0) as bar:
            outcome = take_apart(work, names=names, jobs=jobs, document_name=document_name, progress=bar)
        if output:
            output.write_json(outcome.as_json())
    make_console(stderr=json == "-").print(profile_table(outcome))
