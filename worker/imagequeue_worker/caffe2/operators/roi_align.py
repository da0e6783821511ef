"""Int8RoIAlign: bilinear samples of regions, averaged; Caffe2 requantizes this one with gemmlowp.

Coordinates are float32 throughout, weights are rounded to bytes, sums are integers: all as in Caffe2's
source.
"""

from collections.abc import Sequence

import numpy as np

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.geometry import check_size, picture
from imagequeue_worker.caffe2.requantize import gemmlowp_multiply
from imagequeue_worker.caffe2.tensor import Array, TensorSpec

from .base import Operator, Scratch

# Samples in one direction of one bin; a region of a whole picture has as many as the picture has pixels.
MAX_GRID = 512


class Int8RoIAlign(Operator):
    """Inputs: X uint8 [N, H, W, C]; R float32 [R, 4] (x1, y1, x2, y2) or [R, 5] (image first).

    Output: uint8 [R, pooled_h, pooled_w, C].
    """

    rowwise = False

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.order()
        args.inputs(inputs, "int8", "float")
        x, rois = inputs
        self.args = args
        channels = picture(args, x)[3]
        self.x_scale, self.zero_point = x.scale, x.zero_point
        self.spatial_scale = np.float32(args.number("spatial_scale", 1.0))
        self.pooled = (args.integer("pooled_h", 1), args.integer("pooled_w", 1))
        # Caffe2's default of -1 fails its own check: the argument is required in effect; 0 means adaptive.
        self.sampling = args.integer("sampling_ratio", 0)
        args.require(bool(self.spatial_scale > 0), f"spatial_scale is {self.spatial_scale}; must be positive")
        args.require(min(self.pooled) > 0, f"pooled_h, pooled_w are {list(self.pooled)}; must be positive")
        args.require(0 <= self.sampling <= MAX_GRID, f"sampling_ratio is {self.sampling}; must be 0 to {MAX_GRID}")
        args.require(
            len(rois.shape) == 2 and rois.shape[1] in (4, 5),
            f"regions have shape {list(rois.shape)}; must be [R, 4] or [R, 5]",
        )
        self.y_scale, self.y_zero_point = args.output_quantization()
        shape = check_size(args, (rois.shape[0], *self.pooled, channels))
        self.outputs = (TensorSpec("int8", shape, self.y_scale, self.y_zero_point),)

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Pool one region after the other."""
        x, rois = inputs
        out = np.empty((len(rois), *self.pooled, x.shape[3]), np.uint8)
        for roi, result in zip(rois, out, strict=True):
            result[...] = self._pool(x, roi)
        return (out,)

    def _pool(self, x: Array, roi: Array) -> Array:
        self.args.require(bool(np.isfinite(roi).all()), f"region {roi.tolist()} is not finite")
        image = int(roi[0]) if len(roi) == 5 else 0
        self.args.require(0 <= image < len(x), f"region {roi.tolist()} names image {image} of {len(x)}")
        left, top, right, bottom = (np.float32(side) for side in roi[-4:] * self.spatial_scale)
        one = np.float32(1)
        rows = self._axis(top, max(bottom - top, one), self.pooled[0], x.shape[1])
        columns = self._axis(left, max(right - left, one), self.pooled[1], x.shape[2])
        count = rows[0].shape[1] * columns[0].shape[1]
        multiplier = self.x_scale / (self.y_scale * 255.0 * count)
        self.args.require(0 < multiplier < 1, f"the rescaling factor is {multiplier:.6g}; must be below 1")
        acc = _sample(x[image].astype(np.int64), rows, columns) - count * 255 * self.zero_point
        steps = gemmlowp_multiply(acc, multiplier) + self.y_zero_point
        result: Array = np.clip(steps, 0, 255).astype(np.uint8)
        return result

    def _axis(self, start: np.float32, extent: np.float32, bins: int, size: int) -> tuple[Array, Array, Array, Array]:
        """Return inside, low, high, fraction of every sample [bins, grid] along one axis."""
        step = extent / np.float32(bins)
        grid = self.sampling or int(np.ceil(step))
        self.args.require(grid <= MAX_GRID, f"a region needs {grid} samples per bin; the limit is {MAX_GRID}")
        inner = (np.arange(grid, dtype=np.float32) + np.float32(0.5)) * step / np.float32(grid)
        place = (start + np.arange(bins, dtype=np.float32) * step)[:, np.newaxis] + inner
        inside = (place >= -1.0) & (place <= size)
        place = np.maximum(place, np.float32(0))
        low = np.where(inside, place, 0).astype(np.int64)
        at_end = low >= size - 1
        low = np.where(at_end, size - 1, low)
        fraction = np.where(at_end, np.float32(0), place - low.astype(np.float32))
        return inside, low, np.where(at_end, low, low + 1), fraction.astype(np.float32)


def _sample(image: Array, rows: tuple[Array, ...], columns: tuple[Array, ...]) -> Array:
    """Sum the samples of each bin, weighted with bytes: int64 [bins_h, bins_w, C]."""
    inside_y, low_y, high_y, ly = (values[:, np.newaxis, :, np.newaxis] for values in rows)
    inside_x, low_x, high_x, lx = (values[np.newaxis, :, np.newaxis, :] for values in columns)
    one, full = np.float32(1), np.float32(255)
    inside = inside_y & inside_x
    total: Array = np.zeros((), np.int64)
    for y, wy in ((low_y, one - ly), (high_y, ly)):
        for x, wx in ((low_x, one - lx), (high_x, lx)):
            weights = np.where(inside, np.rint(wy * wx * full), 0).astype(np.int64)
            total = total + np.einsum("abij,abijc->abc", weights, image[y, x])
    return total


OPERATORS = {"Int8RoIAlign": Int8RoIAlign}
