"""Reads operator cases: real Caffe2's answers, one file for each operator and set.

Each tensor is a dict: `kind` ("int8", "int32", "float" …), `data`, and where quantized `scale`, `zero_point`.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from imagequeue_worker.caffe2 import QTensor
from imagequeue_worker.caffe2.tensor import Array

OWN_CASES = Path(__file__).parent / "cases"
# The folder that holds golden/, images/ and models/; not part of the repository.
TEST_DATA = Path(os.environ["IMAGEQUEUE_TEST_DATA"]) if os.environ.get("IMAGEQUEUE_TEST_DATA") else None

Case = tuple[str, dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]


def case_files() -> list[Path]:
    """List the files of the repository, and those of the test data where they are."""
    folders = [OWN_CASES, *([TEST_DATA / "golden" / "ops"] if TEST_DATA else [])]
    return [path for folder in folders for path in sorted(folder.rglob("*.npz"))]


def cases(path: Path) -> Iterator[Case]:
    """Yield operator type, arguments, inputs and outputs."""
    with np.load(path) as arrays:
        meta = json.loads(arrays["meta"].tobytes())
        for number, case in enumerate(meta["cases"]):
            args = {
                name: arrays[value["array"]].tobytes() if isinstance(value, dict) else value
                for name, value in case["args"].items()
            }
            inputs, outputs = (
                [dict(t, data=arrays[f"{number}.{side}.{i}"]) for i, t in enumerate(case[side + "s"])]
                for side in ("input", "output")
            )
            yield meta["op_type"], args, inputs, outputs


def tensor(case: dict[str, Any]) -> QTensor | Array:
    """Make a tensor of a case's dict."""
    if case["kind"] in ("int8", "int32"):
        return QTensor(case["data"], case["scale"], case["zero_point"])
    data: Array = case["data"]
    return data


def differing(got: QTensor | Array, wanted: dict[str, Any]) -> int:
    """Count the elements that differ; all of them if shape, type or quantization do."""
    data = got.data if isinstance(got, QTensor) else got
    size = max(1, wanted["data"].size)
    if isinstance(got, QTensor) and (got.scale, got.zero_point) != (wanted["scale"], wanted["zero_point"]):
        return size
    if data.shape != wanted["data"].shape or data.dtype != wanted["data"].dtype:
        return size
    return int((data != wanted["data"]).sum())
