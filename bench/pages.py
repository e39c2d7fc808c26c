"""Writing a benchmark's figures as a page of the documentation, with the machine, the versions and the command."""

from __future__ import annotations

import datetime as dt
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parallel_exec.measure.machine import describe_machine, describe_versions

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table and what explains it.

    Attributes:
        heading: of the section; none if the page has only one.
        columns: the headings; the first column is text, the others are numbers.
        rows: a cell for each column.
        notes: paragraphs below the table, in Markdown.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    heading: str = ""
    notes: Sequence[str] = ()

    def lines(self) -> list[str]:
        """Return the section's paragraphs."""
        heading = [f"## {self.heading}"] if self.heading else []
        return [*heading, _table(self.columns, self.rows), *self.notes]


def write_page(path: Path, title: str, *sections: Section) -> None:
    """Write a page with the figures that this process has measured.

    Args:
        path: the page; its folder is created if needed.
        title: the page's heading.
        sections: what it says.
    """
    machine, versions = describe_machine(), describe_versions()
    memory = machine["memory_bytes"]
    facts = [
        ("command", f"`{this_command()}`"),
        ("date", dt.datetime.now(tz=dt.UTC).date().isoformat()),
        ("processor", f"{machine['cpu']} ({machine['architecture']})"),
        ("usable CPUs", machine["cpus"]),
        ("memory", f"{memory / (1 << 30):.1f} GiB" if memory else "unknown"),
        ("system", machine["system"]),
        ("load when the figures were written", machine["load_1min"]),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)),
    ]
    parts = [f"# {title}", "Made by the command below. Run it again rather than editing this page."]
    for section in sections:
        parts += section.lines()
    parts += ["## Machine and versions", _table(("", ""), facts, numbers=False)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def this_command() -> str:
    """Return the command line of this process, from the repository's root."""
    script = Path(sys.argv[0]).resolve()
    name = script.relative_to(ROOT) if script.is_relative_to(ROOT) else script
    return shlex.join(["python", str(name), *sys.argv[1:]])


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: bool = True) -> str:
    ruler = ["---", *(["--:" if numbers else "---"] * (len(columns) - 1))]
    lines = [columns, ruler, *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
