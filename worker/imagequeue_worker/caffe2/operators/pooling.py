"""Int8AveragePool, Int8MaxPool and their Relu forms."""

from collections.abc import Callable, Sequence

import numpy as np

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.geometry import Window, check_size, picture, read_window
from imagequeue_worker.caffe2.requantize import average
from imagequeue_worker.caffe2.tensor import Array, TensorSpec

from .base import Operator, Scratch


def _pooling_window(args: Arguments, height: int, width: int) -> Window:
    if not args.integer("global_pooling", 0):
        window = read_window(args)
        args.require(window.taps > 1, "the kernel is 1x1; QNNPACK refuses that; leave the operator out")
        args.require(window.dilation == (1, 1), f"dilation is {list(window.dilation)}; must be 1 for pooling")
        return window
    geometry = ("pad", "stride", "dilation")
    names = [n for n in geometry if args.integer(n, int(n != "pad")) != int(n != "pad") or args.integers(n + "s")]
    args.require(not names, f"global_pooling is set together with {', '.join(names)}; leave those out")
    return Window((height, width))


def _slide(x: Array, window: Window, size: tuple[int, int], combine: Callable[..., Array]) -> Array:
    """Combine the values under each window of padded pictures [N, H, W, C], rows first, then columns."""
    for axis in (2, 1):
        stride, count = window.stride[axis - 1], size[axis - 1]
        total: Array | None = None
        for tap in range(window.kernel[axis - 1]):
            where: list[slice] = [slice(None)] * 4
            where[axis] = slice(tap, tap + (count - 1) * stride + 1, stride)
            part = x[tuple(where)]
            total = part.copy() if total is None else combine(total, part, out=total)
        if total is not None:
            x = total
    return x


class _Pooling(Operator):
    """Input: X uint8 [N, H, W, C]. Output: uint8 [N, H', W', C]."""

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.order()
        args.inputs(inputs, "int8")
        (x,) = inputs
        batch, height, width, channels = picture(args, x)
        self.window = _pooling_window(args, height, width)
        self.size = self.window.output(args, height, width)
        top, left, bottom, right = self.window.pads
        self.padding = ((0, 0), (top, bottom), (left, right), (0, 0))
        check_size(args, (batch, height + top + bottom, width + left + right, channels))
        self.whole = self.window == Window((height, width))
        self.shape = check_size(args, (batch, *self.size, channels))


class Int8AveragePool(_Pooling):
    """Mean under the window; padding counts as zeros. Rounded once, by `requantize.average`."""

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        super().__init__(inputs, args)
        (x,) = inputs
        y_scale, self.y_zero_point = args.output_quantization()
        self.minimum = self.y_zero_point if args.op_type.endswith("Relu") else 0
        with np.errstate(over="ignore", under="ignore"):
            ratio = float(np.float32(x.scale) / np.float32(y_scale))
        args.require(
            2.0**-8 <= ratio < 2.0**8,
            f"input scale {x.scale:.6g} over Y_scale {y_scale:.6g} is {ratio:.6g}; must be in [2^-8, 2^8)",
        )
        args.require(self.window.taps < 1 << 24, f"the window has {self.window.taps:,} pixels; must be below 2^24")
        with np.errstate(over="ignore"):
            divisor = np.float32(y_scale) * np.float32(self.window.taps)
        args.require(bool(np.isfinite(divisor)), f"Y_scale {y_scale:.6g} times {self.window.taps} pixels is infinite")
        self.scale = float(np.float32(x.scale) / divisor)
        args.require(self.scale >= 2.0**-32, f"the rescaling factor is {self.scale:.6g}; must be at least 2^-32")
        self.zero_point = x.zero_point
        self.outputs = (TensorSpec("int8", self.shape, y_scale, self.y_zero_point),)

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Sum, then round once."""
        (x,) = inputs
        if self.whole:
            total = x.sum(axis=(1, 2), keepdims=True, dtype=np.int64) - self.window.taps * self.zero_point
        else:
            centered = x.astype(np.int64) - self.zero_point
            total = _slide(np.pad(centered, self.padding), self.window, self.size, np.add)
        return (np.clip(average(total, self.scale) + self.y_zero_point, self.minimum, 255).astype(np.uint8),)


class Int8MaxPool(_Pooling):
    """Largest byte under the window and inside the picture; scale and zero point stay."""

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        super().__init__(inputs, args)
        (x,) = inputs
        args.same_quantization(x)
        self.minimum = np.uint8(x.zero_point if args.op_type.endswith("Relu") else 0)
        self.outputs = (TensorSpec("int8", self.shape, x.scale, x.zero_point),)

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Slide; the padding repeats the edge, as QNNPACK reads it: that changes no maximum."""
        largest = _slide(np.pad(inputs[0], self.padding, mode="edge"), self.window, self.size, np.maximum)
        return (np.maximum(largest, self.minimum),)


OPERATORS = {
    "Int8AveragePool": Int8AveragePool,
    "Int8AveragePoolRelu": Int8AveragePool,
    "Int8MaxPool": Int8MaxPool,
    "Int8MaxPoolRelu": Int8MaxPool,
}
