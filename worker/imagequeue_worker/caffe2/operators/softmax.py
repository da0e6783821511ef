"""Int8Softmax: QNNPACK's soft argmax, a table of 256 exponentials and one division."""

import math
from collections.abc import Sequence

import numpy as np

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.tensor import Array, TensorSpec

from .base import Operator, Scratch
from .tables import unit_quantization


class Int8Softmax(Operator):
    """Input: X uint8 [N, ...]. Output: uint8 of X's shape, scale 1/256; each of the N sums to about 256."""

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.inputs(inputs, "int8")
        (x,) = inputs
        args.require(len(x.shape) >= 1 and x.size > 0, f"input has shape {list(x.shape)}; must not be empty")
        y_scale, y_zero_point = unit_quantization(args)
        classes = x.size // x.shape[0]
        # Sums of `classes` values stay below 2^32, and single ones below 2^23.
        largest = min((2**32 - 1) / classes, 8388607.0)
        # math.exp is the C library's, as in QNNPACK; numpy's vector exponential may differ in the last bit.
        table = [round(largest * math.exp((i - 255) * x.scale)) for i in range(256)]
        self.table = np.array(table, np.int64)
        self.outputs = (TensorSpec("int8", x.shape, y_scale, y_zero_point),)

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Divide each exponential by the sum, rounding half up."""
        x = inputs[0].reshape(len(inputs[0]), -1)
        values = self.table[x + (255 - x.max(axis=1, keepdims=True))]
        sums = values.sum(axis=1, keepdims=True)
        shares = np.minimum((values * 256 + (sums >> 1)) // sums, 255)
        return (shares.astype(np.uint8).reshape(inputs[0].shape),)


OPERATORS = {"Int8Softmax": Int8Softmax}
