"""Int8ConvTranspose: every input pixel adds its kernel to the output; requantized like Int8Conv."""

from collections.abc import Sequence

import numpy as np

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.geometry import check_size, picture, read_window
from imagequeue_worker.caffe2.tensor import Array, TensorSpec

from .base import Operator, Scratch
from .linear import Linear, check_parameters, tile_width


class Int8ConvTranspose(Operator):
    """Inputs: X uint8 [N, H, W, C]; W uint8 [C, kernel_h, kernel_w, M]; B int32 [M].

    Output: uint8 [N, H', W', M].
    H' = (H - 1) * stride_h + kernel_h + adj_h - pad_t - pad_b. One group, no dilation, as in Caffe2.
    """

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.order()
        weights, bias = check_parameters(args, inputs, 4)
        x, w, _ = inputs
        batch, height, width, depth = picture(args, x)
        self.window = read_window(args)
        args.require(args.integer("group", 1) == 1, f"group is {args.integer('group', 1)}; must be 1 for this operator")
        kernel, stride, pads = self.window.kernel, self.window.stride, self.window.pads
        args.require(
            w.shape[:3] == (depth, *kernel),
            f"weights have shape {list(w.shape)}; must be [{depth}, {kernel[0]}, {kernel[1]}, M]",
        )
        adj = self._adjustment(args)
        self.full = (
            (height - 1) * stride[0] + kernel[0] + adj[0],
            (width - 1) * stride[1] + kernel[1] + adj[1],
        )
        size = (self.full[0] - pads[0] - pads[2], self.full[1] - pads[1] - pads[3])
        args.require(min(size) > 0, f"output would be {size[0]} x {size[1]}; must not be empty; lower the padding")
        self.zero_point = x.zero_point
        channels = w.shape[3]
        check_size(args, (batch, *self.full, channels))
        # [C, kernel_h, kernel_w, M] to [kernel_h * kernel_w * C, M].
        arranged = weights.transpose(1, 2, 0, 3).reshape(-1, channels)
        self.linear = Linear(args, x, w, arranged, bias, centered=True)
        self.outputs = (self.linear.output(check_size(args, (batch, *size, channels))),)

    def pack(self) -> None:
        """Weights in floating point by tap, and a row of the requantizer's addends."""
        self.linear.pack()
        width, channels = self.outputs[0].shape[2:]
        self.taps = self.linear.weights.reshape(*self.window.kernel, -1, channels)
        self.addend = self.linear.requantizer.tiled(tile_width(width, channels))

    def _adjustment(self, args: Arguments) -> tuple[int, int]:
        both = args.integer("adj", 0)
        adj = args.integers("adjs") or (args.integer("adj_h", both), args.integer("adj_w", both))
        stride = self.window.stride
        args.require(
            len(adj) == 2 and all(0 <= a <= s for a, s in zip(adj, stride, strict=True)),
            f"adj is {list(adj)}; must be two numbers from 0 to the stride {list(stride)}",
        )
        return adj[0], adj[1]

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Add the kernels of one image after the other."""
        x = inputs[0]
        shape = self.outputs[0].shape[1:]
        out = np.empty((len(x), *shape), np.uint8)
        stride, (top, left) = self.window.stride, self.window.pads[:2]
        for image, result in zip(x, out, strict=True):
            values = image.astype(self.linear.dtype) - self.linear.dtype.type(self.zero_point)
            acc = np.zeros((*self.full, shape[2]), self.linear.dtype)
            for down, row in enumerate(self.taps):
                for across, weights in enumerate(row):
                    acc[
                        down : down + (len(image) - 1) * stride[0] + 1 : stride[0],
                        across : across + (image.shape[1] - 1) * stride[1] + 1 : stride[1],
                    ] += values @ weights
            cut = acc[top : top + shape[0], left : left + shape[1]]
            self.linear.requantize(cut, result, self.addend, scratch)
        return (out,)


OPERATORS = {"Int8ConvTranspose": Int8ConvTranspose}
