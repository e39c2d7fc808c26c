"""Writing a benchmark's figures as a page of the documentation, with the machine, the versions and the command."""

from __future__ import annotations

import datetime as dt
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from parallel_exec.measure.machine import describe_machine, describe_versions

ROOT = Path(__file__).resolve().parent.parent


def write_page(
    path: Path,
    *,
    title: str,
    command: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    notes: Iterable[str] = (),
) -> None:
    """Write a page with one table.

    Args:
        path: the page; its folder is created if needed.
        title: the page's heading.
        command: what produced the figures (see `this_command`).
        columns: the headings; the first column is text, the others are numbers.
        rows: a cell for each column.
        notes: paragraphs that explain the table, in Markdown.
    """
    machine, versions = describe_machine(), describe_versions()
    memory = machine["memory_bytes"]
    facts = [
        ("command", f"`{command}`"),
        ("date", dt.datetime.now(tz=dt.UTC).date().isoformat()),
        ("processor", f"{machine['cpu']} ({machine['architecture']})"),
        ("usable CPUs", machine["cpus"]),
        ("memory", f"{memory / (1 << 30):.1f} GiB" if memory else "unknown"),
        ("system", machine["system"]),
        ("load when the figures were written", machine["load_1min"]),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)),
    ]
    parts = [
        f"# {title}",
        "Made by the command below. Run it again rather than editing this page.",
        _table(columns, rows),
        *notes,
        "## Machine and versions",
        _table(("", ""), facts, numbers=False),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def this_command() -> str:
    """Return the command line of this process, from the repository's root."""
    script = Path(sys.argv[0]).resolve()
    name = script.relative_to(ROOT) if script.is_relative_to(ROOT) else script
    return shlex.join(["python", str(name), *sys.argv[1:]])


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: bool = True) -> str:
    ruler = ["---", *(["--:" if numbers else "---"] * (len(columns) - 1))]
    lines = [columns, ruler, *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
