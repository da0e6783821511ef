"""Which source pixels an output pixel is made of, and their weights: OpenCV's coordinate rules, per axis.

PIXELS.md section 2 is the source of every rule here. All coordinates are computed in double; weights are
rounded to float32 (area) or to 11 bits (linear) once.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_FIXED_ONE = 2048  # OpenCV's INTER_RESIZE_COEF_SCALE
_WEIGHT_MIN = 1e-3  # a tap at the edge of the window that covers less than this is left out


class Window(NamedTuple):
    """The outputs that the crop keeps of one axis: `first` … `first + size - 1` of `dst`, made from `src`."""

    src: int
    dst: int
    first: int
    size: int

    @property
    def scale(self) -> float:
        """Source pixels per output pixel. Both roundings matter: never `src / dst`."""
        return 1.0 / (self.dst / self.src)

    @property
    def sources(self) -> tuple[int, int]:
        """The first source pixel that the outputs are made of and the one after the last, or a few more."""
        first, end = self.first * self.scale, (self.first + self.size) * self.scale
        return max(0, math.floor(first) - 1), min(self.src, math.floor(end) + 3)


class AreaTaps(NamedTuple):
    """Output i is the sum over k of `source[start[i] + k] * weight[k, i]`, added in the order of k."""

    start: NDArray[np.intp]
    weight: NDArray[np.float32]  # [taps, size]; 0 where an output has fewer taps


class LinearTaps(NamedTuple):
    """Output i mixes the sources `low[i]` and `high[i]` with integer weights of 11 bits."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    weight: NDArray[np.int32]  # [2, size]


@lru_cache(maxsize=64)
def area_taps(window: Window) -> AreaTaps:
    """The weighted windows of INTER_AREA when shrinking (scale >= 1)."""
    src, _, first, size = window
    scale = window.scale
    begin = np.arange(first, first + size, dtype=np.float64) * scale
    end = begin + scale
    cell = np.minimum(scale, src - begin)
    last = np.minimum(np.floor(end), src - 1)
    whole = np.minimum(np.ceil(begin), last)  # the first source that is covered entirely
    head = whole - begin > _WEIGHT_MIN
    tail = end - last > _WEIGHT_MIN

    start = whole - head
    taps = int((last - start + tail).max())
    source = start + np.arange(taps)[:, np.newaxis]  # [taps, size]
    weight = np.where(source < last, 1.0 / cell, 0.0)
    weight = np.where(source == last, np.where(tail, np.minimum(np.minimum(end - last, 1.0), cell) / cell, 0.0), weight)
    weight = np.where(source < whole, (whole - begin) / cell, weight)
    return AreaTaps(start.astype(np.intp), weight.astype(np.float32))


@lru_cache(maxsize=64)
def linear_taps(window: Window, *, vertical: bool) -> LinearTaps:
    """The pairs of INTER_AREA when enlarging: INTER_LINEAR's arithmetic with a coordinate rule of its own."""
    src, dst, first, size = window
    inverse = dst / src
    index = np.arange(first, first + size, dtype=np.float64)
    low = np.floor(index * window.scale)
    fraction = ((index + 1) - (low + 1) * inverse).astype(np.float32)
    fraction = np.where(fraction <= 0, np.float32(0), fraction - np.floor(fraction))
    if not vertical:  # rows keep their fraction beyond the last row, columns do not
        fraction = np.where(low >= src - 1, np.float32(0), fraction)
    low = np.minimum(low, src - 1)
    high = np.minimum(low + 1, src - 1)
    weight = np.rint(np.stack([np.float32(1) - fraction, fraction]) * np.float32(_FIXED_ONE))
    return LinearTaps(low.astype(np.intp), high.astype(np.intp), weight.astype(np.int32))
