"""Pictures -> the crops that a quantizer is calibrated on: a fixed set for a seed.

Each picture once as the runtime itself would crop it, then random parts of them, half mirrored, with other light and
colour, until there are enough. More photographs help a little, more crops hardly (QUANTIZE.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagequeue_worker.caffe2.quantize import InvalidCalibration
from imagequeue_worker.errors import ImageError
from imagequeue_worker.images import Preprocessing, decode, resize_and_crop

Pixels = NDArray[np.uint8]

CROPS: Final = 64
_AREA: Final = (0.15, 1.0)  # share of the picture
_ASPECT: Final = (3 / 4, 4 / 3)
_LIGHT: Final = (0.6, 1.4)  # brightness, contrast, saturation
_GREY: Final = np.array([0.114, 0.587, 0.299], np.float32)  # of B, G, R


@dataclass(frozen=True)
class Calibration:
    """Crops, uint8 [N, crop, crop, 3] in the net's channel order, and the files that they come from."""

    crops: Pixels
    sources: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Of the crops' bytes."""
        return hashlib.sha256(self.crops.tobytes()).hexdigest()


def pictures_below(folder: Path) -> list[Path]:
    """All files below a folder, in the order of their names.

    Raises InvalidCalibration when there are none.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    if not files:
        raise InvalidCalibration(f"{folder} holds no files; must hold some photographs; name another --calibrate")
    return files


def make_crops(paths: Sequence[Path], spec: Preprocessing, *, count: int = CROPS, seed: int = 0) -> Calibration:
    """Make `count` crops of pictures; files that are none are passed over. `count` of more pictures are chosen by seed.

    Raises InvalidCalibration when no file is a picture.
    """
    rng = np.random.default_rng([seed, 0xCA11B])
    order = rng.permutation(len(paths)) if len(paths) > count else np.arange(len(paths))
    pictures: list[Pixels] = []
    sources: list[str] = []
    for path in (paths[number] for number in order):
        if len(pictures) == count:
            break
        try:
            pictures.append(_shrunk(decode(path.read_bytes()), 3 * spec.crop))
        except (ImageError, OSError):
            continue
        sources.append(path.name)
    if not pictures:
        raise InvalidCalibration(
            f"none of {len(paths)} files beside {paths[0].name if paths else 'nothing'} is a picture; "
            "must be photographs like those that the net will see; name another --calibrate"
        )
    crops = [resize_and_crop(picture, spec.resize, spec.crop) for picture in pictures]
    crops += [_random_crop(pictures[i % len(pictures)], spec.crop, rng) for i in range(count - len(crops))]
    stacked = np.stack(crops)
    ordered = stacked if spec.channel_order == "BGR" else np.ascontiguousarray(stacked[..., ::-1])
    return Calibration(ordered, tuple(sources))


def _shrunk(picture: Pixels, short: int) -> Pixels:
    """Keep a large picture's memory small: every n-th pixel of it, its shorter side at least `short`."""
    step = max(1, min(picture.shape[:2]) // short)
    return picture if step == 1 else np.ascontiguousarray(picture[::step, ::step])


def _random_crop(picture: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    height, width = picture.shape[:2]
    area, aspect = rng.uniform(*_AREA) * height * width, np.exp(rng.uniform(*np.log(_ASPECT)))
    rows = int(np.clip(round(np.sqrt(area / aspect)), 1, height))
    columns = int(np.clip(round(np.sqrt(area * aspect)), 1, width))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    crop = resize_and_crop(np.ascontiguousarray(picture[top : top + rows, left : left + columns]), size, size)
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    return _relit(crop, *rng.uniform(*_LIGHT, 3))


def _relit(crop: Pixels, brightness: float, contrast: float, saturation: float) -> Pixels:
    """Change brightness, then contrast about the mean grey, then saturation about each pixel's grey."""
    light = np.clip(crop.astype(np.float32) * np.float32(brightness), 0, 255)
    mean = (light @ _GREY).mean(dtype=np.float64)
    light = np.clip(mean + (light - mean) * contrast, 0, 255).astype(np.float32)
    grey = (light @ _GREY)[..., np.newaxis]
    return np.asarray(np.clip(np.rint(grey + (light - grey) * np.float32(saturation)), 0, 255), np.uint8)
