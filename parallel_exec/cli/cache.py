"""`pexec cache`: the compiled engines on disk."""

from __future__ import annotations

import typer

from parallel_exec.cli.options import Commands
from parallel_exec.sandbox._engine import artifact

cache = Commands(help="Manage the cache of compiled engines.")


@cache.command("info")
def info() -> None:
    """Show where compiled engines are cached, and their sizes."""
    entries = artifact.describe()
    typer.echo(artifact.artifact_directory())
    for path, size in entries:
        typer.echo(f"  {path.name}  {size:,} bytes")
    typer.echo(f"{_count(len(entries))}, {sum(size for _path, size in entries):,} bytes")


@cache.command("clear")
def clear() -> None:
    """Delete the cached engines; the next run compiles what it needs."""
    typer.echo(f"{_count(artifact.clear())} deleted from {artifact.artifact_directory()}")


def _count(number: int) -> str:
    return "1 compiled engine" if number == 1 else f"{number} compiled engines"
