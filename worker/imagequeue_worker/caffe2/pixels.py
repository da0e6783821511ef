"""From pixels to a net's input: mean and deviation, and their fusion with Int8Quantize into a table."""

import math
from dataclasses import dataclass

import numpy as np

from .errors import InvalidInput
from .operators.quantize import quantize
from .tensor import Array


@dataclass(frozen=True, slots=True)
class PixelScaling:
    """What Caffe2's ImageInput does to a byte, in float32: `(pixel - 255 * mean) * (1 / (255 * std))`.

    Attributes:
        mean: For each channel, in the net's own channel order, 0…1.
        std: For each channel, positive.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.mean) == len(self.std) <= 16:
            raise InvalidInput(f"mean has {len(self.mean)} channels, std {len(self.std)}; must be as many, 1 to 16")
        if not all(math.isfinite(m) for m in self.mean) or not all(s > 0 and math.isfinite(s) for s in self.std):
            raise InvalidInput(f"mean is {self.mean}, std {self.std}; must be finite, and std positive")

    def apply(self, pixels: Array) -> Array:
        """Scale pixels; uint8 [..., C] to float32 [..., C]."""
        mean = np.array(self.mean, np.float32) * np.float32(255)
        factor = np.array([1 / (255 * s) for s in self.std], np.float32)
        return (pixels.astype(np.float32) - mean) * factor

    def table(self, scale: float, zero_point: int) -> Array:
        """Tabulate scaling and quantization of every byte: uint8 [C, 256]."""
        every = np.repeat(np.arange(256, dtype=np.uint8)[:, np.newaxis], len(self.mean), axis=1)
        table = np.ascontiguousarray(quantize(self.apply(every), scale, zero_point).T)
        table.flags.writeable = False
        return table


# The Caffe2 model zoo's nets: blue, green, red. Measured: with red first, top-1 falls from 85 % to 67 %.
ZOO_SCALING = PixelScaling(mean=(0.406, 0.456, 0.485), std=(0.225, 0.224, 0.229))


def look_up(table: Array, pixels: Array) -> Array:
    """Map uint8 [..., C] through a table [C, 256]."""
    out = np.empty_like(pixels)
    for channel, row in enumerate(table):
        out[..., channel] = row[pixels[..., channel]]
    return out
