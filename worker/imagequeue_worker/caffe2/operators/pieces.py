"""Int8Concat and Int8Slice: tensors joined, and cut, along one dimension; scale and zero point stay."""

from collections.abc import Sequence

import numpy as np

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.geometry import check_size
from imagequeue_worker.caffe2.tensor import Array, TensorSpec

from .base import Operator, Scratch


class Int8Concat(Operator):
    """Inputs: uint8 tensors of equal shape but for `axis`, all with one scale and zero point.

    Outputs: uint8; and int64, the inputs' sizes along the axis, which Caffe2 declares and leaves empty.
    """

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.inputs(inputs, "int8", more=True)
        first = inputs[0]
        args.same_quantization(first)
        order = args.string("order")
        self.axis = args.integer("axis", {b"NHWC": 3, b"NCHW": 1}.get(order, 0))
        args.require(
            0 <= self.axis < len(first.shape),
            f"axis is {self.axis}; must be 0 to {len(first.shape) - 1} here",
        )
        for number, x in enumerate(inputs[1:], 1):
            args.require(
                _without(x.shape, self.axis) == _without(first.shape, self.axis),
                f"input {number} has shape {list(x.shape)}; must be {list(first.shape)} but for axis {self.axis}",
            )
            args.require(
                x.scale == first.scale and x.zero_point == first.zero_point,
                f"input {number} has scale {x.scale:.9g}, zero point {x.zero_point}, the first "
                f"{first.scale:.9g}, {first.zero_point}; must be equal, or bytes would change meaning",
            )
        self.sizes = np.array([x.shape[self.axis] for x in inputs], np.int64)
        shape = list(first.shape)
        shape[self.axis] = int(self.sizes.sum())
        self.rowwise = self.axis != 0 and all(x.constant is None for x in inputs)
        self.outputs = (
            TensorSpec("int8", check_size(args, tuple(shape)), first.scale, first.zero_point),
            TensorSpec("int64", self.sizes.shape),
        )

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Join."""
        return np.concatenate(list(inputs), axis=self.axis), self.sizes


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], -1, *shape[axis + 1 :])


class Int8Slice(Operator):
    """Input: X uint8. Output: uint8, X from `starts` to `ends`, exclusive.

    Negative ones count from size + 1: -1 is the end.
    At most one dimension may become shorter, as in Caffe2.
    """

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.inputs(inputs, "int8")
        (x,) = inputs
        args.same_quantization(x)
        starts, ends = _slice_bounds(args, len(x.shape))
        args.require(
            len(starts) == len(ends) <= len(x.shape),
            f"has {len(starts)} starts, {len(ends)} ends; must be as many, at most {len(x.shape)}",
        )
        cut = []
        for axis, extent in enumerate(x.shape):
            start, end = (starts[axis], ends[axis]) if axis < len(starts) else (0, -1)
            start, end = (min(v + extent + 1 if v < 0 else v, extent) for v in (start, end))
            args.require(0 <= start <= end, f"slice {start} to {end} of dimension {axis}; must not be negative")
            cut.append(slice(start, end))
        changed = [a for a, extent in enumerate(x.shape) if cut[a] != slice(0, extent)]
        args.require(len(changed) <= 1, f"slices dimensions {changed}; Caffe2 slices one at a time; use two operators")
        self.rowwise = 0 not in changed
        if self.rowwise and cut:
            cut[0] = slice(None)
        self.cut = tuple(cut)
        shape = tuple(len(range(*piece.indices(extent))) for piece, extent in zip(cut, x.shape, strict=True))
        self.outputs = (TensorSpec("int8", shape, x.scale, x.zero_point),)

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Cut."""
        return (np.ascontiguousarray(inputs[0][self.cut]),)


def _slice_bounds(args: Arguments, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if all(name in args for name in ("dim", "start_idx", "end_idx")):
        dim = args.integer("dim", 0)
        args.require(0 <= dim < rank, f"dim is {dim}; must be 0 to {rank - 1} here")
        starts, ends = [0] * rank, [-1] * rank
        starts[dim], ends[dim] = args.integer("start_idx", 0), args.integer("end_idx", -1)
        return tuple(starts), tuple(ends)
    args.require("starts" in args and "ends" in args, "has no starts and ends; give both")
    return args.integers("starts"), args.integers("ends")


OPERATORS = {"Int8Concat": Int8Concat, "Int8Slice": Int8Slice}
