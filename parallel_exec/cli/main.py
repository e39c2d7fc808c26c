"""The command `pexec`: dispatch, and what becomes of an error.

Light on purpose: a command imports what it needs when it runs, so that `pexec run` on one small document does not
wait for what draws tables or starts processes.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

import typer

from . import bench as bench_command
from . import profile as profile_command
from . import run as run_command
from .cache import cache
from .failures import BROKEN_PIPE, FAILURE, INTERRUPTED, Debug, one_line, quiet_stdout, report, say
from .options import DebugOption
from .plugin import plugin

app = typer.Typer(
    name="pexec",
    help="Untrusted JavaScript plugins over JSON documents, in sandboxes, on all cores.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run_command.run)
app.command("bench")(bench_command.bench)
app.command("profile")(profile_command.profile)
app.add_typer(plugin, name="plugin")
app.add_typer(cache, name="cache")


def _show_version(value: bool) -> None:
    if value:
        from ..bench.machine import package_version

        typer.echo(f"pexec {package_version()}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Untrusted JavaScript plugins over JSON documents, in sandboxes, on all cores."""


class _OneLine(logging.Handler):
    """Shows log records as lines like those of errors, so that a plugin's console cannot write to the terminal as it
    likes.
    """

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage(), record.levelname.lower(), sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0, 1 for a failure, 2 for wrong usage, 130 after Ctrl-C.

    Args:
        argv: the arguments; by default those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    Debug.on = False
    logger = logging.getLogger("parallel_exec")
    handler = _OneLine(logging.WARNING)
    logger.addHandler(handler)
    try:
        # Not standalone: errors come out as exceptions, and all of them become one line here.
        status = app(args=arguments or ["--help"], prog_name="pexec", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except BrokenPipeError:
        quiet_stdout()
        return BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort) as error:
        if Debug.on:
            report(error)
        print("pexec: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Terminated:
        return 128 + signal.SIGTERM
    except Exception as error:
        status = getattr(error, "status", None) or getattr(error, "exit_code", None)
        if hasattr(error, "format_message"):  # typer's own errors: what is wrong with the arguments
            say(one_line(error.format_message()))
        else:
            report(error)
        return status if isinstance(status, int) else FAILURE
    finally:
        logger.removeHandler(handler)


class Terminated(BaseException):
    """SIGTERM, as an exception, so that temporary files and workers go away before the process does."""


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def entry() -> None:
    """The console script."""
    signal.signal(signal.SIGTERM, _terminate)
    status = main()
    sys.exit(status)
