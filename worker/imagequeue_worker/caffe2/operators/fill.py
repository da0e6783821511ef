"""Int8GivenTensorFill and Int8GivenIntTensorFill: the constants of init_net."""

from collections.abc import Sequence

import numpy as np

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.geometry import check_size
from imagequeue_worker.caffe2.tensor import Array, TensorSpec, scale_problem

from .base import Operator, Scratch


class _Fill(Operator):
    """No input. Output: the argument `values` in the shape of the argument `shape`."""

    rowwise = False

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.inputs(inputs)
        shape = check_size(args, args.integers("shape"))
        values = self.values(args)
        size = int(np.prod(shape, dtype=np.int64))
        args.require(values.size == size, f"has {values.size} values for shape {list(shape)}; must be {size}")
        self.data = values.reshape(shape)
        self.data.flags.writeable = False
        self.outputs = (self.describe(args, self.data),)

    def values(self, args: Arguments) -> Array:
        """Return the values, flat."""
        raise NotImplementedError

    def describe(self, args: Arguments, data: Array) -> TensorSpec:
        """Describe the output."""
        raise NotImplementedError

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Return the constant, read-only."""
        return (self.data,)


class Int8GivenTensorFill(_Fill):
    """uint8, from the string argument `values`."""

    def values(self, args: Arguments) -> Array:
        """Return the string's bytes."""
        return np.frombuffer(args.string("values"), np.uint8).copy()

    def describe(self, args: Arguments, data: Array) -> TensorSpec:
        """Describe bytes."""
        return TensorSpec("int8", data.shape, *args.output_quantization(), constant=data)


class Int8GivenIntTensorFill(_Fill):
    """int32, from the integers of `values`: a bias."""

    def values(self, args: Arguments) -> Array:
        """Return the integers, which must fit into int32."""
        values = np.array(args.integers("values"), np.int64)
        lost = (values < -(2**31)) | (values >= 2**31)
        args.require(not lost.any(), f"a value is {values[lost][:1]}; must fit into 32 bits")
        return values.astype(np.int32)

    def describe(self, args: Arguments, data: Array) -> TensorSpec:
        """Describe a bias; its zero point is 0 in every net, and no operator reads it."""
        scale = args.number("Y_scale", 1.0)
        if (problem := scale_problem(scale)) is not None:
            raise args.error(f"Y_scale {problem}; re-export the net")
        return TensorSpec("int32", data.shape, scale, args.integer("Y_zero_point", 0), constant=data)


OPERATORS = {"Int8GivenTensorFill": Int8GivenTensorFill, "Int8GivenIntTensorFill": Int8GivenIntTensorFill}
