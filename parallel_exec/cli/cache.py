"""`pexec cache`: the compiled engines on disk."""

from __future__ import annotations

import typer

from parallel_exec.cli.options import DebugOption

cache = typer.Typer(help="The cache of compiled engines.", no_args_is_help=False, rich_markup_mode=None)


@cache.command("info")
def info(debug: DebugOption = False) -> None:
    """Show where compiled engines are kept, and how large they are."""
    from parallel_exec.sandbox._engine import artifact

    entries = artifact.describe()
    typer.echo(artifact.artifact_directory())
    for path, size in entries:
        typer.echo(f"  {path.name}  {size:,} bytes")
    typer.echo(f"{_count(len(entries))}, {sum(size for _path, size in entries):,} bytes")


@cache.command("clear")
def clear(debug: DebugOption = False) -> None:
    """Delete the compiled engines; the next run compiles what it needs."""
    from parallel_exec.sandbox._engine import artifact

    typer.echo(f"{_count(artifact.clear())} deleted from {artifact.artifact_directory()}")


def _count(number: int) -> str:
    return "1 compiled engine" if number == 1 else f"{number} compiled engines"
