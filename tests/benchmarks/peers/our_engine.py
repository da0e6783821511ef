"""One of our engines as a contender: `our_engine.py NET_FOLDER PICTURES_FOLDER ENGINE`; pixels in, uint8."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from turns import PIXELS, Array, Call, serve

from imagequeue_worker.caffe2 import Net, PixelScaling, load_net
from imagequeue_worker.zoo import describe


class OurEngine:
    def __init__(self, folder: Path, engine: str) -> None:
        self.net = open_net(folder, engine)

    def about(self) -> dict[str, Any]:
        return {"name": self.net.engine, "version": ""}

    def prepare(self, batch: Array) -> tuple[Call, dict[str, Any]]:
        return lambda: self.net.run_pixels(batch)[self.net.output_name], {"form": "uint8 pixels"}


def open_net(folder: Path, engine: str) -> Net:
    """Load a net as a worker does."""
    spec = describe(folder).preprocessing
    return load_net(folder, engine=engine, scaling=PixelScaling(spec.mean, spec.std))


if __name__ == "__main__":
    net_folder, pictures, name = sys.argv[1:]
    serve(lambda: OurEngine(Path(net_folder), name), Path(pictures) / PIXELS)
