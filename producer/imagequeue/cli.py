"""The command `imagequeue`: submit pictures, read results, look at the queue."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from imagequeue import contract_cli, ingest_cli, operator_cli, queue_cli, results_cli, terminal, watch_cli
from imagequeue.client import Producer
from imagequeue.options import (
    EXIT_CODES,
    SOME_FAILED,
    Commands,
    collection_option,
    expires_in_option,
    json_option,
    model_option,
    option,
    priority_option,
    redis_url_option,
    top_k_option,
    version,
)
from imagequeue.orders import Submission
from imagequeue.printing import print_results
from imagequeue.sources import references


@click.group(
    cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(version(), prog_name="imagequeue")
def cli() -> None:
    """Classify pictures in the background: submit them here, workers classify them, read the results here.

    \b
      imagequeue submit photos/ --wait          what is on the pictures of a folder?
      find /data -name '*.jpg' | imagequeue submit - --collection holidays
      imagequeue status                         how far is it, and who works?
      imagequeue wait --collection holidays     until all of it is done
      imagequeue results --collection holidays --json
      imagequeue report --collection holidays -o holidays.html
      imagequeue doctor                         is all as it should be?

    Every option is an environment variable, too. Bars are shown on a terminal only.
    """


@cli.command(short_help="Submit pictures; with --wait, print what is on them.")
@click.argument("paths", nargs=-1, required=True, metavar="PATHS...")
@option("wait", is_flag=True, help="Wait for the results and print them.")
@collection_option
@priority_option
@model_option
@top_k_option
@expires_in_option
@option(
    "timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=None,
    help="Wait no longer for room in a full queue and, with --wait, for the results.  [default: for ever]",
)
@option(
    "depth-limit",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="Images that a queue may hold before submitting waits.",
)
@option("resubmit", is_flag=True, help="Run pictures that have a result afresh.")
@option("durable", is_flag=True, help="Return when Redis has synced them to its disk.")
@option(
    "replicas",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="With --durable: return when so many replicas have them, too.",
)
@json_option
@redis_url_option
@click.pass_context
def submit(
    ctx: click.Context,
    paths: tuple[str, ...],
    wait: bool,
    collection: str,
    priority: str,
    model: str | None,
    top_k: int,
    expires_in: float | None,
    timeout: float | None,
    depth_limit: int,
    resubmit: bool,
    durable: bool,
    replicas: int,
    as_json: bool,
    redis_url: str,
) -> None:
    """Submit pictures to be classified.

    PATHS are files, folders (searched for pictures, in the order of their names), - for standard input (one
    reference per line), or references as they are: https://…, file:///…, blob:…, s3://….

    \b
      imagequeue submit cat.jpg --wait
      imagequeue submit photos/ more/ --collection holidays --priority low
      imagequeue submit https://example.org/dog.jpg --wait --json | jq .classes[0].label
      cat list.txt | imagequeue submit - --expires-in 3600

    A picture that is waiting already, or has a result, is not classified again; --resubmit does it for those that have
    a result. Without --wait, --json prints one line per chunk of up to 16: its image ids, and how many were new.
    """
    with Producer(redis_url, depth_limit=depth_limit) as producer:
        producer.ping()
        parts = producer.submit_chunks(
            references(paths, sys.stdin.buffer),
            collection=collection,
            priority=priority,
            model=model,
            top_k=top_k,
            expires_in=expires_in,
            timeout=timeout,
            resubmit=resubmit,
            durable=durable,
            replicas=replicas,
        )
        ids = _submitted(parts, collection, wait=wait, as_json=as_json)
        if wait:
            found = producer.as_completed(ids, collection=collection, timeout=timeout)
            failed = print_results(found, as_json, ids)
            ctx.exit(SOME_FAILED if failed else 0)


def _submitted(parts: Iterable[Submission], collection: str, *, wait: bool, as_json: bool) -> dict[str, None]:
    """Submit as the parts are read, and say so; return the ids when they are to be waited for."""
    ids: dict[str, None] = {}
    accepted = known = 0
    try:
        with terminal.bar("submitted", None, hidden=as_json and not wait) as advance:
            for part in parts:
                accepted += part.accepted
                known += part.known
                advance(part.accepted + part.known)
                if wait:
                    ids.update(dict.fromkeys(part.ids))
                elif as_json:
                    click.echo(terminal.json_line(part))
    finally:
        # Also after Ctrl-C or an error: what is accepted stays accepted.
        if accepted + known and not as_json:
            click.echo(f"{accepted} accepted, {known} known already, in {collection}", err=wait)
    if not accepted + known:
        click.echo("nothing to submit: no pictures there", err=True)
    return ids


for command in (
    *results_cli.COMMANDS,
    *watch_cli.COMMANDS,
    *ingest_cli.COMMANDS,
    *operator_cli.COMMANDS,
    *queue_cli.COMMANDS,
    *contract_cli.COMMANDS,
):
    cli.add_command(command)


def main() -> None:
    """Run the command: the entry point `imagequeue`."""
    cli(prog_name="imagequeue")
