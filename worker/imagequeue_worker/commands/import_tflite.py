"""`imagequeue-worker import-tflite`: TensorFlow's uint8 net -> a folder with an Int8 Caffe2 net."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from imagequeue_worker.errors import WorkerError

if TYPE_CHECKING:
    from rich.table import Table

    from imagequeue_worker.caffe2.tflite import ImportedNet
    from imagequeue_worker.description import Labels
    from imagequeue_worker.images import Preprocessing

MAX_FILE_BYTES: Final = 128 << 20  # what `load_net` reads of a net

# TensorFlow's evaluation cuts the central 87.5 % of the picture and resizes that: the usual 256 for 224. Ours
# resizes the shorter side to input / 0.875 and cuts the centre, which keeps the picture's proportions.
CENTRAL_FRACTION: Final = 0.875

# TensorFlow's ImageNet nets have 0 for the background in front of the 1,000 classes.
LABELS: Final[dict[int, Labels]] = {1000: "imagenet_1k", 1001: "imagenet_1k_background"}


@click.command("import-tflite")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to make, or a net to replace"
)
@click.option("--name", help="The net's name, which requests may ask for  [default: the file's]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table")
def import_tflite(file: Path, out: Path, name: str | None, as_json: bool) -> None:
    """Make an Int8 Caffe2 net of TensorFlow's uint8 net FILE (.tflite), a classifier of RGB pictures.

    Per-channel int8 and float nets are refused, and so are operators with no Int8 counterpart. The net sees the
    picture's bytes as they are; the folder's net.json says so, with size, channel order and labels.

    \b
    imagequeue-worker import-tflite mobilenet_v2_1.0_224_quant.tflite --out nets/mobilenet_v2
    imagequeue-worker classify --net nets/mobilenet_v2 cat.jpg
    """
    from imagequeue_worker.caffe2.tflite import convert_tflite

    name = file.stem if name is None else name
    if not (name.strip() and name.isprintable() and len(name) <= 200):
        raise WorkerError(f"name is {name[:80]!r}; must be 1 to 200 printable characters; give one with --name")
    data = _read(file)
    net = convert_tflite(data, name)
    made = _write(out, net, name, file.name, data)
    _report(net, {"name": name, "folder": str(out), **made}, as_json=as_json)


def _read(file: Path) -> bytes:
    if not file.is_file():
        raise WorkerError(f"{file} is not a file; name a .tflite file")
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise WorkerError(f"{file} cannot be read: {error.strerror}; check its permissions") from error
    if len(data) > MAX_FILE_BYTES:
        raise WorkerError(f"{file} has more than {MAX_FILE_BYTES:,} bytes; this is no net that could be run")
    return data


def _write(folder: Path, net: ImportedNet, name: str, file_name: str, data: bytes) -> dict[str, Any]:
    """Write the folder once the net in it has been loaded as a worker will; what the report says of it."""
    import hashlib

    from imagequeue_worker.caffe2 import Net, PixelScaling, load_net
    from imagequeue_worker.caffe2.netdef_writer import write_net
    from imagequeue_worker.description import NET_FILES, NetDescription
    from imagequeue_worker.making.net_folder import write_net_folder

    # A file's name may hold bytes that are no text.
    origin = {"file": file_name.encode(errors="replace").decode(), "sha256": hashlib.sha256(data).hexdigest()}
    spec = preprocessing(net)
    description = NetDescription(
        name=name,
        preprocessing=spec,
        labels=LABELS.get(net.classes),
        made={"by": "imagequeue-worker import-tflite", "source": origin},
    )
    loaded: list[Net] = []

    def load(part: Path) -> None:
        loaded.append(load_net(part, scaling=PixelScaling(spec.mean, spec.std), input_size=net.input_size))

    files = dict(zip(NET_FILES, (write_net(net.init), write_net(net.predict)), strict=True))
    write_net_folder(folder, files, description, check=load)
    return {
        "sha256": loaded[0].sha256,
        "input": list(net.input_size),
        "classes": loaded[0].classes,
        "labels": description.labels,
        "preprocessing": {"resize": spec.resize, "crop": spec.crop, "channel_order": spec.channel_order},
    }


def preprocessing(net: ImportedNet) -> Preprocessing:
    """How pictures become the net's input: RGB, the pixel being the byte. Raises WorkerError for other inputs."""
    from imagequeue_worker.images import Preprocessing

    height, width = net.input_size
    if height != width or len(net.scaling.mean) != 3:
        raise WorkerError(
            f"the net takes {height}x{width} pictures of {len(net.scaling.mean)} channels; "
            "must be squares of three channels; convert another net"
        )
    red, green, blue = net.scaling.mean
    deviations = net.scaling.std
    return Preprocessing(
        resize=round(height / CENTRAL_FRACTION),
        crop=height,
        channel_order="RGB",
        mean=(red, green, blue),
        std=(deviations[0], deviations[1], deviations[2]),
    )


def _report(net: ImportedNet, made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps({**made, "layers": [asdict(layer) for layer in net.layers]}))
        return
    from imagequeue.terminal import print_tables

    print_tables(_table(net))
    size = made["preprocessing"]
    click.echo(
        f"{made['folder']}: {made['name']}, {size['channel_order']}, resize {size['resize']}, crop {size['crop']}, "
        f"{made['classes']} classes, labels {made['labels'] or 'none known'}, sha256 {made['sha256'][:16]}…"
    )


def _table(net: ImportedNet) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("layer", "TFLite", "Caffe2"):
        table.add_column(column, overflow="fold")
    for column in ("shape", "scale", "zero point"):
        table.add_column(column, justify="right")
    for layer in net.layers:
        shape = "x".join(map(str, layer.shape[1:]))
        table.add_row(layer.name, layer.source, layer.operator, shape, f"{layer.scale:.6g}", str(layer.zero_point))
    return table
