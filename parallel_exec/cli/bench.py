"""`pexec bench` and `pexec profile`: the strategies side by side, and where the time of each one's jobs goes."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from parallel_exec.cli.failures import os_failure, usage
from parallel_exec.cli.options import (
    FunctionOption,
    JsonOption,
    MemoryOption,
    TimeOption,
    WorkersOption,
    capture,
    check_least,
    choose_function,
    count_workers,
    make_limits,
    read_file,
    takes,
)
from parallel_exec.cli.output import Output
from parallel_exec.cli.startup import ready
from parallel_exec.cli.terminal import Bar
from parallel_exec.plugins import Plugin
from parallel_exec.sandbox import Sandbox

if TYPE_CHECKING:
    from rich.console import RenderableType

    from parallel_exec.measure.comparison import Comparison
    from parallel_exec.measure.profile import Profile
    from parallel_exec.measure.strategies import Work

Figures = TypeVar("Figures", "Comparison", "Profile")


@dataclass(frozen=True, slots=True)
class WorkOptions:
    """The options that say what is measured, by which strategies, and where the figures go."""

    plugin: Annotated[
        str | None,
        typer.Argument(metavar="PLUGIN", help="A JavaScript file; by default the shipped one.", show_default=False),
    ] = None
    document: Annotated[
        str | None,
        typer.Argument(metavar="DOCUMENT", help="A JSON file; by default the shipped one.", show_default=False),
    ] = None
    function: FunctionOption = None
    workers: WorkersOption = None
    strategies: Annotated[
        str | None,
        typer.Option("--strategies", metavar="NAMES", help="Strategies, separated by commas; by default all seven."),
    ] = None
    memory_limit: MemoryOption = None
    time_limit: TimeOption = None
    json: JsonOption = None

    def make_work(self) -> Work:
        """Return the work that the options describe, after running it once, so that errors show early.

        Raises:
            Failure: an option is wrong, or the document cannot be read.
            PexecError: the plugin cannot be loaded, or the job fails.
        """
        from parallel_exec.measure.fixture import document_path, plugin_path
        from parallel_exec.measure.strategies import Work

        limits = make_limits(self.memory_limit, self.time_limit, pinned=True)
        workers = count_workers(self.workers)
        plugin = Plugin.from_file(self.plugin or plugin_path())
        path = self.document or str(document_path())
        document = _read_stdin() if path == "-" else read_file(path, f"the document {path}")
        image = capture(plugin, limits)
        function = choose_function(plugin, image, self.function, limits)
        with Sandbox(image, limits=limits) as sandbox:
            sandbox.call_bytes(function, document)
        name = "stdin" if path == "-" else Path(path).name
        return Work(
            plugin=plugin, function=function, document=document, document_name=name, limits=limits, workers=workers
        )

    def chosen_strategies(self) -> list[str]:
        """Return the names of the strategies to measure, in the order in which reports show them.

        Raises:
            Failure: a name is unknown, or none is given.
        """
        from parallel_exec.measure.strategies import STRATEGIES

        if self.strategies is None:
            return list(STRATEGIES)
        chosen = [name.strip() for name in self.strategies.split(",") if name.strip()]
        known = ", ".join(STRATEGIES)
        for name in chosen:
            if name not in STRATEGIES:
                raise usage(f"--strategies: unknown strategy {name!r}; choose from {known}")
        if not chosen:
            raise usage(f"--strategies names no strategy; choose from {known}")
        return [name for name in STRATEGIES if name in chosen]


@takes(WorkOptions)
def bench(
    options: WorkOptions,
    *,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", metavar="N", help="Jobs per strategy; by default as many as take 1.2 s."),
    ] = None,
    peers: Annotated[bool, typer.Option("--peers", help="Also measure installed peers on the same work.")] = False,
) -> None:
    """Compare strategies on one plugin and one document.

    Each strategy runs the same job again and again, in rounds of random order. All answers must agree to 1e-5.

    pexec bench verify compares WebAssembly runtimes on signed messages; see pexec bench verify --help.
    """
    check_least(jobs, "--jobs")
    from parallel_exec.measure.comparison import compare
    from parallel_exec.measure.report import comparison_table

    def measure(bar: Bar) -> Comparison:
        return compare(work, names=names, jobs=jobs, peers=peers, progress=bar)

    ready()
    names, work = options.chosen_strategies(), options.make_work()
    _run(measure, lambda outcome, width: comparison_table(outcome, width=width), options.json)


@takes(WorkOptions)
def profile(
    options: WorkOptions,
    *,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Jobs per strategy.")] = 50,
) -> None:
    """Show where the time of a job goes, by strategy.

    Each stage of a job (instantiate, initialise, load script, copy in, parse, run, write, copy out, reset, transport)
    is timed as a separate call; the whole job is timed on its own.
    """
    check_least(jobs, "--jobs")
    from parallel_exec.measure.profile import profile as take_apart
    from parallel_exec.measure.report import profile_table

    def measure(bar: Bar) -> Profile:
        return take_apart(work, names=names, jobs=jobs, progress=bar)

    ready()
    names, work = options.chosen_strategies(), options.make_work()
    _run(measure, lambda outcome, _width: profile_table(outcome), options.json)


def _run(measure: Callable[[Bar], Figures], table: Callable[[Figures, int], RenderableType], json: str | None) -> None:
    """Measure, write the figures if they are wanted, and print the table."""
    from parallel_exec.measure.report import make_console

    with Output(json) if json else nullcontext() as output:
        with Bar("jobs", quiet_s=0) as bar:
            outcome = measure(bar)
        if output:
            output.write_json(outcome.as_json())
    console = make_console(stderr=json == "-")
    console.print(table(outcome, console.width))


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise os_failure("cannot read the document -", OSError(errno.EBADF, "stdin is closed"))
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise os_failure("cannot read the document -", error) from None
