"""Progress on a terminal. If stderr is not a terminal, nothing is shown, and rich is not even imported."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

# A shorter run shows no bar, and does not pay for importing what draws it.
QUIET_S = 0.5
_BETWEEN_S = 0.1


class Bar:
    """A progress bar on stderr, if that is a terminal: what is being done, how many of how many, the time left.

    Args:
        unit: what is counted, in the plural.
        total: how many there are, if known.
        quiet_s: seconds before the bar appears.
    """

    def __init__(self, unit: str, total: int | None = None, quiet_s: float = QUIET_S) -> None:
        self._unit = unit
        self._total = total
        self._count = 0
        self._label = ""
        self._shown = sys.stderr.isatty()
        self._due = time.monotonic() + quiet_s
        self._rich: RichProgress | None = None

    def say(self, text: str) -> None:
        """Show what is happening now."""
        self._label = text
        self._update()

    def start(self, total: int) -> None:
        """Set the total, now that it is known."""
        self._total = total
        self._update()

    def advance(self, jobs: int) -> None:
        """Count that many more as done."""
        self._count += jobs
        self._update()

    def pause(self) -> None:
        """Remove the bar so that something else can be written; the next `advance` brings it back."""
        if self._rich is not None:
            self._rich.stop()
            self._rich = None

    def _update(self) -> None:
        now = time.monotonic()
        if not self._shown or now < self._due:
            return
        self._due = now + _BETWEEN_S
        if self._rich is None:
            self._rich = self._make()
            self._rich.start()
        self._rich.update(
            self._rich.task_ids[0], completed=self._count, total=self._total, description=self._label or self._unit
        )
        self._rich.refresh()

    def _make(self) -> RichProgress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(self._unit),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            auto_refresh=False,  # it would run a thread while something is measured
        )
        progress.add_task(self._unit, total=self._total)
        return progress

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.pause()
