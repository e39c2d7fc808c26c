"""The command `pexec`: dispatch, and what becomes of an error.

Light on purpose: a command imports what it needs when it runs, so that `pexec run` on one small document does not
wait for what draws tables or starts processes.
"""

from __future__ import annotations

import importlib
import logging
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import parallel_exec as px
from parallel_exec.cli.failures import BROKEN_PIPE, FAILURE, INTERRUPTED, Debug, one_line, quiet_stdout, report, say
from parallel_exec.cli.interrupt import Terminated, install
from parallel_exec.cli.options import DebugOption
from parallel_exec.cli.startup import begin, ready

COMMANDS = ("run", "serve", "client", "consume", "verify-demo", "bench", "profile", "plugin", "cache")


def make_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return the command with the subcommand that the arguments begin with or, if they begin with none, with all.

    typer builds a validator for every option that there is, which for all commands takes as long as running one.
    """
    app = typer.Typer(
        name="pexec",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(root)
    words = [argument for argument in arguments if not argument.startswith("-")]
    word = words[0] if words else ""
    if words[:2] == ["bench", "verify"]:  # a plugin of that name is ./verify
        from parallel_exec.cli.bench_verify import verify

        group = typer.Typer()
        group.command("verify")(verify)
        app.add_typer(group, name="bench")
        return app
    for name in (word,) if word in COMMANDS else COMMANDS:
        attribute = name.replace("-", "_")
        command = getattr(importlib.import_module(f".{attribute}", __package__), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"pexec {px.__version__}")
        raise typer.Exit


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


def dispatch(arguments: Sequence[str]) -> int:
    """Run a command line and return the exit status: 0, 1 for a failure, 2 for wrong usage, 130 after Ctrl-C.

    >>> dispatch(["--version"])  # doctest: +ELLIPSIS
    pexec ...
    0
    """
    Debug.on = False
    logger = logging.getLogger("parallel_exec")
    handler = _OneLine(logging.WARNING)
    logger.addHandler(handler)
    try:
        # Not standalone: errors come out as exceptions, and all of them become one line here.
        status = make_app(arguments)(args=list(arguments) or ["--help"], prog_name="pexec", standalone_mode=False)
        if sys.stdout is not None:  # it is, where the process was started with it closed
            sys.stdout.flush()
        if status == INTERRUPTED:  # typer's own handling of Ctrl-C
            raise KeyboardInterrupt
        return status if isinstance(status, int) else 0
    except BrokenPipeError:
        quiet_stdout()
        return BROKEN_PIPE
    except SystemExit as exit_:
        # typer turns a broken pipe into an exit with status 1, standalone or not.
        if not isinstance(exit_.__context__, BrokenPipeError):
            raise
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


def main() -> int:
    """The console script: run this process's command line and return the exit status."""
    begin()
    install()
    status = dispatch(sys.argv[1:])
    ready()
    return status
