"""`imagequeue-worker quantize`: a float PyTorch classifier becomes a net's folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from imagequeue_worker.caffe2.quantize import FloatNet, LayerReport, QuantizedNet
    from imagequeue_worker.images import Preprocessing
    from imagequeue_worker.making.calibration import Calibration

Triple = tuple[float, float, float]


@click.command()
@click.argument("model")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, envvar="IMAGEQUEUE_OUT", show_envvar=True,
    help="The net's folder; a net that is there is replaced",
)  # fmt: skip
@click.option(
    "--calibrate", type=click.Path(path_type=Path, exists=True, file_okay=False), envvar="IMAGEQUEUE_CALIBRATE",
    show_envvar=True, help="Folder with 10 to 100 photographs, no labels  [default: those of scikit-image and -learn]",
)  # fmt: skip
@click.option(
    "--crops", type=click.IntRange(1, 4096), default=64, show_default=True, envvar="IMAGEQUEUE_CROPS",
    show_envvar=True, help="Crops of them to calibrate on; Lite0 needs 14 MB for each",
)  # fmt: skip
@click.option(
    "--input-size", type=click.IntRange(16, 2048), default=224, show_default=True, envvar="IMAGEQUEUE_INPUT_SIZE",
    show_envvar=True, help="Side of the model's pictures; a .pt2 file has its own",
)  # fmt: skip
@click.option(
    "--resize", type=click.IntRange(16, 4096), envvar="IMAGEQUEUE_RESIZE", show_envvar=True,
    help="Shorter side before the centre is cut out  [default: 8/7 of the input size]",
)  # fmt: skip
@click.option(
    "--mean", type=float, nargs=3, default=(0.485, 0.456, 0.406), show_default=True, envvar="IMAGEQUEUE_MEAN",
    show_envvar=True, help="Of the pixels, in units of 255, in the model's channel order",
)  # fmt: skip
@click.option(
    "--std", type=float, nargs=3, default=(0.229, 0.224, 0.225), show_default=True, envvar="IMAGEQUEUE_STD",
    show_envvar=True, help="Of the pixels, likewise",
)  # fmt: skip
@click.option(
    "--channel-order", type=click.Choice(["RGB", "BGR"]), default="RGB", show_default=True,
    envvar="IMAGEQUEUE_CHANNEL_ORDER", show_envvar=True, help="That the model was trained on",
)  # fmt: skip
@click.option(
    "--labels", type=click.Path(path_type=Path, exists=True, dir_okay=False), envvar="IMAGEQUEUE_LABELS",
    show_envvar=True, help="File with a line for each class  [default: ImageNet's where there are 1,000]",
)  # fmt: skip
@click.option("--name", envvar="IMAGEQUEUE_NAME", show_envvar=True, help="The net's name  [default: its folder's]")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, envvar="IMAGEQUEUE_SEED", show_envvar=True,
    help="For crops and sampled places; the same seed gives the same bytes",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(1, 64), default=2, show_default=True, envvar="IMAGEQUEUE_THREADS",
    show_envvar=True, help="Pictures at a time",
)  # fmt: skip
def quantize(
    model: str, out: Path, calibrate: Path | None, crops: int, input_size: int, resize: int | None, mean: Triple,
    std: Triple, channel_order: str, labels: Path | None, name: str | None, seed: int, threads: int,
) -> None:  # fmt: skip
    """Make an Int8 net of a float PyTorch classifier: MODEL is package.module:callable, or a torch.export file (.pt2).

    The callable returns a torch.nn.Module (or is one). No labels and no training are needed; 64 crops of a few
    photographs like those to be classified are enough.

    \b
    imagequeue-worker quantize torchvision.models:resnet18 --out nets/resnet18
    imagequeue-worker quantize mynet.pt2 --calibrate ~/pictures --out nets/mynet
    """
    from imagequeue_worker.caffe2.quantize import importer
    from imagequeue_worker.making.calibration import make_crops, pictures_below
    from imagequeue_worker.making.default_net import photographs
    from imagequeue_worker.making.make_net import Recipe, for_runtime, import_model, make_net
    from imagequeue_worker.making.net_folder import check_place

    check_place(out)
    paths = pictures_below(calibrate) if calibrate else photographs()
    net = import_model(importer.load_model(model), input_size, threads)
    spec = _preprocessing(net, resize, channel_order, mean, std)
    net, spec = for_runtime(net, spec)
    calibration = make_crops(paths, spec, count=crops, seed=seed)
    lines = tuple(labels.read_text("utf-8").splitlines()) if labels else None
    recipe = Recipe(name=name or out.resolve().name, spec=spec, labels=lines, seed=seed, threads=threads)
    with layer_bar() as report:
        quantized = make_net(net, recipe, calibration, out, report)
    print_summary(quantized, calibration)
    click.echo(str(out))


def _preprocessing(net: FloatNet, resize: int | None, order: str, mean: Triple, std: Triple) -> Preprocessing:
    """The pixels that a model wants.

    Raises InvalidModel when no crop of the runtime has its shape; SettingsError for impossible numbers.
    """
    from imagequeue_worker.caffe2.quantize import InvalidModel
    from imagequeue_worker.errors import SettingsError
    from imagequeue_worker.images import Preprocessing

    height, width, channels = net.input_shape
    if height != width or channels != 3:
        raise InvalidModel(
            f"the model's input is {height}x{width} with {channels} channels; must be square with 3; export it so"
        )
    try:
        return Preprocessing(resize or round(height * 8 / 7), height, "RGB" if order == "RGB" else "BGR", mean, std)
    except ValueError as error:
        raise SettingsError(f"{error}; change --resize, --mean or --std") from error


@contextmanager
def layer_bar() -> Iterator[Callable[[LayerReport, int], None]]:
    """A progress bar for layers on standard error, shown on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("reading the model", total=None)

        def report(layer: LayerReport, total: int) -> None:
            bar.update(task, description=layer.name, total=total, advance=1)

        yield report


def print_summary(quantized: QuantizedNet, calibration: Calibration) -> None:
    """The closing table on standard output, and what is worth a sentence."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for heading in ("layer", "operator"):
        table.add_column(heading, no_wrap=True)
    for heading in ("from", "to", "scale", "zero point", "error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in quantized.reports:
        q = row.quantization
        cells = (f"{q.low:.3f}", f"{q.high:.3f}", f"{q.scale:.6f}", str(q.zero_point), f"{row.error:.1%}")
        table.add_row(row.name, row.op_type, *cells)
    # Not cut to 80 columns where the output is a file.
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    click.echo(
        f"error: root mean square against the float net, over the calibration crops; the best class is the same on "
        f"{quantized.agreement:.1%} of {len(calibration.crops)} crops of {len(calibration.sources)} pictures"
    )
    if widened := [row.name for row in quantized.reports if row.widened]:
        click.echo(f"scale raised for Caffe2's requantization, which must be below 1: {', '.join(widened)}")
