"""The operator's commands on images and collections: cancel, dead-letters, requeue, discard, drop."""

from __future__ import annotations

from typing import Final

import click

from imagequeue import terminal
from imagequeue.cancelling import RESULT_SECONDS
from imagequeue.contract import ErrorCode
from imagequeue.dead_letters import DeadLetter
from imagequeue.options import (
    SOME_FAILED,
    answering_producer,
    collection_option,
    json_option,
    option,
    priority_option,
    redis_url_option,
)

ids_argument = click.argument("ids", nargs=-1, metavar="[IDS]...")
code_option = option(
    "code",
    type=click.Choice([str(code) for code in ErrorCode]),
    default=None,
    metavar="CODE",
    help="Only those that ended with this error code.  [default: any]",
)


@click.command(short_help="Withdraw pictures that have no result yet.")
@ids_argument
@option("job", default=None, metavar="JOB", help="Withdraw what this job still carries.")
@option("all", "everything", is_flag=True, help="Withdraw all that is pending in the collection.")
@option(
    "result-ttl",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    default=RESULT_SECONDS,
    show_default=True,
    help="How long their results (error: cancelled) are kept.",
)
@collection_option
@json_option
@redis_url_option
@click.pass_context
def cancel(
    ctx: click.Context,
    ids: tuple[str, ...],
    job: str | None,
    everything: bool,
    result_ttl: int,
    collection: str,
    as_json: bool,
    redis_url: str,
) -> None:
    """End pictures that have no result yet as `error: cancelled`: those with these IDS, of a --job, or --all.

    \b
      imagequeue cancel 5feceb66ffc86f38d952786c6d696c79 --collection holidays
      imagequeue cancel --job iq-1b4f0e9851971998e732078544c96b36
      imagequeue cancel --all --collection holidays

    Also those that a worker is classifying: its answer is dropped. The exit code is 1 when one of the IDS was not
    pending.
    """
    if sum((bool(ids), job is not None, everything)) != 1:
        raise click.UsageError("name image IDS, or --job JOB, or --all: one of them")
    with answering_producer(redis_url) as producer:
        if ids:
            cancelled = producer.cancel(ids, collection=collection, result_ttl=result_ttl)
        elif job is not None:
            cancelled = producer.cancel_job(job, result_ttl=result_ttl)
        else:
            cancelled = producer.cancel_collection(collection, result_ttl=result_ttl)
    left = len(set(ids)) - cancelled if ids else 0
    if as_json:
        click.echo(terminal.json_line({"cancelled": cancelled, "not_pending": left}))
    else:
        click.echo(f"{cancelled} cancelled" + (f", {left} not pending in {collection}" if left else ""))
    ctx.exit(SOME_FAILED if left else 0)


@click.command("dead-letters", short_help="Print pictures that ended in an error and can be requeued.")
@ids_argument
@code_option
@collection_option
@json_option
@redis_url_option
def dead_letters(ids: tuple[str, ...], code: str | None, collection: str, as_json: bool, redis_url: str) -> None:
    """Print the dead letters of a collection, or of the images with these IDS: errors whose requests are kept.

    \b
      imagequeue dead-letters --collection holidays
      imagequeue dead-letters --code fetch_timeout --json | jq -r .ref

    They are kept as long as their results. `imagequeue requeue` runs them again, `imagequeue discard` forgets them.
    """
    rows: list[DeadLetter] = []
    with answering_producer(redis_url) as producer:
        for letter in producer.dead_letters(ids or None, collection=collection, code=code):
            if as_json:
                click.echo(terminal.json_line(letter))
            else:
                rows.append(letter)
    if rows:
        rows.sort(key=lambda letter: (letter.code, letter.ref))
        terminal.print_tables(terminal.dead_letters_table(rows))


@click.command(short_help="Run dead letters again.")
@ids_argument
@code_option
@priority_option
@option(
    "timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=None,
    help="Wait no longer for room in a full queue.  [default: for ever]",
)
@collection_option
@json_option
@redis_url_option
def requeue(
    ids: tuple[str, ...],
    code: str | None,
    priority: str,
    timeout: float | None,
    collection: str,
    as_json: bool,
    redis_url: str,
) -> None:
    """Run dead letters again: all of a collection, or those with these IDS; --code chooses among them.

    \b
      imagequeue requeue --code fetch_timeout --collection holidays
      imagequeue requeue 5feceb66ffc86f38d952786c6d696c79 --priority high

    Each counts as accepted once more, and its error result goes. Model, classes and expiry are as first asked for.
    """
    with answering_producer(redis_url) as producer:
        done = producer.requeue(ids or None, collection=collection, code=code, priority=priority, timeout=timeout)
    if as_json:
        click.echo(terminal.json_line(done))
    else:
        click.echo(f"{done.accepted} requeued" + (f", {done.left} left where they were" if done.left else ""))


@click.command(short_help="Forget dead letters.")
@ids_argument
@code_option
@collection_option
@json_option
@redis_url_option
def discard(ids: tuple[str, ...], code: str | None, collection: str, as_json: bool, redis_url: str) -> None:
    """Forget dead letters: all of a collection, or those with these IDS; --code chooses among them.

    \b
      imagequeue discard --code corrupt --collection holidays

    Their results stay, and can no longer be requeued.
    """
    with answering_producer(redis_url) as producer:
        discarded = producer.discard(ids or None, collection=collection, code=code)
    click.echo(terminal.json_line({"discarded": discarded}) if as_json else f"{discarded} discarded")


@click.command(short_help="Remove a finished collection whole.")
@click.argument("collection")
@json_option
@redis_url_option
def drop(collection: str, as_json: bool, redis_url: str) -> None:
    """Remove a finished COLLECTION whole: results, dead letters, counters.

    \b
      imagequeue drop holidays
      imagequeue cancel --all --collection holidays && imagequeue drop holidays

    The exit code is 1, and nothing is removed, while pictures of it are pending.
    """
    with answering_producer(redis_url) as producer:
        removed = producer.drop(collection)
    if as_json:
        click.echo(terminal.json_line({"collection": collection, "results": removed}))
    else:
        click.echo(f"{collection} is gone, with {removed} results")


COMMANDS: Final = (cancel, dead_letters, requeue, discard, drop)
