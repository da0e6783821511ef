"""Operators that map each byte on its own: Int8Relu; Int8Sigmoid and Int8LeakyRelu by a table."""

import math
from collections.abc import Sequence

import numpy as np

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.tensor import Array, TensorSpec

from .base import Operator, Scratch


class Int8Relu(Operator):
    """Input: X uint8 of any shape. Output: max(X, zero point), with X's scale and zero point."""

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.order()
        args.inputs(inputs, "int8")
        (x,) = inputs
        args.same_quantization(x)
        self.minimum = np.uint8(x.zero_point)
        self.outputs = (TensorSpec("int8", x.shape, x.scale, x.zero_point),)

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Clip from below; with zero point 0 there is nothing to clip, and the input itself is the output."""
        return (np.maximum(inputs[0], self.minimum) if self.minimum else inputs[0],)


class Int8Table(Operator):
    """Input: X uint8 of any shape. Output: table[X]."""

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.order()
        args.inputs(inputs, "int8")
        (x,) = inputs
        self.table, y_scale, y_zero_point = self.make_table(x, args)
        self.outputs = (TensorSpec("int8", x.shape, y_scale, y_zero_point),)

    def make_table(self, x: TensorSpec, args: Arguments) -> tuple[Array, float, int]:
        """Return the table, uint8 [256], and the output's scale and zero point."""
        raise NotImplementedError

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Look every byte up."""
        return (self.table[inputs[0]],)


def unit_quantization(args: Arguments) -> tuple[float, int]:
    """Return scale 1/256 and zero point 0, refusing anything else: all that QNNPACK has for probabilities."""
    y_scale, y_zero_point = args.output_quantization(1 / 256)
    args.require(
        y_scale == 1 / 256 and y_zero_point == 0,
        f"Y_scale is {y_scale:.9g}, Y_zero_point {y_zero_point}; must be 1/256 and 0 for this operator",
    )
    return y_scale, y_zero_point


class Int8Sigmoid(Int8Table):
    """Logistic function in double precision; output scale 1/256, zero point 0."""

    def make_table(self, x: TensorSpec, args: Arguments) -> tuple[Array, float, int]:
        """Tabulate 256 / (1 + exp(-x))."""
        y_scale, y_zero_point = unit_quantization(args)
        real = (np.arange(256) - x.zero_point) * np.float64(x.scale)
        with np.errstate(over="ignore"):
            table = np.clip(np.rint(256 / (1 + np.exp(-real))), 0, 255).astype(np.uint8)
        return table, y_scale, y_zero_point


class Int8LeakyRelu(Int8Table):
    """Negative values times `alpha`, in float32 as QNNPACK computes its table."""

    def make_table(self, x: TensorSpec, args: Arguments) -> tuple[Array, float, int]:
        """Tabulate both slopes, in the output's scale."""
        alpha = args.number("alpha", 0.01)
        args.require(0 < alpha < 1 and math.isfinite(alpha), f"alpha is {alpha}; must be between 0 and 1")
        y_scale, y_zero_point = args.output_quantization(x.scale, x.zero_point)
        with np.errstate(over="ignore", under="ignore"):
            ratio = np.float32(x.scale) / np.float32(y_scale)
        args.require(
            2.0**-8 <= float(ratio) < 2.0**8,
            f"input scale {x.scale:.6g} over Y_scale {y_scale:.6g} is {ratio:.6g}; must be in [2^-8, 2^8)",
        )
        values = (np.arange(256) - x.zero_point).astype(np.float32) * ratio
        values = np.where(values < 0, values * np.float32(alpha), values)
        rounded = np.rint(np.clip(values, -y_zero_point, 255 - y_zero_point)) + y_zero_point
        return rounded.astype(np.uint8), y_scale, y_zero_point


OPERATORS = {"Int8Relu": Int8Relu, "Int8Sigmoid": Int8Sigmoid, "Int8LeakyRelu": Int8LeakyRelu}
