"""Results on standard output, as they come: what `submit --wait` and `wait` share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import click

from imagequeue import terminal
from imagequeue.contract import Result, Status


def print_results(found: Iterable[Result], as_json: bool, ids: Mapping[str, None]) -> int:
    """Print the results of `ids`; return how many are errors. What came before a WaitTimeout or Ctrl-C is printed, too.

    JSON Lines are printed as they come; a table at the end, in the order of `ids`.
    """
    rows: list[Result] = []
    failed = 0
    try:
        with terminal.bar("classified", len(ids), hidden=as_json) as advance:
            for result in found:
                failed += result.status is not Status.OK
                advance(1)
                if as_json:
                    click.echo(terminal.json_line(result))
                else:
                    rows.append(result)
    finally:
        if rows:
            ranks = {id_: rank for rank, id_ in enumerate(ids)}
            rows.sort(key=lambda result: ranks[result.id])
            terminal.print_tables(terminal.results_table(rows))
    return failed
