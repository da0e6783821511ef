"""What a terminal shows: tables of results, status and findings, bars; and JSON Lines for programs."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from imagequeue.contract import Result, Status
from imagequeue.dead_letters import DeadLetter
from imagequeue.doctor import Diagnosis
from imagequeue.status import QueueStatus

WIDE = 10_000  # columns: lines are never folded


def json_line(value: object) -> str:
    """One line of JSON, without its newline; of structs, dataclasses and what JSON has."""
    return msgspec.json.encode(value).decode()


def results_table(results: Iterable[Result]) -> Table:
    """Picture, best class, its probability, and milliseconds from submission to result."""
    table = picture_table()
    for result in results:
        table.add_row(*result_cells(result))
    return table


def result_cells(result: Result) -> tuple[Text, Text, str, str]:
    """A result's row in a table of pictures."""
    label, probability = _verdict(result)
    took = (result.finished_at - result.submitted_at) * 1000
    return printable(result.ref), label, probability, f"{took:.0f}" if result.submitted_at else ""


def picture_table() -> Table:
    """An empty table of pictures and what is on them."""
    return empty_table("picture", "label", numbers=("probability", "ms"))


def status_tables(status: QueueStatus) -> tuple[Table, ...]:
    """Queues, collections and workers."""
    queues = empty_table("queue", numbers=("images", "jobs", ""))
    for queue in status.queues:
        queues.add_row(queue.name, str(queue.images), str(queue.jobs), "paused" if queue.paused else "")
    collections = empty_table("collection", numbers=("accepted", "pending", "ok", "error"))
    for item in status.collections:
        collections.add_row(item.name, *map(str, (item.accepted, item.pending, item.ok, item.error)))
    workers = empty_table("worker", numbers=("state", "images/s"))
    for worker in status.workers:
        rate = worker.images_per_second
        workers.add_row(printable(worker.name), worker.state, "" if rate is None else f"{rate:.1f}")
    if not status.workers:
        workers.add_row(Text("no worker is alive: start one with `imagequeue-worker run`", style="yellow"), "", "")
    elif len(status.workers) > 1:
        workers.add_row("together", "", f"{status.images_per_second:.1f}")
    return queues, collections, workers


def dead_letters_table(letters: Iterable[DeadLetter]) -> Table:
    """Id, picture, the error and the attempt that met it."""
    table = empty_table("id", "picture", "error", numbers=("attempt",))
    for letter in letters:
        error = printable(f"{letter.code}: {letter.message}", style="red")
        table.add_row(printable(letter.id), printable(letter.ref), error, str(letter.attempt))
    return table


def diagnosis_table(diagnosis: Diagnosis) -> Table:
    """What was looked at, what was found, and what to do about what is wrong."""
    table = empty_table("check", "", "found", "remedy")
    for finding in diagnosis.findings:
        verdict = Text("ok", style="green") if finding.ok else Text("wrong", style="red")
        table.add_row(finding.check, verdict, printable(finding.found), "" if finding.ok else printable(finding.remedy))
    return table


def empty_table(*texts: str, numbers: Sequence[str] = ()) -> Table:
    """A table without rows: columns of texts, folded where they are long, and behind them of numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


class RateColumn(ProgressColumn):
    """Images per second of late."""

    def render(self, task: Task) -> Text:
        """The rate, once it is known."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} images/s")


def is_terminal() -> bool:
    """Whether standard output is one."""
    return sys.stdout.isatty()


@contextmanager
def bar(word: str, total: int | None, *, hidden: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, if that is a terminal; yields what moves it on by a number of images.

    Hide it where lines are printed meanwhile: both may be on one terminal.
    """
    console = Console(stderr=True)
    known = total is not None
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        *([BarColumn()] if known else []),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        *([TimeRemainingColumn()] if known else []),
        console=console,
        disable=hidden or not console.is_terminal,
        transient=True,
        redirect_stdout=False,  # it would send our output to standard error
        redirect_stderr=False,
    )
    with progress:
        task = progress.add_task(word, total=total)
        yield lambda images: progress.advance(task, images)


def print_tables(*tables: Table) -> None:
    """Print to standard output; where that is no terminal, lines are never folded."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    _print(console, tables)


def tables_text(*tables: Table) -> str:
    """The same as text without colours, for a file."""
    console = Console(width=WIDE, file=io.StringIO())
    with console.capture() as captured:
        _print(console, tables)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _print(console: Console, tables: Sequence[Table]) -> None:
    for number, table in enumerate(tables):
        if number:
            console.print()
        console.print(table)


def _verdict(result: Result) -> tuple[Text, str]:
    if result.status is Status.OK and result.classes:
        best = result.classes[0]
        return printable(best.label), f"{best.probability:.1%}"
    failure = result.error
    return printable(f"{failure.code}: {failure.message}" if failure else "no class", style="red"), ""


def printable(text: str, style: str = "") -> Text:
    """Text as it is: no markup, and no control characters, which a hostile reference could hold."""
    shown = text if len(text) <= 200 else f"{text[:120]}…{text[-60:]}"
    return Text("".join(character if character.isprintable() else "�" for character in shown), style)
