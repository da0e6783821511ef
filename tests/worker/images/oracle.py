"""What OpenCV computes: the reference for the pixel path, imported by tests only."""

import os

os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # read when cv2 is imported

import cv2
import numpy as np


def decode(data):
    """The picture as OpenCV's IMREAD_COLOR has it, or None."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def crop(pixels, resize=256, crop=224):
    """The canonical rule: Caffe2's ImageInput on a decoded picture (DESIGN.md section 5)."""
    height, width = pixels.shape[:2]
    short, long = min(height, width), max(height, width)
    scaled = int(np.float32(np.float32(long) * np.float32(resize)) / np.float32(short))
    size = (scaled, resize) if width >= height else (resize, scaled)
    resized = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    top, left = (size[1] - crop) // 2, (size[0] - crop) // 2
    return resized[top : top + crop, left : left + crop]


def differing_bytes(mine, reference):
    """How many bytes differ; all of them when the shapes do."""
    return int((mine != reference).sum()) if mine.shape == reference.shape else max(mine.size, reference.size)
