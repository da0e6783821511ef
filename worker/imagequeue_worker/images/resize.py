"""Resize and centre crop, equal byte for byte to OpenCV's INTER_AREA.

In C++ where the library is there (worker/native/resize.cpp), otherwise in numpy, which is below: the same, rule by
rule. Only what the crop needs is computed. PIXELS.md section 2 is the law: which of the five cases applies to a size,
and each case's arithmetic. Channels are independent, so their order does not matter here.

Every product and every sum below is rounded to float32 once: numpy never contracts them to an FMA, as each
is an operation of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imagequeue_worker.images.native_resize import native_resize
from imagequeue_worker.images.taps import Window, area_taps, linear_taps

Pixels = NDArray[np.uint8]

_EPSILON = float(np.finfo(np.float64).eps)  # OpenCV's DBL_EPSILON
_BLOCK_ROWS = 64  # source rows; 64 x 672 float32 are 172 kB


def resized_size(height: int, width: int, short: int) -> tuple[int, int]:
    """(height, width) as ImageInput scales: the shorter side becomes `short`; the longer goes by float32."""
    if width >= height:
        return short, _scaled(width, height, short)
    return _scaled(height, width, short), short


def _scaled(long: int, over: int, short: int) -> int:
    return int(np.float32(long) * np.float32(short) / np.float32(over))


def windows(height: int, width: int, resize: int, crop: int) -> tuple[Window, Window]:
    """The rows and the columns of a resized picture that its centre crop keeps."""
    new_height, new_width = resized_size(height, width, resize)
    rows = Window(height, new_height, (new_height - crop) // 2, crop)
    return rows, Window(width, new_width, (new_width - crop) // 2, crop)


def resize_and_crop(pixels: Pixels, resize: int, crop: int) -> Pixels:
    """Scale a picture so that its shorter side is `resize`, and cut out the centre.

    uint8 `[height, width, 3]` -> uint8 `[crop, crop, 3]`, a new array and never a view. Needs sides of at
    least one pixel, and `crop <= resize`.
    """
    height, width = pixels.shape[:2]
    rows, columns = windows(height, width, resize, crop)
    return (native_resize() or resize_in_numpy)(pixels, rows, columns)


def resize_in_numpy(pixels: Pixels, rows: Window, columns: Window) -> Pixels:
    """The outputs of `rows` and `columns`, uint8 `[rows.size, columns.size, 3]`, without the library."""
    if (rows.src, columns.src) == (rows.dst, columns.dst):
        return _copy(pixels, rows, columns)
    if rows.scale < 1 or columns.scale < 1:
        return _linear(pixels, rows, columns)
    factors = round(rows.scale), round(columns.scale)
    if abs(rows.scale - factors[0]) < _EPSILON and abs(columns.scale - factors[1]) < _EPSILON:
        return _box(pixels, rows, columns, factors)
    return _area(pixels, rows, columns)


def _copy(pixels: Pixels, rows: Window, columns: Window) -> Pixels:
    return pixels[rows.first : rows.first + rows.size, columns.first : columns.first + columns.size].copy()


def _box(pixels: Pixels, rows: Window, columns: Window, factors: tuple[int, int]) -> Pixels:
    """Shrink by whole numbers: integer sums of boxes, rounded once."""
    down, across = factors
    top, left = rows.first * down, columns.first * across
    part = pixels[top : top + rows.size * down, left : left + columns.size * across]
    bands = part[0::down].astype(np.uint32)
    for row in range(1, down):
        bands += part[row::down]
    boxes: NDArray[np.uint32] = bands[:, 0::across].copy()
    for column in range(1, across):
        boxes += bands[:, column::across]
    if factors == (2, 2):
        boxes += 2
        boxes >>= 2
        return boxes.astype(np.uint8)  # half up, where every other case rounds half to even
    mean = boxes.astype(np.float32)
    mean *= np.float32(1) / np.float32(down * across)
    np.rint(mean, out=mean)
    return mean.astype(np.uint8)


def _area(pixels: Pixels, rows: Window, columns: Window) -> Pixels:
    """Shrink by anything else: weighted float32 sums, along rows first, in the order of the taps.

    A few output rows at a time, so that all of it stays in the L2 cache and no large block of memory is asked
    for: page faults would cost more than the arithmetic. Source rows between two blocks are summed twice.
    """
    down, across = area_taps(rows), area_taps(columns)
    # The interleaved channels of a tap are gathered together.
    gather = [_each_channel(np.minimum(across.start + tap, columns.src - 1)) for tap in range(len(across.weight))]
    spread = [np.repeat(weight, 3) for weight in across.weight]

    out = np.empty((rows.size, columns.size * 3), np.uint8)
    step = max(1, int(_BLOCK_ROWS / rows.scale))
    for first in range(0, rows.size, step):
        block = slice(first, first + step)
        start, weights = down.start[block], down.weight[:, block]
        top, bottom = int(start[0]), min(int(start[-1]) + len(weights), rows.src)
        lines = _weighted(_flat(pixels[top:bottom]), gather, spread, axis=1)
        # Padding taps may point below the last row; their weight is 0, so any row will do.
        sources = [np.minimum(start - top + tap, bottom - top - 1) for tap in range(len(weights))]
        total = _weighted(lines, sources, list(weights[:, :, np.newaxis]), axis=0)
        np.rint(total, out=total)
        np.minimum(total, 255, out=total)  # weights may add up to a little more than 1
        out[block] = total
    return out.reshape(rows.size, columns.size, 3)


def _each_channel(source: NDArray[np.intp]) -> NDArray[np.intp]:
    return (source[:, np.newaxis] * 3 + np.arange(3)).reshape(-1)


def _flat(lines: Pixels) -> Pixels:
    return np.ascontiguousarray(lines).reshape(len(lines), -1)


def _weighted(
    values: NDArray[np.generic],
    sources: list[NDArray[np.intp]],
    weights: list[NDArray[np.float32]],
    axis: int,
) -> NDArray[np.float32]:
    """The sum over the taps of the values at `sources` times `weights`, each product and sum rounded once."""
    total: NDArray[np.float32] = np.multiply(values.take(sources[0], axis, mode="clip"), weights[0])
    term = np.empty_like(total)
    for source, weight in zip(sources[1:], weights[1:], strict=True):
        np.multiply(values.take(source, axis, mode="clip"), weight, out=term)
        total += term
    return total


def _linear(pixels: Pixels, rows: Window, columns: Window) -> Pixels:
    """Enlarge: bilinear in fixed point, each product truncated on its own."""
    down, across = linear_taps(rows, vertical=True), linear_taps(columns, vertical=False)
    top, bottom = int(down.low[0]), int(down.high[-1]) + 1
    lines = pixels[top:bottom]
    wide = lines[:, across.low] * across.weight[0][:, np.newaxis]  # int32 [n, outputs, 3]
    wide += lines[:, across.high] * across.weight[1][:, np.newaxis]
    wide >>= 4
    upper = (wide[down.low - top] * down.weight[0][:, np.newaxis, np.newaxis]) >> 16
    lower = (wide[down.high - top] * down.weight[1][:, np.newaxis, np.newaxis]) >> 16
    mixed: Pixels = ((upper + lower + 2) >> 2).astype(np.uint8)
    return mixed
