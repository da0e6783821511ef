"""What every peer's worker holds: OpenCV makes pixels of a file, ONNX Runtime or OpenVINO runs the net, one thread.

The models were made by `model_files.py`, in the form that is fastest on this machine; they are compiled for batches of
1 and of 8, and more pictures than that are run in such pieces.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from far_end import setup

SIZES = (8, 1)
Run = Callable[[np.ndarray], np.ndarray]

cv2.setNumThreads(1)


@cache
def classifier() -> Classifier:
    """This process's net, loaded once and run once."""
    return Classifier(Path(setup()["model"]), setup()["runtime"], SIZES if setup().get("batches") else SIZES[-1:])


class Classifier:
    """Files in, best classes out."""

    def __init__(self, folder: Path, runtime: str, sizes: Sequence[int]) -> None:
        spec = json.loads((folder / "preprocessing.json").read_text())
        self._resize, self._crop = spec["resize"], spec["crop"]
        self._rgb = spec["channel_order"] == "RGB"
        self._table = _table(spec["mean"], spec["std"])
        compile_net = {"onnxruntime": _onnxruntime, "openvino": _openvino}[runtime]
        self._runs = {size: compile_net(folder / f"{runtime}-{size}.onnx", size) for size in sizes}
        for size, run in self._runs.items():
            run(np.zeros((size, 3, self._crop, self._crop), np.float32))

    def best_classes(self, files: Sequence[str]) -> list[int]:
        """The best class of each file's picture."""
        found: list[int] = []
        while len(found) < len(files):
            size = next(size for size in self._runs if size <= len(files) - len(found))
            batch = np.stack([self._pixels(file) for file in files[len(found) : len(found) + size]])
            found += self._runs[size](batch).argmax(axis=1).tolist()
        return found

    def _pixels(self, file: str) -> np.ndarray:
        """float32 [3, crop, crop]."""
        picture = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
        height, width = picture.shape[:2]
        factor = self._resize / min(height, width)
        size = (max(self._resize, int(width * factor)), max(self._resize, int(height * factor)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        top, left = (size[1] - self._crop) // 2, (size[0] - self._crop) // 2
        crop = picture[top : top + self._crop, left : left + self._crop, :: -1 if self._rgb else 1]
        return cv2.LUT(np.ascontiguousarray(crop), self._table).transpose(2, 0, 1)


def _table(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Mean and deviation of every byte, float32 [1, 256, 3]."""
    values = np.arange(256, dtype=np.float32)[:, np.newaxis]
    table = (values - 255 * np.array(mean, np.float32)) / (255 * np.array(std, np.float32))
    return np.ascontiguousarray(table[np.newaxis], np.float32)


def _onnxruntime(model: Path, size: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_free_dimension_override_by_name("N", size)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (name,) = (one.name for one in session.get_inputs())
    return lambda batch: session.run(None, {name: batch})[0]


def _openvino(model: Path, size: int) -> Run:
    import openvino

    core = openvino.Core()
    net = core.read_model(model)
    net.reshape([size, *(side.get_length() for side in list(net.input().partial_shape)[1:])])
    options = {
        "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False,
    }  # fmt: skip
    request = core.compile_model(net, "CPU", options).create_infer_request()
    return lambda batch: request.infer([batch], share_inputs=True, share_outputs=True)[0]
