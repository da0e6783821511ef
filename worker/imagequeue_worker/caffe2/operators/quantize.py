"""Int8Quantize and Int8Dequantize: between float32 and bytes."""

from collections.abc import Sequence

import numpy as np

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.tensor import Array, TensorSpec

from .base import Operator, Scratch


def quantize(x: Array, scale: float, zero_point: int) -> Array:
    """Round x / scale half to even, in float32, add the zero point and clip; float32 to uint8.

    Not-a-number gives 0, what Caffe2 gives on x86-64. Values beyond the range saturate.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.rint(x / np.float32(scale))
    np.clip(steps, -zero_point, 255 - zero_point, out=steps)
    np.nan_to_num(steps, copy=False, nan=-zero_point)
    steps += np.float32(zero_point)
    return steps.astype(np.uint8)


class Int8Quantize(Operator):
    """Input: X float32 of any shape. Output: uint8 of that shape."""

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.inputs(inputs, "float")
        y_scale, y_zero_point = args.output_quantization()
        self.outputs = (TensorSpec("int8", inputs[0].shape, y_scale, y_zero_point),)

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Quantize."""
        return (quantize(inputs[0], self.outputs[0].scale, self.outputs[0].zero_point),)


class Int8Dequantize(Operator):
    """Input: X uint8 of any shape. Output: float32 (X - zero point) * scale."""

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.inputs(inputs, "int8")
        (x,) = inputs
        # float32 products of a 9-bit integer: rounded once, as in Caffe2.
        self.table = (np.arange(256) - x.zero_point).astype(np.float32) * np.float32(x.scale)
        self.outputs = (TensorSpec("float", x.shape),)

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Look every byte up."""
        return (self.table[inputs[0]],)


OPERATORS = {"Int8Quantize": Int8Quantize, "Int8Dequantize": Int8Dequantize}
