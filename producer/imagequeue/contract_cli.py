"""The commands that print what other programs need: `schema` (the contract) and `completion` (for shells)."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from imagequeue.options import option
from imagequeue.schema import schema_text
from imagequeue.scripts import script_text

COMPLETE_VARIABLE: Final = "_IMAGEQUEUE_COMPLETE"  # where click looks for what a shell asks
SHELLS: Final[dict[str, type[ShellComplete]]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
SCRIPTS: Final = ("submit", "resubmit", "cancel")


@click.command(short_help="Print the wire contract, for other languages.")
@option(
    "script",
    type=click.Choice(SCRIPTS),
    default=None,
    metavar="NAME",
    help=f"Print this Lua script instead, as Redis takes it: {', '.join(SCRIPTS)}.",
)
def schema(script: str | None) -> None:
    """Print the JSON Schema of requests, job data and results, or a script that a producer sends to Redis.

    \b
      imagequeue schema > contract.schema.json
      imagequeue schema --script submit | redis-cli -x SCRIPT LOAD

    producer/CONTRACT.md submits a picture and reads its result with these, by hand.
    """
    click.echo(script_text(script) if script else schema_text(), nl=False)


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes bash, zsh or fish complete commands, options and choices.

    \b
      imagequeue completion bash >> ~/.bashrc
      imagequeue completion zsh >> ~/.zshrc
      imagequeue completion fish > ~/.config/fish/completions/imagequeue.fish
    """
    kind = SHELLS[shell]
    click.echo(kind(ctx.find_root().command, {}, "imagequeue", COMPLETE_VARIABLE).source())


COMMANDS: Final = (schema, completion)
