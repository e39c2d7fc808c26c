"""The tables of `pexec bench` and `pexec profile`."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from parallel_exec.measure.comparison import Comparison
from parallel_exec.measure.machine import describe_machine, describe_versions
from parallel_exec.measure.profile import Profile
from parallel_exec.measure.rounds import Timings
from parallel_exec.measure.strategies import STRATEGIES, JobStage, Work

# Wide enough for either table where the output is not a terminal and has no width of its own.
PLAIN_WIDTH = 150
# A terminal narrower than this gets the comparison without the columns that explain rather than compare.
_WIDE = 130
_ANSWER_WIDTH = 80


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that fits the terminal or, if there is none, does not cut tables short."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def comparison_table(comparison: Comparison, *, width: int = PLAIN_WIDTH) -> RenderableType:
    """Return what `pexec bench` shows, for that many columns."""
    wide = width >= _WIDE
    table = _table(comparison.work)
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
    baseline = first if first.name == "baseline" else None
    for timings in comparison.strategies:
        reference = [f"{references[timings.name]:g} ms"] if timings.name in references else []
        table.add_row(*_row(timings, STRATEGIES[timings.name].cached, baseline, wide=wide), *reference)
    if comparison.peers:
        table.add_section()
    for timings in comparison.peers:
        table.add_row(*_row(timings, "plugin loaded; jobs share state", baseline, wide=wide))
    return with_notes(table, *_notes(comparison, wide=wide))


def _notes(comparison: Comparison, *, wide: bool) -> list[str]:
    lines = ["vs baseline: how many times faster, by the medians."]
    if wide:
        lines.append(
            "first result: from the plugin's source to the first job's result, once per plugin; the rest is per job."
        )
    lines += [
        f"{timings.name}: jobs in flight on {comparison.work.workers} workers; elapsed time divided by jobs, for "
        + (f"{batches} batches." if batches > 1 else "one batch, so no p10 and p90 (use more --jobs).")
        for timings in comparison.strategies
        if timings.contestant.batched and (batches := timings.summary.samples)
    ]
    lines += [f"not measured: {name}: {reason}" for name, reason in comparison.missing.items()]
    answer = comparison.strategies[0].answer.decode("utf-8", "replace")
    if len(answer) > _ANSWER_WIDTH:
        answer = answer[: _ANSWER_WIDTH - 3] + "..."
    return [*lines, f"answer, the same from all to 1e-5: {answer}"]


def _row(timings: Timings, done_already: str, baseline: Timings | None, *, wide: bool) -> list[str]:
    summary = timings.summary
    spread = (summary.p10_us, summary.p90_us)
    figures = [
        format_us(summary.median_us),
        *(map(format_us, spread) if summary.samples > 1 else ("", "")),
        f"{summary.jobs_per_s:,.0f}",
        f"{baseline.summary.median_us / summary.median_us:.2f} x" if baseline else "",
    ]
    if wide:
        return [timings.name, done_already, *figures, f"{timings.prepare_s * 1e3:,.1f} ms", f"{summary.jobs:,}"]
    return [timings.name, *figures]


def profile_table(profile: Profile) -> RenderableType:
    """Return what `pexec profile` shows: a row per strategy, a column per stage that any of them has."""
    used = [stage for stage in JobStage if any(stage in profiled.stages_us for profiled in profile.strategies)]
    table = _table(profile.work)
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
    jobs = len(profile.strategies[0].stages)
    lines = [
        f"Microseconds, medians of {jobs} jobs. The stages are timed as separate calls, the whole job on its own:",
        "the sum is not exactly the job.",
    ]
    if any(JobStage.TRANSPORT in profiled.stages_us for profiled in profile.strategies):
        lines.append("transport: how much longer a job takes in the pool, with nothing else in flight, than here.")
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


def _table(work: Work) -> Table:
    return make_table(f"{work.plugin.name}: {work.function}() on {work.document_name} ({len(work.document):,} bytes)")


def format_us(us: float) -> str:
    """Return a time as text of about three digits.

    >>> format_us(0.5), format_us(297.3), format_us(8330.0)
    ('0.50 us', '297 us', '8.33 ms')
    """
    for bound, scale, digits, unit in ((10, 1, 2, "us"), (1000, 1, 0, "us"), (100_000, 1000, 2, "ms")):
        if us < bound:
            return f"{us / scale:.{digits}f} {unit}"
    return f"{us / 1000:.0f} ms"
