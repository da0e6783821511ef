"""What the commands share: exit codes, options that are environment variables, errors as one line."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any, TypeVar

import click

from imagequeue.client import Producer
from imagequeue.connection import DEFAULT_REDIS_URL
from imagequeue.contract import DEFAULT_COLLECTION, TOP_K_MAX, Priority
from imagequeue.errors import BlobMissing, CollectionBusy, ImageQueueError, QueueFull, WaitTimeout

Command = TypeVar("Command", bound=Callable[..., Any])

SOME_FAILED = 1
NOT_POSSIBLE = 2
INTERRUPTED = 130


class Refusal(click.ClickException):
    """The command could not do its work."""

    exit_code = NOT_POSSIBLE

    def __init__(self, error: ImageQueueError) -> None:
        super().__init__("; ".join([str(error), *getattr(error, "__notes__", [])]))


class ImagesFailed(Refusal):
    """The command did its work, and not all images came through."""

    exit_code = SOME_FAILED


EXIT_CODES = (
    "Exit codes: 0 all is well; 1 some images ended in an error or not in time, or something is wrong; "
    "2 wrong usage, or Redis is not there; 130 Ctrl-C."
)


class Commands(click.Group):
    """Turns what imagequeue raises into one line on standard error and an exit code, and says so in each help."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command; its help ends with the exit codes."""
        cmd.epilog = cmd.epilog or EXIT_CODES
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> object:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except ImageQueueError as error:
            about_images = isinstance(error, QueueFull | BlobMissing | CollectionBusy | WaitTimeout)
            raise (ImagesFailed if about_images else Refusal)(error) from error


def option(name: str, *names: str, **settings: Any) -> Callable[[Command], Command]:  # noqa: ANN401
    """An option that is an environment variable, too."""
    variable = f"IMAGEQUEUE_{name.upper().replace('-', '_')}"
    return click.option(f"--{name}", *names, envvar=variable, show_envvar=True, **settings)


def answering_producer(redis_url: str) -> Producer:
    """A producer whose Redis is there; raise RedisUnavailable at once, without patience, when it is not."""
    producer = Producer(redis_url)
    producer.ping()
    return producer


def version() -> str:
    """The version of the installed package."""
    try:
        return metadata.version("imagequeue")
    except metadata.PackageNotFoundError:
        return "(not installed)"


redis_url_option = option("redis-url", default=DEFAULT_REDIS_URL, show_default=True, help="Where Redis is.")
json_option = option("json", "as_json", is_flag=True, help="Print JSON Lines instead of text.")
collection_option = option(
    "collection", default=DEFAULT_COLLECTION, show_default=True, help="The name that results are kept under."
)
priority_option = option(
    "priority",
    type=click.Choice([str(priority) for priority in Priority]),
    default=str(Priority.NORMAL),
    show_default=True,
    help="Which queue.",
)
model_option = option("model", default=None, help="The net to use.  [default: the workers' first]")
top_k_option = option(
    "top-k", type=click.IntRange(1, TOP_K_MAX), default=5, show_default=True, help="Classes per picture."
)
expires_in_option = option(
    "expires-in",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    default=None,
    help="Give a picture up that no worker took in time.  [default: never]",
)
