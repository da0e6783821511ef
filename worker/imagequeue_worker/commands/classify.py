"""What `imagequeue-worker classify` prints."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import click
from rich.table import Table
from rich.text import Text

from imagequeue.contract import Outcome, Status, encode_outcome
from imagequeue.terminal import bar, picture_table, print_tables, printable


def report(outcomes: Iterable[Outcome], total: int, *, as_json: bool) -> int:
    """Print every outcome as it comes (JSON) or all in a table; the number of errors."""
    failed = 0
    rows = []
    with bar("classified", total, hidden=as_json and sys.stdout.isatty()) as advance:
        for outcome in outcomes:
            failed += outcome.status is Status.ERROR
            if as_json:
                click.echo(encode_outcome(outcome))
            else:
                rows.append(outcome)
            advance(1)
    if not as_json:
        print_tables(_table(rows))
    return failed


def _table(outcomes: Iterable[Outcome]) -> Table:
    table = picture_table()
    for outcome in outcomes:
        for cells in _rows(outcome):
            table.add_row(*cells)
    return table


def _rows(outcome: Outcome) -> Iterator[tuple[Text | str, ...]]:
    """One row per class; milliseconds of fetching, decoding and the net."""
    spent = outcome.seconds
    milliseconds = f"{(spent.fetch + spent.decode + spent.infer) * 1000:.1f}"
    name = printable(outcome.ref)
    if outcome.error:
        yield name, printable(f"{outcome.error.code}: {outcome.error.message}", "red"), "", milliseconds
    for number, one in enumerate(outcome.classes):
        yield name if not number else "", one.label, f"{one.probability:.1%}", milliseconds if not number else ""
