"""Progress on a terminal. Where stderr is none, nothing is shown, and rich is not even imported."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

# A run that is over sooner shows no bar, and does not pay for importing what draws it.
QUIET_S = 0.5
_BETWEEN_S = 0.1


class Bar:
    """A progress bar on stderr, if that is a terminal: what is done, how many of how many, how much time is left.

    Args:
        unit: what is counted, in the plural.
        total: how many there are, if that is known.
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
        """Show what happens now."""
        self._label = text
        self._update()

    def start(self, total: int) -> None:
        """The total is known now."""
        self._total = total
        self._update()

    def advance(self, jobs: int) -> None:
        """So many more are done."""
        self._count += jobs
        self._update()

    def pause(self) -> None:
        """Take the bar away, to write something else; the next `advance` brings it back."""
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
            auto_refresh=False,  # that is a thread, which would run while something is measured
        )
        progress.add_task(self._unit, total=self._total)
        return progress

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()
