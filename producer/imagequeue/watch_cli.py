"""The commands that look at how far it is: `wait`, `progress`, `status`."""

from __future__ import annotations

from typing import Final

import click

from imagequeue import terminal
from imagequeue.client import Producer
from imagequeue.options import SOME_FAILED, answering_producer, collection_option, json_option, option, redis_url_option
from imagequeue.printing import print_results
from imagequeue.reading import Progress
from imagequeue.watching import line_of, snapshots, status_line

interval_option = option(
    "interval",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    default=1.0,
    show_default=True,
    help="Look at the collection so often.",
)


@click.command(short_help="Wait for results.")
@click.argument("ids", nargs=-1, metavar="[IDS]...")
@collection_option
@option(
    "timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=None,
    help="Wait no longer.  [default: for ever]",
)
@interval_option
@json_option
@redis_url_option
@click.pass_context
def wait(
    ctx: click.Context,
    ids: tuple[str, ...],
    collection: str,
    timeout: float | None,
    interval: float,
    as_json: bool,
    redis_url: str,
) -> None:
    """Wait for the results of these IDS and print them; without IDS, until nothing of the collection is pending.

    \b
      imagequeue wait 5feceb66ffc86f38d952786c6d696c79 --timeout 60
      imagequeue submit photos/ --json | jq -r '.ids[]' | xargs imagequeue wait --json
      imagequeue wait --collection holidays && imagequeue report --collection holidays

    The exit code is 1 when an image ended in an error, or not in time.
    """
    with answering_producer(redis_url) as producer:
        if ids:
            found = producer.as_completed(ids, collection=collection, timeout=timeout)
            failed = print_results(found, as_json, dict.fromkeys(ids))
        else:
            failed = _follow(producer, collection, interval, timeout, as_json=as_json, lines=False).error
    ctx.exit(SOME_FAILED if failed else 0)


@click.command(short_help="Tell how far a collection is.")
@collection_option
@option("watch", is_flag=True, help="Go on until nothing is pending.")
@interval_option
@json_option
@redis_url_option
def progress(collection: str, watch: bool, interval: float, as_json: bool, redis_url: str) -> None:
    """Print how far a collection is, on one line; with --watch until nothing is pending, with rate and time left.

    \b
      imagequeue progress --collection holidays
      imagequeue progress --watch
      imagequeue progress --watch --json | jq -c '{done: (.ok + .error), images_per_second}'

    On a terminal, --watch is a bar; elsewhere a line at every change. accepted = pending + ok + error, always.
    """
    with answering_producer(redis_url) as producer:
        if watch:
            _follow(producer, collection, interval, None, as_json=as_json, lines=True)
        else:
            _say(collection, producer.progress(collection), None, as_json=as_json)


def _follow(
    producer: Producer, collection: str, interval: float, timeout: float | None, *, as_json: bool, lines: bool
) -> Progress:
    """Show the way until nothing is pending: a bar, or with `lines` a line at every change; return the end."""
    if not (now := producer.progress(collection)).accepted:
        click.echo(f"nothing was ever submitted to {collection}", err=True)
        return now
    bare = lines and (as_json or not terminal.is_terminal())
    with terminal.bar(collection, now.accepted, hidden=bare) as advance:
        done = 0
        for now, rate in snapshots(lambda: producer.progress(collection), collection, interval, timeout):
            advance(now.ok + now.error - done)
            done = now.ok + now.error
            if bare:
                _say(collection, now, rate, as_json=as_json)
    if not bare:
        _say(collection, now, None, as_json=as_json)
    return now


def _say(collection: str, now: Progress, rate: float | None, *, as_json: bool) -> None:
    if as_json:
        fields = {name: getattr(now, name) for name in ("accepted", "pending", "ok", "error")}
        click.echo(terminal.json_line({"collection": collection} | fields | {"images_per_second": rate}))
    else:
        click.echo(line_of(collection, now, rate))


@click.command(short_help="Tell what waits and who works, on one line.")
@option("full", is_flag=True, help="Print tables: every queue, collection and worker.")
@json_option
@redis_url_option
def status(full: bool, as_json: bool, redis_url: str) -> None:
    """Print on one line what waits, who works and how long it will take.

    \b
      imagequeue status
      watch imagequeue status --full
      imagequeue status --json | jq '.queues[].images'

    In every collection, accepted = pending + ok + error.
    """
    with answering_producer(redis_url) as producer:
        now = producer.status()
    if as_json:
        click.echo(terminal.json_line(now))
    elif full:
        terminal.print_tables(*terminal.status_tables(now))
    else:
        click.echo(status_line(now))


COMMANDS: Final = (wait, progress, status)
