"""From bytes in memory to what a net computes with, ours against OpenCV: `python tests/benchmarks/pixels.py FOLDER`.

One pinned core, one thread. In each round every picture goes through OpenCV (imdecode, resize with INTER_AREA, LUT) and
through ours, one right after the other; a picture's time is its shortest of all rounds, and printed is the median of
the pictures. Our quantization is the one that the native net does on its way in, as its profile gives it. Before a
picture is timed, both results are compared. Quote the ratios: the machine's speed drifts.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

from imagequeue_worker.caffe2 import Net, load_net  # noqa: E402
from imagequeue_worker.caffe2.program import NativeEngine  # noqa: E402
from imagequeue_worker.commands.demo import demo_pictures  # noqa: E402
from imagequeue_worker.images import ZOO, decode, resize_and_crop  # noqa: E402
from imagequeue_worker.images.resize import resized_size  # noqa: E402
from synthetic_net import write_synthetic_net  # noqa: E402

RESIZE, CROP = ZOO.resize, ZOO.crop
SUFFIXES = (".jpg", ".jpeg", ".png")
STAGES = ("decode", "resize and crop", "quantize")

Pixels = NDArray[np.uint8]


def opencv(data: bytes, lut: Pixels) -> tuple[Pixels, list[float]]:
    """The canonical crop, and when its stages began and ended."""
    clock = [time.perf_counter()]
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    clock.append(time.perf_counter())
    height, width = resized_size(*picture.shape[:2], RESIZE)
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    clock.append(time.perf_counter())
    top, left = (height - CROP) // 2, (width - CROP) // 2
    crop = resized[top : top + CROP, left : left + CROP]
    cv2.LUT(crop, lut)
    clock.append(time.perf_counter())
    return crop, clock


def ours(data: bytes) -> tuple[Pixels, list[float]]:
    """Our crop, and when its stages began and ended."""
    clock = [time.perf_counter()]
    picture = decode(data, spec=ZOO)
    clock.append(time.perf_counter())
    crop = resize_and_crop(picture, RESIZE, CROP)
    clock.append(time.perf_counter())
    return crop, clock


def quantization_ms(net: Net, crop: Pixels) -> float:
    """How long the native net takes to map a crop through its table."""
    engine = net._engine
    if not isinstance(engine, NativeEngine):
        raise click.ClickException(f"the net's engine is {net.engine}; quantization is timed in the native one only")
    return 1e3 * float(engine.profile(crop[np.newaxis], net.pixel_table, 100)[0])


def measure(files: list[bytes], net: Net, rounds: int) -> dict[str, list[float]]:
    """Median milliseconds of each stage, and of all together, of both."""
    lut = np.ascontiguousarray(net.pixel_table.T).reshape(1, 256, 3)
    for data in files:
        if (opencv(data, lut)[0] != ours(data)[0]).any():
            raise click.ClickException("a crop differs from OpenCV's")
    times: dict[str, list[NDArray[np.float64]]] = {"OpenCV": [], "ours": []}
    for _ in range(rounds):
        clocks = [(opencv(data, lut)[1], ours(data)[1]) for data in files]
        for name, both in zip(times, zip(*clocks, strict=True), strict=True):
            times[name].append(np.diff(both))
    quantization = quantization_ms(net, ours(files[0])[0])
    result = {}
    for name, all_rounds in times.items():
        best = 1e3 * np.min(all_rounds, axis=0)  # [pictures, stages]
        if name == "ours":
            best = np.column_stack([best, np.full(len(files), quantization)])
        result[name] = [*np.median(best, axis=0).tolist(), float(np.median(best.sum(axis=1)))]
    return result


@click.command(help=__doc__)
@click.argument("images", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--core", type=int, default=max(os.sched_getaffinity(0)), help="The one core to run on.")
@click.option("--json", "as_json", is_flag=True)
def main(images: Path | None, rounds: int, core: int, as_json: bool) -> None:
    os.sched_setaffinity(0, {core})
    cv2.setNumThreads(1)
    paths = sorted(p for p in images.iterdir() if p.suffix.lower() in SUFFIXES) if images else demo_pictures()
    if not paths:
        raise click.ClickException(f"{images} holds no pictures ({', '.join(SUFFIXES)})")
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic_net(Path(folder))
        found = measure([path.read_bytes() for path in paths], load_net(Path(folder)), rounds)
    rows = zip([*STAGES, "all"], found["OpenCV"], found["ours"], strict=True)
    if as_json:
        stages = {stage: {"opencv_ms": theirs, "ours_ms": mine} for stage, theirs, mine in rows}
        print(json.dumps({"pictures": len(paths), "opencv": cv2.__version__, "stages": stages}, indent=2))
        return
    table = Table(box=None, pad_edge=False, title=f"{len(paths)} pictures, OpenCV {cv2.__version__}, one core")
    for column in ("stage", "OpenCV, ms", "ours, ms", "ratio"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, theirs, mine in rows:
        table.add_row(stage, f"{theirs:.3f}", f"{mine:.3f}", f"{mine / theirs:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
