"""Int8FC: a matrix product with everything behind the first dimension."""

from collections.abc import Sequence

import numpy as np

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.geometry import check_size
from imagequeue_worker.caffe2.tensor import Array, TensorSpec

from .base import Operator, Scratch
from .linear import Linear, block_rows, check_parameters


class Int8FC(Operator):
    """Inputs: X uint8 [N, ...] of K values each; W uint8 [M, K]; B int32 [M]. Output: uint8 [N, M]."""

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        weights, bias = check_parameters(args, inputs, 2)
        x, w, _ = inputs
        args.require(len(x.shape) >= 1 and x.size > 0, f"input has shape {list(x.shape)}; must not be empty")
        depth = x.size // x.shape[0]
        args.require(depth == w.shape[1], f"input has {depth} values each, weights {w.shape[1]}; must be equal")
        self.linear = Linear(args, x, w, weights.T, bias)
        self.zero_point = x.zero_point
        self.outputs = (self.linear.output(check_size(args, (x.shape[0], w.shape[0]))),)

    def pack(self) -> None:
        """Weights in floating point, and the requantizer's addends."""
        self.linear.pack()
        self.addend = self.linear.requantizer.tiled(1)

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Multiply and requantize, in blocks of images."""
        x = inputs[0].reshape(len(inputs[0]), -1)
        out = np.empty((len(x), self.linear.channels), np.uint8)
        step = block_rows(max(self.linear.channels, x.shape[1]))
        for row in range(0, len(x), step):
            block = x[row : row + step]
            values = scratch.array("input", block.shape, self.linear.dtype)
            np.copyto(values, block)
            acc = self.linear.accumulator(scratch, len(block), 1)
            np.matmul(values, self.linear.weights, out=acc[:, 0])
            self.linear.requantize(acc, out[row : row + step, np.newaxis], self.addend, scratch)
        return (out,)


OPERATORS = {"Int8FC": Int8FC}
