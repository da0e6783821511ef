"""How long a net takes per picture: `OPENBLAS_NUM_THREADS=1 python tests/benchmarks/net.py FOLDER`.

One thread, because one core is what a worker process has. Without a folder a synthetic net of MobileNetV2's
shape is made. Numbers are medians of whole calls of `run_pixels`.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1])]

from imagequeue_worker.caffe2 import Net, available_engines, load_net  # noqa: E402
from synthetic_net import write_synthetic_net  # noqa: E402 - the tests are no package


def milliseconds(net: Net, batch: int, seconds: float) -> dict[str, float]:
    """Measure one batch size for about so many seconds; at least five calls, after one to warm up."""
    shape = (batch, *net.input_size, len(net.scaling.mean))
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    net.run_pixels(pixels)
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        start = time.perf_counter()
        net.run_pixels(pixels)
        times.append(time.perf_counter() - start)
    scaled = [1000 * value / batch for value in times]
    return {"median": round(statistics.median(scaled), 3), "best": round(min(scaled), 3), "calls": len(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="folder with init_net.pb and predict_net.pb")
    parser.add_argument("--engine", action="append", choices=available_engines(), help="default: all")
    parser.add_argument("--batch", action="append", type=int, help="default: 1 and 8")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each engine and batch size")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or write_synthetic_net(Path(temporary))
        results = []
        for engine in options.engine or available_engines():
            start = time.perf_counter()
            net = load_net(folder, engine=engine)
            load_seconds = round(time.perf_counter() - start, 3)
            for batch in options.batch or [1, 8]:
                row = {"net": net.name, "engine": engine, "batch": batch, "load_seconds": load_seconds}
                results.append({**row, "ms_per_image": milliseconds(net, batch, options.seconds)})
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "all")
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for row in results:
        measured = row["ms_per_image"]
        print(
            f"{row['net']} {row['engine']} batch {row['batch']}: median {measured['median']} ms/image, "
            f"best {measured['best']} ({measured['calls']} calls, threads: {threads})"
        )


if __name__ == "__main__":
    main()
