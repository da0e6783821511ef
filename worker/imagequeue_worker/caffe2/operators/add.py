"""Int8Add, Int8Sum and their Relu forms: exactly two inputs, one table of all 65,536 sums."""

from collections.abc import Sequence

import numpy as np

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.requantize import SumRule, rescaled_sum
from imagequeue_worker.caffe2.tensor import Array, TensorSpec

from .base import Operator, Scratch, relu_minimum


class Int8Add(Operator):
    """Inputs: A and B, uint8 of one shape. Output: uint8 of that shape. Int8Sum is the same operator."""

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.order()
        args.inputs(inputs, "int8", "int8")
        a, b = inputs
        args.require(a.shape == b.shape, f"inputs have shapes {list(a.shape)} and {list(b.shape)}; must be equal")
        y_scale, y_zero_point = args.output_quantization()
        minimum = relu_minimum(args, y_zero_point, relu=args.op_type.endswith("Relu"))
        ratios = []
        for name, spec in (("first", a), ("second", b)):
            with np.errstate(over="ignore", under="ignore"):
                ratio = float(np.float32(spec.scale) / np.float32(y_scale))
            args.require(
                2.0**-14 <= ratio < 2.0**8,
                f"the {name} input's scale {spec.scale:.6g} over Y_scale {y_scale:.6g} is {ratio:.6g}; "
                "must be in [2^-14, 2^8); re-export the net",
            )
            ratios.append(ratio)
        self.rule = SumRule.of(*ratios)
        self.zero_points = (a.zero_point, b.zero_point)
        self.minimum = minimum
        self.rowwise = a.constant is None and b.constant is None
        self.outputs = (TensorSpec("int8", a.shape, y_scale, y_zero_point),)

    def pack(self) -> None:
        """Tabulate all sums."""
        values = np.arange(256, dtype=np.int64)
        a, b = (values - zero_point for zero_point in self.zero_points)
        sums = rescaled_sum(a[:, np.newaxis], b[np.newaxis], self.rule)
        clipped = np.clip(sums + self.outputs[0].zero_point, self.minimum, 255)
        self.table = clipped.astype(np.uint8).ravel()

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Look up 256 * a + b."""
        a, b = inputs
        index = scratch.array("index", a.shape, np.uint16)
        np.multiply(a, np.uint16(256), out=index, dtype=np.uint16)
        np.add(index, b, out=index)
        return (self.table[index],)


OPERATORS = dict.fromkeys(("Int8Add", "Int8AddRelu", "Int8Sum", "Int8SumRelu"), Int8Add)
