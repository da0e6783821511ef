"""Int8ResizeNearest: repeats or drops rows and columns."""

import math
from collections.abc import Sequence

import numpy as np

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.geometry import MAX_ELEMENTS, check_size, picture
from imagequeue_worker.caffe2.tensor import Array, TensorSpec

from .base import Operator, Scratch


class Int8ResizeNearest(Operator):
    """Input: X uint8 [N, H, W, C]. Output: uint8 [N, H * height_scale, W * width_scale, C].

    Sizes are rounded down. Row y shows row int(y / height_scale), in float32, as in Caffe2.
    """

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.inputs(inputs, "int8")
        (x,) = inputs
        args.same_quantization(x)
        batch, height, width, channels = picture(args, x)
        self.rows = _source(args, "height_scale", height)
        self.columns = _source(args, "width_scale", width)
        shape = check_size(args, (batch, len(self.rows), len(self.columns), channels))
        self.outputs = (TensorSpec("int8", shape, x.scale, x.zero_point),)

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Pick."""
        return (np.ascontiguousarray(inputs[0][:, self.rows][:, :, self.columns]),)


def _source(args: Arguments, name: str, size: int) -> Array:
    scale = np.float32(args.number(name, 1.0))
    args.require(bool(scale > 0) and math.isfinite(scale), f"{name} is {scale}; must be finite and positive")
    with np.errstate(over="ignore"):
        target = float(np.float32(size) * scale)
    args.require(target <= MAX_ELEMENTS, f"{name} is {scale}: {target:.4g} pixels; the limit is {MAX_ELEMENTS:,}")
    steps = np.arange(int(target)).astype(np.float32) / scale
    return np.minimum(steps.astype(np.int64), size - 1)


OPERATORS = {"Int8ResizeNearest": Int8ResizeNearest}
