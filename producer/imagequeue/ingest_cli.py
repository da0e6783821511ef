"""`imagequeue ingest`: submit what sources list, follow it, keep the results; again and again, until all is done."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from imagequeue import contract
from imagequeue.errors import ImageQueueError
from imagequeue.ingest_plan import agree
from imagequeue.ingest_progress import IngestProgress
from imagequeue.ingesting import Ingestion
from imagequeue.journal import journal_path
from imagequeue.journal_writing import READ, Counts, Journal
from imagequeue.options import (
    SOME_FAILED,
    answering_producer,
    expires_in_option,
    model_option,
    option,
    priority_option,
    redis_url_option,
    top_k_option,
)
from imagequeue.sources.kinds import Kind


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of a run, as `--json` prints it: of all its starts together, but for `seconds`.

    `complete`: every source was read to its end. The counts are those of `Counts`.
    """

    run: str
    journal: str
    complete: bool
    images: int
    ok: int
    error: int
    duplicates: int
    problems: int
    again: int
    seconds: float


@click.command(short_help="Submit what sources list, follow it, keep the results; resumable.")
@click.argument("sources", nargs=-1, metavar="[SOURCES]...")
@option("run", required=True, metavar="NAME", help="The run: its collection, and what a later start goes on with.")
@option("journal", type=click.Path(path_type=Path), default=None, help="Its journal.  [default: ~/.local/state/…]")
@option(
    "limit-in-flight",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Images that are submitted and have no result yet, at most.",
)
@option(
    "kind",
    type=click.Choice([str(kind) for kind in Kind]),
    default=str(Kind.AUTO),
    show_default=True,
    help="What files and standard input are; auto goes by their suffix.",
)
@option("ref-column", metavar="NAME", default=None, help="Column of references.  [default: ref, path, file, url …]")
@option("id-column", metavar="NAME", default=None, help="Column of ids.  [default: id, else a hash of the reference]")
@option("label-column", metavar="NAME", default=None, help="Column of known classes.  [default: label, wnid, class …]")
@option("base", metavar="FOLDER", default=None, help="Folder of relative paths in lists.  [default: the list's]")
@priority_option
@model_option
@top_k_option
@expires_in_option
@option("strict", is_flag=True, help="Stop at the first line, row or member that cannot be submitted, or comes twice.")
@option("keep-results", is_flag=True, help="Leave results in Redis, too, until they expire.")
@option("json", "as_json", is_flag=True, help="Print the summary as a line of JSON.")
@redis_url_option
@click.pass_context
def ingest(
    ctx: click.Context,
    /,
    sources: tuple[str, ...],
    run: str,
    journal: Path | None,
    limit_in_flight: int,
    strict: bool,
    keep_results: bool,
    as_json: bool,
    redis_url: str,
    **plan: Any,  # noqa: ANN401  the fields of Plan
) -> None:
    """Submit every picture that SOURCES list, and keep all results in a journal. Start it again to go on.

    SOURCES are pictures, folders, quoted globs ('photos/**/*.jpg'), lists (.txt, .csv, .tsv, .jsonl), Parquet and tar
    files, LMDBs, s3://bucket/prefix/, references, or - for a list on standard input. Lists may carry ids and labels.

    \b
      imagequeue ingest photos/ --run holidays
      imagequeue ingest train.csv --run train --ref-column image --label-column wnid
      imagequeue ingest 'shards/*.tar' --run shards --limit-in-flight 2000
      imagequeue ingest --run holidays              goes on where it was stopped
      imagequeue results --run holidays --json

    A run that was stopped, in whatever way, goes on where it was: nothing is read or classified twice. It keeps its
    sources and how they are read. Results are removed from Redis when they are in the journal, which an operator may do
    (with a mere producer's user they expire there); errors stay there, for `imagequeue requeue`.
    """
    path = journal or journal_path(contract.check_collection(run))
    options = {name: plan[name] for name in plan if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}
    begun = time.monotonic()
    with answering_producer(redis_url) as producer, Journal(path) as book:
        agreed, opened = agree(book, run, sources, options)
        progress = IngestProgress(run, path, hidden=as_json)
        ingestion = Ingestion(producer, book, run, agreed, opened, progress, limit_in_flight, strict, keep_results)
        try:
            with progress:
                ingestion.finish()
        except (ImageQueueError, KeyboardInterrupt):
            click.echo(_how_to_go_on(run, journal, book.counts), err=True)
            raise
        complete = all(state.state == READ for state in book.sources())
        counts = book.counts
    _print(Summary(
        run=run, journal=str(path), complete=complete, images=counts.images, ok=counts.ok, error=counts.error,
        duplicates=counts.duplicates, problems=counts.problems, again=counts.again,
        seconds=round(time.monotonic() - begun, 3),
    ), as_json=as_json)  # fmt: skip
    ctx.exit(SOME_FAILED if counts.error or counts.problems or not complete else 0)


def _print(summary: Summary, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(summary).decode())
        return
    if not summary.images:
        click.echo("nothing to submit: no pictures there", err=True)
    also = [
        f"{number} {words}"
        for number, words in (
            (summary.duplicates, "named more than once"),
            (summary.problems, "could not be submitted"),
            (summary.again, "submitted again"),
        )
        if number
    ]
    click.echo(", ".join([f"{summary.ok} ok, {summary.error} errors in {summary.run}", *also]))
    named = (
        f"--run {summary.run}" if Path(summary.journal) == journal_path(summary.run) else f"--journal {summary.journal}"
    )
    click.echo(f"`imagequeue results {named}` prints them", err=True)


def _how_to_go_on(run: str, journal: Path | None, counts: Counts) -> str:
    where = f" --journal {journal}" if journal else ""
    return (
        f"stopped with {counts.ok + counts.error} results and {counts.in_flight} images in flight; "
        f"`imagequeue ingest --run {run}{where}` goes on"
    )


COMMANDS = (ingest,)
