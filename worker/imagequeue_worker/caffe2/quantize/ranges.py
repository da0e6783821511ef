"""Steps 3 to 6, 10 and 11: which real numbers 0 and 255 stand for, in each tensor."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from imagequeue_worker.caffe2.pixels import PixelScaling
from imagequeue_worker.caffe2.tensor import Array

from .layers import CAPS, Clip

# What is cut off below the largest logit has a probability of e^-16 at most.
LOGIT_SPAN = 16.0
# Where everything is 0. Products of two such scales are still float32 values that Caffe2 takes.
LEAST_SCALE = 2.0**-20
WEIGHT_FACTORS = np.linspace(1.0, 0.5, 26)
ACTIVATION_FACTORS = np.linspace(1.0, 0.4, 31)
# Squared errors are compared on so many values at most, spread evenly.
COMPARED = 1 << 17


@dataclass(frozen=True, slots=True)
class Quantization:
    """Real value = (byte - zero_point) * scale; the scale is a float32 value."""

    scale: float
    zero_point: int

    @property
    def low(self) -> float:
        """What byte 0 stands for."""
        return -self.zero_point * self.scale

    @property
    def high(self) -> float:
        """What byte 255 stands for."""
        return (255 - self.zero_point) * self.scale

    def steps(self, values: Array) -> Array:
        """Round to nearest; float64 in 0 ... 255."""
        return np.asarray(np.clip(np.rint(values / self.scale) + self.zero_point, 0, 255))

    def squared_error(self, values: Array) -> float:
        """The sum of the squared rounding errors."""
        return float(np.square((self.steps(values) - self.zero_point) * self.scale - values).sum())


def quantization_of(low: float, high: float) -> Quantization:
    """Make scale and zero point of a range, widened to include 0, which gets a byte of its own."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(max((high - low) / 255, LEAST_SCALE)))
    return Quantization(scale, int(np.clip(round(-low / scale), 0, 255)))


def input_quantization(scaling: PixelScaling) -> Quantization:
    """Make Int8Quantize exact where one step can be one pixel value; else cover what all 256 values become."""
    centre = {round(255 * mean, 4) for mean in scaling.mean}
    if len(set(scaling.std)) == len(centre) == 1 and (zero_point := centre.pop()).is_integer():
        return Quantization(float(np.float32(1 / (255 * scaling.std[0]))), int(zero_point))
    every = np.repeat(np.arange(256, dtype=np.uint8)[:, np.newaxis], len(scaling.mean), axis=1)
    values = scaling.apply(every)
    return quantization_of(float(values.min()), float(values.max()))


def activation_quantization(sample: Array, low: float, high: float, clip: Clip) -> Quantization:
    """Find the range of a blob: its extremes, or both shrunk towards 0 as far as the squared error falls.

    Args:
        sample: Some of its values, any shape.
        low: Its least value.
        high: Its largest value.
        clip: After ReLU6 nothing exceeds 6: saturation at 255 is then the cap.
    """
    low, high = (0.0, min(high, CAPS[clip])) if clip != "none" else (low, high)
    return _least_error(sample, [(low * f, high * f) for f in ACTIVATION_FACTORS])


def weight_quantization(weights: Array) -> Quantization:
    """Find the range of weights: of shrunk lower, upper or both ends the one with the least squared error."""
    low, high = float(weights.min()), float(weights.max())
    candidates = [(low * f, high * f) for f in WEIGHT_FACTORS]
    candidates += [(low * f, high) for f in WEIGHT_FACTORS[1:]] + [(low, high * f) for f in WEIGHT_FACTORS[1:]]
    return _least_error(weights, candidates)


def average_quantization(low: float, high: float) -> Quantization:
    """Cover averages, a tenth more than the teacher's: they stay far below their input's range."""
    return quantization_of(1.1 * low, 1.1 * high)


def logit_quantization(low: float, high: float) -> Quantization:
    """Cover the logits that matter: 5 % above the largest seen, and 16 below it."""
    return quantization_of(max(low, high - LOGIT_SPAN), high + 0.05 * abs(high))


def _least_error(values: Array, candidates: Iterable[tuple[float, float]]) -> Quantization:
    """Choose the range with the least squared error; the first of equals, so the widest."""
    flat = values.ravel()
    stride = max(1, len(flat) // COMPARED)
    while math.gcd(stride, len(flat)) > 1:  # else it would see some channels only
        stride += 1
    flat = flat[::stride].astype(np.float64)
    return min((quantization_of(low, high) for low, high in candidates), key=lambda q: q.squared_error(flat))
