"""What `pexec bench` and `pexec profile` measure: plugin, function and document, and by which strategies."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parallel_exec.cli.failures import os_failure, usage
from parallel_exec.cli.options import capture, choose_function, count_workers, make_limits

if TYPE_CHECKING:
    from parallel_exec.measure.strategies import Work

PluginArgument = Annotated[
    str | None,
    typer.Argument(metavar="PLUGIN", help="The JavaScript file; by default the shipped one.", show_default=False),
]
DocumentArgument = Annotated[
    str | None,
    typer.Argument(metavar="DOCUMENT", help="The JSON file; by default the shipped one.", show_default=False),
]
StrategiesOption = Annotated[
    str | None,
    typer.Option("--strategies", metavar="NAMES", help="Which strategies, separated by commas; by default all seven."),
]


def choose_strategies(names: str | None) -> list[str]:
    """Return the strategies that an option names, in the order in which reports show them."""
    from parallel_exec.measure.compare import unknown_strategies
    from parallel_exec.measure.strategies import STRATEGIES

    if names is None:
        return list(STRATEGIES)
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    problem = unknown_strategies(chosen)
    if problem is not None:
        raise usage(f"--strategies: {problem}")
    return [name for name in STRATEGIES if name in chosen]


def make_work(
    plugin: str | None,
    document: str | None,
    function: str | None,
    workers: int | None,
    memory_limit: str | None,
    time_limit: float | None,
) -> tuple[Work, str]:
    """Return the work, which has been done once without fail, and the document's name."""
    limits = make_limits(memory_limit, time_limit, pinned=True)
    processes = count_workers(workers)

    from parallel_exec.measure.compare import check_once
    from parallel_exec.measure.fixture import document_path, plugin_path
    from parallel_exec.measure.strategies import Work
    from parallel_exec.plugins import Plugin

    loaded = Plugin.from_file(plugin or plugin_path())
    path = document or str(document_path())
    text = _read(path)
    chosen = choose_function(loaded, capture(loaded, limits), function, limits)
    work = Work(plugin=loaded, function=chosen, document=text, limits=limits, workers=processes)
    check_once(work)
    return work, "stdin" if path == "-" else Path(path).name


def _read(path: str) -> bytes:
    try:
        if path == "-":
            if sys.stdin is None:
                raise OSError(errno.EBADF, "stdin is closed")
            return sys.stdin.buffer.read()
        return Path(path).read_bytes()
    except OSError as error:
        raise os_failure(f"cannot read the document {path}", error) from None
