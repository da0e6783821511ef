"""The commands on results: `results` (a row per picture) and `report` (all of them together)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from imagequeue import terminal
from imagequeue.contract import Result, Status
from imagequeue.labels import Labels
from imagequeue.options import SOME_FAILED, Command, option
from imagequeue.origins import Origin, origin_options
from imagequeue.reports.judging import Judged, judged
from imagequeue.reports.output import writing
from imagequeue.reports.tables import judged_table, summary_tables
from imagequeue.reports.writers import ROW_WRITERS, ReportFormat, RowFormat, format_of

TABLE_ROWS: Final = 20  # of classes and confusions, for people

labels_option = option(
    "labels",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Known classes: `file class` in each line, or CSV or JSON Lines with id, ref or file, and index, wnid or "
    "label.  [default: those of the run]",
)
output_option = option(
    "output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write this file, whole or not at all.  [default: standard output]",
)


def format_option(formats: type[RowFormat] | type[ReportFormat]) -> Callable[[Command], Command]:
    """--format, of these; a file's suffix says it, too."""
    return option(
        "format",
        "format_",
        type=click.Choice([str(one) for one in formats]),
        default=None,
        metavar="FORMAT",
        help=f"{', '.join(formats)}.  [default: by the suffix of --output, else table]",
    )


@dataclass(slots=True)
class Seen:
    """What has passed: how many results, how many of them errors; and which ids have not come."""

    missing: dict[str, None]
    images: int = 0
    failed: int = 0

    def watch(self, results: Iterable[Result]) -> Iterator[Result]:
        """Note each, and pass it on."""
        for result in results:
            self.missing.pop(result.id, None)
            self.images += 1
            self.failed += result.status is not Status.OK
            yield result


@click.command(short_help="Print or write results, a row per picture.")
@click.argument("ids", nargs=-1, metavar="[IDS]...")
@format_option(RowFormat)
@output_option
@option("json", "as_json", is_flag=True, help="The same as --format jsonl.")
@labels_option
@origin_options
@click.pass_context
def results(
    ctx: click.Context,
    /,
    ids: tuple[str, ...],
    format_: str | None,
    output: Path | None,
    as_json: bool,
    labels: Path | None,
    **origin: Any,  # noqa: ANN401  the fields of Origin
) -> None:
    """Print the results that are there now: of a collection, a run or a file; all, or those with these IDS.

    \b
      imagequeue results --collection holidays
      imagequeue results --run validation -o validation.parquet
      imagequeue results --json | jq -r 'select(.status == "ok") | [.ref, .classes[0].label] | @tsv'
      imagequeue results --from results.jsonl --format csv --labels val.txt

    With labels, rows have the known class and its rank among the result's classes. The exit code is 1 when a result is
    an error, or one of the IDS has none.
    """
    chosen = RowFormat(_chosen(format_, output, RowFormat, RowFormat.JSONL if as_json else None))
    source = Origin(**origin)
    known = source.labels(labels)
    seen = Seen(dict.fromkeys(ids))
    with source.results(ids) as found:
        _write_rows(judged(seen.watch(found), known), chosen, output, ids)
    if seen.missing:
        click.echo(f"no result in {source.name}: {', '.join(seen.missing)}", err=True)
    ctx.exit(SOME_FAILED if seen.failed or seen.missing else 0)


def _write_rows(rows: Iterable[Judged], chosen: RowFormat, output: Path | None, ids: tuple[str, ...]) -> None:
    if chosen is RowFormat.PARQUET and output is None and sys.stdout.isatty():
        raise click.UsageError("Parquet is nothing for a terminal; name a file with --output")
    if chosen is not RowFormat.TABLE:
        with writing(output) as file:
            ROW_WRITERS[chosen](rows, file)
        return
    ranks = {id_: rank for rank, id_ in enumerate(ids)}
    ordered = sorted(rows, key=lambda one: (ranks.get(one.result.id, 0), one.result.ref))
    if ordered:
        _print_tables(output, judged_table(ordered))


