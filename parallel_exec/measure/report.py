"""The tables of `pexec bench` and `pexec profile`."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from parallel_exec.measure.compare import Comparison
from parallel_exec.measure.machine import describe_machine, describe_versions
from parallel_exec.measure.profile import Profile
from parallel_exec.measure.rounds import Measured
from parallel_exec.measure.strategies import STRATEGIES, Stage, Work

# Wide enough for either table where the output is no terminal and has no width of its own.
PLAIN_WIDTH = 150
# A terminal narrower than this gets the comparison without the columns that explain rather than compare.
_WIDE = 130


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that fits a terminal, and that does not cut a table short where there is none."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def comparison_table(comparison: Comparison, *, width: int = PLAIN_WIDTH) -> RenderableType:
    """Return what `pexec bench` shows, on so many columns."""
    wide = width >= _WIDE
    table = _table(comparison.work, comparison.document_name)
    table.add_column("strategy", no_wrap=True)
    if wide:
        table.add_column("done already, once")
    for heading in ("median", "p10", "p90", "jobs/s", "vs baseline"):
        table.add_column(heading, justify="right")
    if wide:
        table.add_column("first result", justify="right")
        table.add_column("jobs", justify="right")
    references = comparison.reference_ms
    if references:
        table.add_column("Rust, another machine", justify="right")
    first = comparison.strategies[0]
    baseline = first if first.contestant.name == "baseline" else None
    for measured in comparison.strategies:
        name = measured.contestant.name
        reference = [f"{references[name]:g} ms"] if name in references else []
        table.add_row(*_row(measured, STRATEGIES[name].cached, baseline, wide), *reference)
    if comparison.peers:
        table.add_section()
    for measured in comparison.peers:
        table.add_row(*_row(measured, "plugin loaded; jobs share state", baseline, wide))
    lines = ["vs baseline: how many times faster, by the medians."]
    if wide:
        lines.append(
            "first result: from the plugin's source to the first job's result, once per plugin; the rest is per job."
        )
    for batches in (measured.summary.samples for measured in comparison.strategies if measured.contestant.batched):
        lines.append(
            f"parallel: jobs in flight on {comparison.work.workers} workers; elapsed time by jobs, per batch"
            + (
                f", of which there are {batches}."
                if batches > 1
                else "; one batch has no p10 and p90 (more --jobs do)."
            )
        )
    lines += [f"not measured: {name}: {reason}" for name, reason in comparison.missing.items()]
    answer = first.answer.decode("utf-8", "replace")
    lines.append(f"answer, the same from all to 1e-5: {answer if len(answer) <= 80 else answer[:77] + '...'}")
    return with_notes(table, *lines)


def _row(measured: Measured, done_already: str, baseline: Measured | None, wide: bool) -> list[str]:
    summary = measured.summary
    spread = (summary.p10_us, summary.p90_us)
    figures = [
        format_us(summary.median_us),
        *(map(format_us, spread) if summary.samples > 1 else ("", "")),
        f"{summary.jobs_per_s:,.0f}",
        f"{baseline.summary.median_us / summary.median_us:.2f} x" if baseline else "",
    ]
    if wide:
        return [
            measured.contestant.name,
            done_already,
            *figures,
            f"{measured.prepare_s * 1e3:,.1f} ms",
            f"{summary.jobs:,}",
        ]
    return [measured.contestant.name, *figures]


def profile_table(profile: Profile) -> RenderableType:
    """Return what `pexec profile` shows: a row per strategy, a column per part that any of them has."""
    used = [stage for stage in Stage if any(stage in profiled.stages_us for profiled in profile.strategies)]
    table = _table(profile.work, profile.document_name)
    table.add_column("strategy", no_wrap=True)
    for heading in (*used, "sum", "job"):
        table.add_column(str(heading), justify="right")
    for profiled in profile.strategies:
        stages = profiled.stages_us
        table.add_row(
            profiled.strategy.name,
            *(f"{stages[stage]:,.1f}" if stage in stages else "" for stage in used),
            f"{sum(stages.values()):,.1f}",
            f"{profiled.total_us:,.1f}",
        )
    jobs = len(profile.strategies[0].parts)
    lines = [
        f"Microseconds, medians of {jobs} jobs. The parts are timed as separate calls, the whole job apart from them:",
        "the sum is not exactly the job.",
    ]
    if any(Stage.TRANSPORT in profiled.stages_us for profiled in profile.strategies):
        lines.append(
            "transport: what a job alone in the pool, nothing else in flight, takes longer than one in this process."
        )
    return with_notes(table, *lines)


def make_table(subject: str) -> Table:
    """Return a table without columns yet, under a title: its subject, and what it was measured on."""
    machine, versions = describe_machine(), describe_versions()
    title = (
        f"{subject}\n{machine['cpu']}, {machine['cpus']} CPUs; {versions['python']}, wasmtime {versions['wasmtime']}"
    )
    return Table(title=Text(title, style="bold"), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


def with_notes(table: Table, *lines: str) -> RenderableType:
    """Return a table with lines of explanation below it."""
    return Group(table, *(Text(line, style="dim") for line in lines))


def _table(work: Work, document_name: str) -> Table:
    return make_table(f"{work.plugin.name}: {work.function}() on {document_name} ({len(work.document):,} bytes)")


def format_us(us: float) -> str:
    """Return a time as text of about three digits.

    >>> format_us(0.5), format_us(297.3), format_us(8330.0)
    ('0.50 us', '297 us', '8.33 ms')
    """
    if us < 10:
        return f"{us:.2f} us"
    if us < 1000:
        return f"{us:.0f} us"
    if us < 100_000:
        return f"{us / 1000:.2f} ms"
    return f"{us / 1000:.0f} ms"
