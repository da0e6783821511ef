"""How long nets take per picture: each of our engines, and with --peers ONNX Runtime and OpenVINO on the same weights.

    python tests/benchmarks/net.py [--peers] [FOLDER …]      # make bench, make bench-peers

One pinned core, one thread, a process for each contender, of which one runs at a time, in turns; a turn is one call
that is not timed and then as many as fit. Ours start from uint8 pixels; the peers from floats that were made of them
before the clock. Before a peer is timed, its best classes are compared with ours; among our engines every value is.
Quote the ratios: the machine's speed drifts. Without a folder a synthetic net of MobileNetV2's shape is made.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import click
from rich.console import Console

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "peers"), str(HERE.parent)]

from imagequeue_worker.blas import limit_blas_threads  # noqa: E402

limit_blas_threads()  # before numpy is imported; the contenders inherit it

import numpy as np  # noqa: E402
from contender import Contender, ContenderFailedError, our_contender, peer_contenders  # noqa: E402
from machine import describe_machine, pin  # noqa: E402
from our_engine import open_net  # noqa: E402
from race import ROUNDS_LEAST, NotComparableError, Result, Rules, race  # noqa: E402
from report import print_machine, print_results  # noqa: E402
from turns import IMAGES, PIXELS, Array  # noqa: E402

from imagequeue_worker.caffe2 import Net, available_engines  # noqa: E402
from imagequeue_worker.commands.demo import demo_pictures  # noqa: E402
from imagequeue_worker.images import preprocess  # noqa: E402
from imagequeue_worker.zoo import describe  # noqa: E402
from synthetic_net import write_synthetic_net  # noqa: E402

PEERS_PYTHON = HERE.parents[1] / ".venv-peers/bin/python"
PICTURES_MOST = 32
SUFFIXES = (".jpg", ".jpeg", ".png")


def picture_crops(folder: Path, net: Net, images: Path | None) -> Array:
    """What the net sees of the pictures in a folder, or of scikit-image's: uint8 [N, H, W, C]."""
    spec, size = describe(folder).preprocessing, max(net.input_size)
    if spec.crop != size:
        spec = dataclasses.replace(spec, crop=size, resize=size * spec.resize // spec.crop)
    files = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES) if images else demo_pictures()
    if not files:
        raise click.ClickException(f"{images} holds no pictures ({', '.join(SUFFIXES)})")
    step = max(1, len(files) // PICTURES_MOST)
    return np.stack([preprocess(path.read_bytes(), spec) for path in files[::step][:PICTURES_MOST]])


def write_pictures(folder: Path, net: Net, pixels: Array) -> None:
    """Write them as our engines and as the peers take them."""
    np.save(folder / PIXELS, pixels)
    np.save(folder / IMAGES, np.ascontiguousarray(np.moveaxis(net.scaling.apply(pixels), -1, 1)))


def contenders(net: Path, pictures: Path, engines: Sequence[str], peers_python: Path | None) -> Iterator[Contender]:
    """Start our engines, then the peers."""
    for engine in engines:
        yield our_contender(net, pictures, engine)
    if peers_python:
        yield from peer_contenders(net, pictures, peers_python)


def measure(
    folder: Path, images: Path | None, engines: Sequence[str], peers_python: Path | None, rules: Rules
) -> tuple[str, list[Result]]:
    """All contenders on one net: its name, and the results of all batch sizes."""
    net = open_net(folder, available_engines()[-1])  # the plainest one: the others must equal it
    pixels = picture_crops(folder, net, images)
    reference = net.run_pixels(pixels)[net.output_name]
    with ExitStack() as stack:
        pictures = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_pictures(pictures, net, pixels)
        started = [
            stack.enter_context(closing(contender)) for contender in contenders(folder, pictures, engines, peers_python)
        ]
        return net.name, [result for batch in rules.batches for result in race(started, batch, reference, rules)]


def as_json(net: str, results: Sequence[Result]) -> list[dict[str, Any]]:
    """What `--json` has of a net."""
    peers = [result for result in results if not result.contender.ours]
    return [
        {"net": net, **result.as_json([peer for peer in peers if peer.batch == result.batch])} for result in results
    ]


FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(help=__doc__)
@click.argument("folders", nargs=-1, type=FOLDER)
@click.option("--engine", "engines", multiple=True, type=click.Choice(available_engines()), help="Ours; default: all")
@click.option("--batch", "batches", multiple=True, type=click.IntRange(1, 256), default=(1, 8, 32), show_default=True)
@click.option("--peers", is_flag=True, help="Compare with ONNX Runtime and OpenVINO")
@click.option("--peers-python", type=click.Path(path_type=Path), default=PEERS_PYTHON, help="Interpreter that has them")
@click.option("--images", type=FOLDER, help="Pictures to compare the answers on; default: scikit-image's")
@click.option("--rounds", default=15, show_default=True, type=click.IntRange(ROUNDS_LEAST))
@click.option("--turn-ms", default=100.0, show_default=True, help="How long a turn lasts, at least")
@click.option("--seconds", default=0.0, help=f"End a batch size after so long; not before {ROUNDS_LEAST} rounds")
@click.option("--core", type=int, help="Core to run on; default: the last one")
@click.option("--json", "wants_json", is_flag=True)
def main(
    folders: tuple[Path, ...], engines: tuple[str, ...], batches: tuple[int, ...], peers: bool, peers_python: Path,
    images: Path | None, rounds: int, turn_ms: float, seconds: float, core: int | None, wants_json: bool,
) -> None:  # fmt: skip
    if peers and not peers_python.exists():
        raise click.ClickException(f"{peers_python} is not there; `make bench-peers` makes it")
    console = Console(width=None if sys.stdout.isatty() else 180, quiet=wants_json)
    machine = describe_machine(pin(core))
    print_machine(console, machine)
    found: list[dict[str, Any]] = []
    rules = Rules(batches, rounds, turn_ms / 1000, seconds, agreeing_least=0.5 if folders else 0)
    with tempfile.TemporaryDirectory() as temporary:
        for folder in folders or [write_synthetic_net(Path(temporary))]:
            try:
                name, results = measure(
                    folder, images, engines or available_engines(), peers_python if peers else None, rules
                )
            except (ContenderFailedError, NotComparableError) as error:
                raise click.ClickException(str(error)) from error
            print_results(console, name, results)
            found += as_json(name, results)
    if wants_json:
        click.echo(json.dumps({"machine": machine, "results": found}, indent=2))


if __name__ == "__main__":
    main()
