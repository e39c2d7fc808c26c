"""The command `pexec`: finding the subcommand, and turning errors into lines and exit statuses.

Light on purpose: only the module of the command that runs is imported, so that `pexec run` on one small document does
not wait for what draws tables or starts processes.
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
from parallel_exec.cli.options import Commands, DebugOption
from parallel_exec.cli.startup import Terminated, begin, handle_signals, ready

# Each command, and the module that has a function or a group of that name.
COMMANDS = {
    "run": "run",
    "serve": "serve",
    "client": "client",
    "consume": "consume",
    "verify-demo": "verify_demo",
    "bench": "bench",
    "profile": "bench",
    "plugin": "plugin",
    "cache": "cache",
}


def make_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return the command with the subcommand that the arguments name or, if they name none, with all of them.

    typer builds a validator for each option; doing so for all commands takes as long as running one.
    """
    app = Commands(name="pexec", add_completion=False, pretty_exceptions_enable=False)
    app.callback()(root)
    words = [argument for argument in arguments if not argument.startswith("-")]
    word = words[0] if words else ""
    if words[:2] == ["bench", "verify"]:  # a plugin of that name is ./verify
        from parallel_exec.cli.bench_verify import verify

        group = Commands()
        group.command("verify")(verify)
        app.add_typer(group, name="bench")
        return app
    for name in (word,) if word in COMMANDS else COMMANDS:
        module = importlib.import_module(f".{COMMANDS[name]}", __package__)
        command = getattr(module, name.replace("-", "_"))
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
    """Run untrusted JavaScript and WebAssembly plugins over documents, in sandboxes, on all cores."""


class _OneLine(logging.Handler):
    """Shows log records as error lines are shown, so that a plugin's console cannot control the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage(), record.levelname.lower(), sys.stderr)


def dispatch(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status: 0, 1 for a failure, 2 for wrong usage, 130 after Ctrl-C.

    >>> dispatch(["--version"])  # doctest: +ELLIPSIS
    pexec ...
    0
    """
    Debug.on = False
    logger = logging.getLogger("parallel_exec")
    handler = _OneLine(logging.WARNING)
    logger.addHandler(handler)
    try:
        status = _run(arguments)
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
        status = INTERRUPTED
    except Terminated:
        return 128 + signal.SIGTERM
    except Exception as error:
        return _failed(error)
    finally:
        logger.removeHandler(handler)
    if status == INTERRUPTED:  # raised here, or caught by typer
        print("pexec: interrupted", file=sys.stderr)
    return status


def _run(arguments: Sequence[str]) -> int:
    # Not standalone: errors leave typer as exceptions, and `dispatch` turns each of them into one line.
    status = make_app(arguments)(args=list(arguments) or ["--help"], prog_name="pexec", standalone_mode=False)
    if sys.stdout is not None:  # it is None if the process was started with stdout closed
        sys.stdout.flush()
    return status if isinstance(status, int) else 0


def _failed(error: Exception) -> int:
    status = getattr(error, "status", None) or getattr(error, "exit_code", None)
    if hasattr(error, "format_message"):  # typer's own errors, about the arguments
        say(one_line(error.format_message()))
    else:
        report(error)
    return status if isinstance(status, int) else FAILURE


def main() -> int:
    """Run this process's command line and return its exit status: the console script."""
    begin()
    handle_signals()
    status = dispatch(sys.argv[1:])
    ready()
    return status
