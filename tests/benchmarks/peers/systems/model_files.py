"""Writes a net as ONNX files for the peers' workers: `model_files.py NET_FOLDER PIXELS.npy OUT_FOLDER`.

For each runtime and batch size the form that is fastest on this machine (see `to_onnx.py`); what was chosen and its
milliseconds per image go to `forms.json`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, cast

sys.path[:0] = [str(Path(__file__).parents[1])]

import numpy as np  # noqa: E402
from classifier import SIZES  # noqa: E402
from onnxruntime_peer import OnnxRuntime  # noqa: E402
from openvino_peer import OpenVino  # noqa: E402
from to_onnx import Form, Weights, to_onnx  # noqa: E402


def main() -> None:
    net, pixels, out = map(Path, sys.argv[1:])
    images = np.load(pixels)
    chosen: dict[str, Any] = {}
    for name, runtime in (("onnxruntime", OnnxRuntime(net)), ("openvino", OpenVino(net))):
        for size in SIZES:
            batch = np.ascontiguousarray(np.resize(images, (size, *images.shape[1:])))
            form = runtime.prepare(batch)[1]
            named = re.match(r"(?:(\w+), )?(\w+) weights", form["form"])
            assert named is not None, form
            model = to_onnx(runtime.graph, images.shape[1:], cast("Form", named[1]), cast("Weights", named[2]))
            (out / f"{name}-{size}.onnx").write_bytes(model)
            best_ms, version = min(form["tried_ms_per_image"].values()), runtime.about()["version"]
            chosen[f"{name}-{size}"] = {"form": form["form"], "ms": best_ms, "version": version}
    (out / "forms.json").write_text(json.dumps(chosen))


if __name__ == "__main__":
    main()
