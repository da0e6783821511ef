"""`imagequeue-worker evaluate`: how often a net is right on pictures with known classes."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imagequeue_worker.errors import WorkerError
from imagequeue_worker.settings import Settings, settings_options

if TYPE_CHECKING:
    from imagequeue_worker.evaluation import Evaluation
    from imagequeue_worker.images import Limits
    from imagequeue_worker.nets import LoadedNet

EXIT_SOME_FAILED = 1
WORST_CLASSES = 10


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option("--labels", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Manifest for a folder")
@click.option("--limit", type=click.IntRange(min=1), help="Pictures at most")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables")
@settings_options("nets", "engine", "decode_threads", "max_image_bytes", "max_pixels", "max_side")
def evaluate(source: Path, labels: Path | None, limit: int | None, as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Classify pictures with known classes: top-1, top-5, milliseconds per picture, and the worst classes.

    SOURCE is a folder with wnids (n01440764) in its file or folder names, a CSV manifest with the columns `file` and
    `wnid` or `index`, or an LMDB of Caffe Datum records. Several --net are evaluated one after the other.

    \b
    imagequeue-worker evaluate imagenet/val --labels val.csv
    imagequeue-worker evaluate ilsvrc12_val_lmdb --json
    """
    from imagequeue_worker.nets import load_found_nets

    settings = Settings(**options)
    failed = 0
    for net in load_found_nets(settings):
        found = _evaluate(source, labels, limit, net, settings.limits, settings.decode_threads)
        if not found.images:
            why = f"; the first: {found.failures[0][0]}: {found.failures[0][1]}" if found.failures else ""
            raise WorkerError(f"{source} has no picture that could be read{why}")
        failed += len(found.failures)
        _print(found, net, as_json=as_json)
    sys.exit(EXIT_SOME_FAILED if failed else 0)


def _evaluate(
    source: Path, labels: Path | None, limit: int | None, net: LoadedNet, limits: Limits, threads: int
) -> Evaluation:
    from imagequeue.terminal import bar
    from imagequeue_worker.evaluation import evaluate
    from imagequeue_worker.evaluation.labelled import count_pictures, labelled_pictures

    pictures = labelled_pictures(source, labels)
    known = count_pictures(source)
    total = min(known, limit or known) if known is not None else limit
    with bar("evaluated", total, hidden=False) as advance:
        return evaluate(islice(pictures, limit), net, limits, threads=threads, on_picture=lambda: advance(1))


def _print(found: Evaluation, net: LoadedNet, *, as_json: bool) -> None:
    import json

    from rich.table import Table

    from imagequeue.terminal import print_tables

    summary = {
        "net": net.model.name,
        "sha256": net.model.sha256,
        "engine": net.engine,
        "images": found.images,
        "failed": len(found.failures),
        "top1": found.top1,
        "top5": found.top5,
        "ms_per_image": round(found.ms_per_image, 3),
    }
    if as_json:
        click.echo(json.dumps(summary))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("net", f"{net.model.name}, engine {net.engine}")
    table.add_row("images", f"{found.images}" + (f", {len(found.failures)} not read" if found.failures else ""))
    table.add_row("top-1, top-5", f"{found.top1:.2%}, {found.top5:.2%}")
    table.add_row("ms per image", f"{found.ms_per_image:.2f}")
    worst = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("missed class", "pictures", "right", "said instead"):
        worst.add_column(column, justify="right" if column in ("pictures", "right") else "left")
    for missed in islice(found.classes(), WORST_CLASSES):
        if missed.instead is not None:
            worst.add_row(str(missed.truth), str(missed.images), str(missed.right), missed.instead)
    print_tables(table, *([worst] if worst.row_count else []))
    for name, why in found.failures[:WORST_CLASSES]:
        click.echo(f"not read: {name}: {why}", err=True)
