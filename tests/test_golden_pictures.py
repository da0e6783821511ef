"""From a photograph's bytes to Caffe2's probabilities: our pixels and our net against real Caffe2's answers."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imagequeue_worker.images import preprocess
from imagequeue_worker.nets import load_nets
from imagequeue_worker.settings import NetChoice

DATA = os.environ.get("IMAGEQUEUE_TEST_DATA", "")
NET = Path(DATA) / "models" / "mobilenet_v2_1.0_224_quant"

pytestmark = pytest.mark.skipif(not DATA, reason="IMAGEQUEUE_TEST_DATA names no folder with golden data")


def test_every_probability_of_every_picture_is_caffe2s(record_property: Callable[[str, object], None]) -> None:
    golden = np.load(Path(DATA) / "golden" / "net" / "mobilenet_v2.npz")
    with (Path(DATA) / "images" / "labels.csv").open() as file:
        pictures = list(csv.DictReader(file))
    assert [int(row["index"]) for row in pictures] == golden["index"].tolist()
    net = load_nets([NetChoice(NET)], "auto").first
    probabilities = np.concatenate(
        [net.probabilities(preprocess((Path(DATA) / "images" / row["file"]).read_bytes())[None]) for row in pictures]
    )
    differing = int(np.count_nonzero(probabilities * np.float32(256) != golden["softmax_u8"]))
    record_property("golden:picture probabilities", [probabilities.size, differing])
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    top1 = np.mean(best[:, 0] == golden["index"])
    top5 = np.mean(np.any(best == golden["index"][:, None], axis=1))
    record_property("golden_accuracy", f"top-1 {top1:.1%}, top-5 {top5:.1%} of {len(pictures)} pictures")
    assert differing == 0
    assert top1 == 0.84  # real Caffe2's, by NUMERICS.md
