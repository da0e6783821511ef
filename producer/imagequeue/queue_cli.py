"""The operator's commands on queues and the server: pause, resume, doctor."""

from __future__ import annotations

from typing import Final

import click

from imagequeue import terminal
from imagequeue.options import SOME_FAILED, answering_producer, json_option, option, redis_url_option
from imagequeue.roles import Role


@click.command(short_help="Let workers take nothing more from a queue.")
@click.argument("queue")
@json_option
@redis_url_option
def pause(queue: str, as_json: bool, redis_url: str) -> None:
    """Let workers take nothing more from QUEUE; what they hold they finish, and submitting goes on.

    \b
      imagequeue pause classify-low

    RQ's own `rq suspend` holds all queues at once.
    """
    with answering_producer(redis_url) as producer:
        changed = producer.pause(queue)
    _say_paused(queue, paused=True, changed=changed, as_json=as_json)


@click.command(short_help="Let workers take from a queue again.")
@click.argument("queue")
@json_option
@redis_url_option
def resume(queue: str, as_json: bool, redis_url: str) -> None:
    """Let workers take from QUEUE again.

    \b
      imagequeue resume classify-low
    """
    with answering_producer(redis_url) as producer:
        changed = producer.resume(queue)
    _say_paused(queue, paused=False, changed=changed, as_json=as_json)


@click.command(short_help="Look for what is wrong with server and queue.")
@option(
    "role",
    type=click.Choice([str(role) for role in Role]),
    default=str(Role.OPERATOR),
    show_default=True,
    help="What this user of Redis is meant to do.",
)
@json_option
@redis_url_option
@click.pass_context
def doctor(ctx: click.Context, role: str, as_json: bool, redis_url: str) -> None:
    """Look at version, eviction policy, persistence, memory, clock, permissions, workers, leases and pending images.

    \b
      imagequeue doctor
      imagequeue doctor --role producer --redis-url redis://producer:secret@redis.internal:6379/0
      imagequeue doctor --json | jq '.findings[] | select(.ok | not)'

    The exit code is 1 when something is wrong; each finding names the remedy. Nothing is changed. What this user may
    not do appears in the server's ACL LOG, since it is tried, and taken back.
    """
    with answering_producer(redis_url) as producer:
        diagnosis = producer.diagnose(Role(role))
    if as_json:
        click.echo(terminal.json_line(diagnosis))
    else:
        terminal.print_tables(terminal.diagnosis_table(diagnosis))
    ctx.exit(0 if diagnosis.healthy else SOME_FAILED)


COMMANDS: Final = (pause, resume, doctor)


def _say_paused(queue: str, *, paused: bool, changed: bool, as_json: bool) -> None:
    if as_json:
        click.echo(terminal.json_line({"queue": queue, "paused": paused, "changed": changed}))
    else:
        click.echo(f"{queue} is {'paused' if paused else 'open'}" + ("" if changed else ", as it was"))
