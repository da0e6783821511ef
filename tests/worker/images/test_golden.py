"""Against pixels that OpenCV 5 computed once, and against OpenCV here, on 200 ImageNet pictures."""

import csv
import os
from pathlib import Path

import numpy as np
import oracle
import pytest

from imagequeue_worker.images import preprocess

ROOT = os.environ.get("IMAGEQUEUE_TEST_DATA")
pytestmark = pytest.mark.skipif(ROOT is None, reason="IMAGEQUEUE_TEST_DATA names no folder with golden data")


def pictures():
    folder = Path(ROOT) / "images"
    with (folder / "labels.csv").open(newline="") as file:
        return [(int(row["index"]), (folder / row["file"]).read_bytes()) for row in csv.DictReader(file)]


def test_golden_crops_are_equal_byte_for_byte(record_property):
    with np.load(Path(ROOT) / "golden/net/mobilenet_v2.npz") as golden:
        crops = dict(zip(golden["crop_index"].tolist(), golden["crops"], strict=True))
    differing = [index for index, data in pictures() if index in crops and (preprocess(data) != crops[index]).any()]
    record_property("golden:crops", [len(crops), len(differing)])
    assert len(crops) == 40
    assert differing == []


def test_all_pictures_equal_opencv_byte_for_byte(record_property):
    files = pictures()
    differing = [
        index for index, data in files if oracle.differing_bytes(preprocess(data), oracle.crop(oracle.decode(data)))
    ]
    record_property("golden:pictures", [len(files), len(differing)])
    assert len(files) == 200
    assert differing == []
