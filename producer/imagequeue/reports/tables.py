"""Tables for people: results beside their labels, and what all of them say together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from imagequeue.reports.judging import Judged
from imagequeue.reports.summary import Accuracy, Count, Summary
from imagequeue.terminal import empty_table, picture_table, printable, result_cells


def judged_table(results: Sequence[Judged]) -> Table:
    """Pictures and what is on them; with the known class and its rank where a label is known."""
    labelled = any(one.truth is not None for one in results)
    table = picture_table()
    if labelled:
        table.add_column("known class", overflow="fold")
        table.add_column("rank", justify="right")
    for one in results:
        known = printable("" if one.truth is None else str(one.truth))
        more = (known, "" if one.rank is None else str(one.rank)) if labelled else ()
        table.add_row(*result_cells(one.result), *more)
    return table


def summary_tables(summary: Summary) -> tuple[Table, ...]:
    """Counts and seconds; errors and classes, the most frequent first; with labels what is right and what is not."""
    tables = [_facts(summary)]
    tables += [_counts("error", summary.codes)] if summary.codes else []
    if summary.accuracy is None:
        tables += [_counts("class", summary.classes)] if summary.classes else []
    else:
        tables += [_classes(summary.accuracy), _confusions(summary.accuracy)]
    return tuple(tables)


def _facts(summary: Summary) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("images", f"{summary.images:,}: {summary.ok:,} ok, {summary.error:,} ended in an error")
    if summary.seconds:
        table.add_row("seconds to result", ", ".join(f"{name} {value:.3f}" for name, value in summary.seconds.items()))
    if (accuracy := summary.accuracy) is not None:
        table.add_row("top-1, top-5", f"{accuracy.top1:.2%}, {accuracy.top5:.2%} of {accuracy.images:,} with a label")
        for images, what in (
            (accuracy.labelled_errors, "with a label ended in an error, and count in neither"),
            (accuracy.unlabelled, "have no label"),
            (accuracy.fewer_than_5, "hold fewer than five classes (--top-k): top-5 looks among those"),
        ):
            if images:
                table.add_row("", f"{images:,} {what}")
    return table


def _classes(accuracy: Accuracy) -> Table:
    table = empty_table("missed class", "said instead most", numbers=("pictures", "right"))
    for row in accuracy.classes:
        if row.right < row.images:
            table.add_row(printable(row.name), printable(row.instead or ""), f"{row.images:,}", f"{row.right:,}")
    return table


def _confusions(accuracy: Accuracy) -> Table:
    table = empty_table("class", "taken for", numbers=("pictures",))
    for row in accuracy.confusions:
        table.add_row(printable(row.name), printable(row.said), f"{row.images:,}")
    return table


def _counts(name: str, counts: Iterable[Count]) -> Table:
    table = empty_table(name, numbers=("images",))
    for count in counts:
        table.add_row(printable(count.name), f"{count.images:,}")
    return table