@click.command(short_help="Tell what results say together; write a contact sheet.")
@format_option(ReportFormat)
@output_option
@option("json", "as_json", is_flag=True, help="The same as --format json.")
@labels_option
@option("title", metavar="TEXT", help="The heading of the page.  [default: where the results come from]")
@option(
    "no-thumbnails",
    is_flag=True,
    help="Show references alone, not the pictures that this machine can read (files, data:; needs the extra `report`).",
)
@origin_options
@click.pass_context
def report(
    ctx: click.Context,
    /,
    format_: str | None,
    output: Path | None,
    as_json: bool,
    labels: Path | None,
    title: str | None,
    no_thumbnails: bool,
    **origin: Any,  # noqa: ANN401  the fields of Origin
) -> None:
    """Tell what the results of a collection, a run or a file say together: classes, errors, seconds.

    \b
      imagequeue report --collection holidays
      imagequeue report --run validation --labels val.txt
      imagequeue report --run validation -o validation.html
      imagequeue results --json | imagequeue report --from - --json | jq .accuracy.top1

    With labels: top-1, top-5, every class, and which is taken for which. HTML is one page without a network: pictures,
    classes, probabilities and errors, to be filtered, sorted and searched. The exit code is 1 when there is no result.
    """
    chosen = ReportFormat(_chosen(format_, output, ReportFormat, ReportFormat.JSON if as_json else None))
    source = Origin(**origin)
    known = source.labels(labels)
    seen = Seen({})
    with source.results() as found:
        rows = seen.watch(found)
        if chosen is ReportFormat.HTML:
            _write_page(rows, known, output, title=title or f"imagequeue: {source.name}", thumbnails=not no_thumbnails)
        else:
            _write_summary(rows, known, chosen, output)
    if not seen.images:
        click.echo(f"no result in {source.name}", err=True)
    ctx.exit(0 if seen.images else SOME_FAILED)


def _write_page(
    results: Iterable[Result], labels: Labels | None, output: Path | None, *, title: str, thumbnails: bool
) -> None:
    from imagequeue.reports.contact_sheet import write_contact_sheet
    from imagequeue.reports.thumbnails import pillow_is_there

    if thumbnails and not pillow_is_there():
        click.echo("no thumbnails: Pillow is not installed; pip install 'imagequeue[report]'", err=True)
    # Redis has no order of its own.
    ordered = sorted(results, key=lambda result: (result.submitted_at, result.ref))
    with writing(output) as file, terminal.bar("on the page", len(ordered), hidden=output is None) as advance:
        rows = _counted(judged(ordered, labels), advance)
        write_contact_sheet(rows, file, title=title, labelled=labels is not None, thumbnails=thumbnails)


def _counted(rows: Iterable[Judged], advance: Any) -> Iterator[Judged]:  # noqa: ANN401
    for row in rows:
        advance(1)
        yield row


def _write_summary(results: Iterable[Result], labels: Labels | None, chosen: ReportFormat, output: Path | None) -> None:
    from imagequeue.reports.summary import summary_of

    as_table = chosen is ReportFormat.TABLE
    found = summary_of(judged(results, labels), labelled=labels is not None, rows_max=TABLE_ROWS if as_table else None)
    if as_table:
        if found.images:
            _print_tables(output, *summary_tables(found))
    else:
        with writing(output) as file:
            file.write(terminal.json_line(found).encode() + b"\n")


def _chosen(
    format_: str | None, output: Path | None, formats: type[RowFormat] | type[ReportFormat], by_flag: str | None
) -> str:
    """The format that is asked for: by --json, by --format, or by the file's suffix."""
    if by_flag is not None and format_ not in (None, by_flag):
        raise click.UsageError(f"--json is --format {by_flag}; leave one of them out")
    chosen = by_flag or format_ or format_of(output) or "table"
    if chosen not in list(formats):
        command = "report" if formats is RowFormat else "results"
        raise click.UsageError(f"{output} is for `imagequeue {command}`; this one writes {', '.join(formats)}")
    return chosen


def _print_tables(output: Path | None, *tables: Any) -> None:  # noqa: ANN401  rich's
    if output is None:
        terminal.print_tables(*tables)
        return
    with writing(output) as file:
        file.write(terminal.tables_text(*tables).encode())


COMMANDS: Final = (results, report)
