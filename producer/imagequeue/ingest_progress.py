"""What people see of an ingestion: a bar with rate and remaining time, and lines about what went wrong."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from imagequeue.journal_writing import Counts

LINES_TOLD = 20


class IngestProgress:
    """A bar on standard error where that is a terminal, and lines there in any case; a context manager.

    Only the first lines are printed: the journal has all of them.
    """

    def __init__(self, run: str, journal: Path, *, hidden: bool) -> None:
        self._journal = journal
        self._console = Console(stderr=True)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=hidden or not self._console.is_terminal,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            speed_estimate_period=60,
        )
        self._task = self._bar.add_task(run, total=None, rate="")
        self._begun = False
        self._told = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._told > LINES_TOLD:
            more = self._told - LINES_TOLD
            self._print(
                f"… and {more} more such lines; all problems are in the journal: {self._journal}, table problems"
            )

    def tell(self, line: str) -> None:
        """Print a line about something that went wrong."""
        self._told += 1
        if self._told <= LINES_TOLD:
            self._print(line)

    def move(self, counts: Counts, total: int | None) -> None:
        """Show how far the run is; `total` is how many images there will be."""
        done = counts.ok + counts.error
        if not self._begun:  # what earlier starts have done is not this one's rate
            self._begun = True
            self._bar.reset(self._task, total=total, completed=done)
        speed = self._bar.tasks[0].speed
        self._bar.update(self._task, completed=done, total=total, rate=f"{speed:.0f} images/s" if speed else "")

    def _print(self, line: str) -> None:
        shown = line if len(line) <= 400 else f"{line[:300]}…{line[-90:]}"
        printable = "".join(character if character.isprintable() else "�" for character in shown)
        self._console.print(Text(printable), soft_wrap=True)
