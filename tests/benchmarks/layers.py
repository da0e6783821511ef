"""Where a net's time goes, layer by layer: `python tests/benchmarks/layers.py FOLDER [--engine native/avx2]`.

Each layer's shortest time of some hundred runs of the whole net, its multiplications per second, and its share of the
rate that the same engine reaches, in the same run, on a product that asks nothing of caches or stores: 28 pixels
times 960 inputs times 64 channels, of small weights.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from imagequeue_worker.caffe2 import available_engines, load_net
from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.program import NativeEngine
from imagequeue_worker.caffe2.single import compile_single
from imagequeue_worker.caffe2.tensor import TensorSpec


def best_rate(path: str, rounds: int) -> float:
    """Multiplications per second of a convolution that nothing but arithmetic bounds."""
    rng = np.random.default_rng(0)
    weights = rng.integers(118, 139, (64, 1, 1, 960), dtype=np.uint8)
    x = rng.integers(0, 256, (1, 28, 1, 960), dtype=np.uint8)
    specs = [
        TensorSpec("int8", x.shape, 1.0, 0, x),
        TensorSpec("int8", weights.shape, 0.001, 128, weights),
        TensorSpec("int32", (64,), 0.001, 0, np.zeros(64, np.int32)),
    ]
    program = compile_single(path, specs, Arguments.of("Int8ConvRelu", {"kernel": 1, "Y_scale": 1.0}))
    assert program is not None
    seconds = float(program.profile([x], None, 50 * rounds, 1)[1]) / 1e9
    return 28 * 960 * 64 / seconds


def main() -> None:
    natives = [name for name in available_engines() if name.startswith("native/")]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with init_net.pb and predict_net.pb")
    parser.add_argument("--engine", choices=natives, default=natives[0] if natives else None)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the one core to run on")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    net = load_net(options.folder, engine=options.engine)
    engine = net._engine
    assert isinstance(engine, NativeEngine)
    shape = (1, *net.input_size, len(net.scaling.mean))
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    limit = best_rate(options.engine.removeprefix("native/"), options.rounds)
    started = time.monotonic()
    seconds = engine.profile(pixels, net.pixel_table, options.rounds)
    rows = [{"operators": "pixel table", "kernel": "look up", "us": 1e6 * seconds[0], "products": 0}]
    for step, value in zip(net.describe(), seconds[1:], strict=True):
        rows.append(
            {
                "operators": step.operators,
                "kernel": step.kernel,
                "x": list(step.x[1:]),
                "y": list(step.y[1:]),
                "products": step.products,
                "us": 1e6 * value,
                "share": step.products / value / limit if step.products else None,
            }
        )
    if options.json:
        print(json.dumps({"engine": net.engine, "limit_products_per_second": limit, "layers": rows}, indent=2))
        return
    table = Table(box=None, pad_edge=False, title=f"{net.name}, {net.engine}, limit {limit / 1e9:.0f} G/s")
    for column in ("operators", "kernel", "x", "y", "M products", "us", "G/s", "share of limit"):
        table.add_column(column, justify="left" if column in ("operators", "kernel") else "right")
    for row in rows:
        size = ["x".join(map(str, row.get(side, ()))) for side in ("x", "y")]
        products = row["products"]
        rate = products / row["us"] / 1e3
        numbers = [f"{rate:.0f}", f"{row['share']:.0%}"] if products else ["", ""]
        count = f"{products / 1e6:.1f}" if products else ""
        table.add_row(row["operators"], row["kernel"], *size, count, f"{row['us']:.1f}", *numbers)
    total = sum(row["us"] for row in rows)
    floor = sum(row["products"] for row in rows) / limit * 1e6
    table.add_row("sum", "", "", "", "", f"{total:.0f}", "", f"{floor / total:.0%}")
    Console(width=160).print(table)
    print(f"{options.rounds} runs in {time.monotonic() - started:.1f} s on core {options.core}")


if __name__ == "__main__":
    main()
