"""The table of `pexec bench verify`."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from parallel_exec.measure.machine import describe_machine, describe_versions
from parallel_exec.measure.report import format_us
from parallel_exec.verify.run import PUBLISHED, PUBLISHED_SWAPPING, Outcome

_HOW = {"message": "one by one", "batch": "batch", "swap": "one by one, two modules"}


def verification_table(outcome: Outcome) -> RenderableType:
    """Return what `pexec bench verify` shows."""
    machine, versions = describe_machine(), describe_versions()
    title = (
        f"{outcome.messages:,} messages, {outcome.kind}, one in eight tampered with\n"
        f"{machine['cpu']}, {machine['cpus']} CPUs; {versions['python']}, wasmtime {versions['wasmtime']}"
    )
    table = Table(title=Text(title, style="bold"), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("runtime", "how", "build"):
        table.add_column(heading, no_wrap=True)
    for heading in ("per message", "times native", "messages", "published, another machine"):
        table.add_column(heading, justify="right")
    how = ""
    for each in outcome.measured:
        verifier = each.verifier
        if how and how != verifier.how:
            table.add_section()
        how = verifier.how
        published = PUBLISHED.get(verifier.name, "") if how == "message" else ""
        if verifier.name.startswith("compiled anew"):
            published = PUBLISHED_SWAPPING
        table.add_row(
            verifier.name,
            _HOW[how],
            verifier.build,
            format_us(each.median_us),
            f"{outcome.ratio(each):.2f} x",
            f"{each.messages:,}",
            published,
        )
    lines = [
        f"Medians of {len(outcome.measured[0].seconds)} interleaved rounds, of ratios too. One by one is from Python "
        "values to Python values, by waPC and MessagePack for modules, by JSON for JavaScript.",
        f"pool: {outcome.workers} workers of this package's pool, which runs Cranelift's code, and JavaScript in it; "
        f"processes: {outcome.workers} of concurrent.futures, for what that pool does not run. Elapsed by messages.",
        *(f"not measured: {name}: {reason}" for name, reason in outcome.missing.items()),
    ]
    return Group(table, *(Text(line, style="dim") for line in lines))
