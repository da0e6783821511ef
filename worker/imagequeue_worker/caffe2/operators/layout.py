"""Operators that keep every value and move it: scale and zero point stay, and must be stated equal."""

from collections.abc import Sequence

import numpy as np

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.geometry import check_size, picture
from imagequeue_worker.caffe2.tensor import Array, TensorSpec

from .base import Operator, Scratch


class NCHW2NHWC(Operator):
    """Input: X float32 [N, C, ...]. Output: float32 [N, ..., C]."""

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.inputs(inputs, "float")
        shape = inputs[0].shape
        args.require(len(shape) >= 3, f"input has shape {list(shape)}; must have three dimensions or more")
        self.outputs = (TensorSpec("float", (shape[0], *shape[2:], shape[1])),)

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Move the channels to the end."""
        return (np.ascontiguousarray(np.moveaxis(inputs[0], 1, -1)),)


class NHWC2NCHW(Operator):
    """Input: X float32 [N, ..., C]. Output: float32 [N, C, ...]."""

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.inputs(inputs, "float")
        shape = inputs[0].shape
        args.require(len(shape) >= 3, f"input has shape {list(shape)}; must have three dimensions or more")
        self.outputs = (TensorSpec("float", (shape[0], shape[-1], *shape[1:-1])),)

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Move the channels to the front."""
        return (np.ascontiguousarray(np.moveaxis(inputs[0], -1, 1)),)


class Int8Reshape(Operator):
    """Input: X uint8, and optionally the new shape as int64 constant instead of the argument `shape`.

    0 keeps a dimension, one -1 takes what is left. Outputs: uint8; and int64, the old shape.
    """

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        if len(inputs) == 2:
            args.inputs(inputs, "int8", inputs[1].kind if inputs[1].kind == "int32" else "int64")
            args.require("shape" not in args, "has both the argument `shape` and a shape as input; drop one")
            args.require(inputs[1].constant is not None, "the shape is computed by the net; must be a constant")
            wanted = tuple(int(value) for value in np.asarray(inputs[1].constant).ravel())
        else:
            args.inputs(inputs, "int8")
            args.require("shape" in args, "has no argument `shape`; give it")
            wanted = args.integers("shape")
        x = inputs[0]
        args.same_quantization(x)
        shape = _resolve_shape(args, wanted, x)
        per_image = x.size // x.shape[0] if x.shape and x.shape[0] else 0
        # Only then does the first dimension still count images when the batch has another size.
        follows = bool(wanted) and (
            (wanted[0] == 0) or (wanted[0] == -1 and per_image == int(np.prod(shape[1:], dtype=np.int64)))
        )
        self.rowwise = follows and len(inputs) == 1
        self.tail = shape[1:] if self.rowwise else None
        self.outputs = (
            TensorSpec("int8", shape, x.scale, x.zero_point),
            TensorSpec("int64", (len(x.shape),)),
        )

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Reshape; no byte moves."""
        x = inputs[0]
        shape = self.outputs[0].shape if self.tail is None else (len(x), *self.tail)
        return x.reshape(shape), np.array(x.shape, np.int64)


def _resolve_shape(args: Arguments, wanted: tuple[int, ...], x: TensorSpec) -> tuple[int, ...]:
    shape = list(wanted)
    for axis, extent in enumerate(shape):
        if extent == 0:
            args.require(axis < len(x.shape), f"shape {list(wanted)} keeps dimension {axis}, which input has not")
            shape[axis] = x.shape[axis]
    args.require(all(extent >= -1 for extent in shape), f"shape is {list(wanted)}; only -1 may be negative")
    args.require(shape.count(-1) <= 1, f"shape is {list(wanted)}; only one dimension may be -1")
    known = 1
    for extent in shape:
        known *= extent if extent != -1 else 1
    if -1 in shape:
        args.require(known > 0 and x.size % known == 0, f"shape {list(wanted)} does not divide {x.size} values")
        shape[shape.index(-1)] = x.size // known
    else:
        args.require(known == x.size, f"shape {list(wanted)} has {known} values, input {x.size}; must be equal")
    return check_size(args, tuple(shape))


class Int8Flatten(Operator):
    """Input: X uint8. Output: uint8 [dimensions before `axis`, the others]."""

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.inputs(inputs, "int8")
        (x,) = inputs
        args.same_quantization(x)
        axis = args.integer("axis", 1)
        args.require(0 <= axis <= len(x.shape), f"axis is {axis}; must be 0 to {len(x.shape)} here")
        before = int(np.prod(x.shape[:axis], dtype=np.int64))
        self.rowwise = axis == 1
        self.shape = (before, int(np.prod(x.shape[axis:], dtype=np.int64)))
        self.outputs = (TensorSpec("int8", self.shape, x.scale, x.zero_point),)

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Flatten; no byte moves."""
        return (inputs[0].reshape(-1, self.shape[1]) if self.rowwise else inputs[0].reshape(self.shape),)


class Int8Transpose(Operator):
    """Input: X uint8. Output: uint8, dimensions permuted by `axes`, by default reversed."""

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.inputs(inputs, "int8")
        (x,) = inputs
        args.same_quantization(x)
        self.axes = args.integers("axes") or tuple(range(len(x.shape)))[::-1]
        args.require(
            sorted(self.axes) == list(range(len(x.shape))),
            f"axes is {list(self.axes)}; must name each of 0 to {len(x.shape) - 1} once",
        )
        self.rowwise = bool(self.axes) and self.axes[0] == 0
        self.outputs = (TensorSpec("int8", tuple(x.shape[a] for a in self.axes), x.scale, x.zero_point),)

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Transpose."""
        return (np.ascontiguousarray(inputs[0].transpose(self.axes)),)


class Int8ChannelShuffle(Operator):
    """Input: X uint8 [N, H, W, C]. Output: the same, channel g * C/group + i moved to i * group + g."""

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        args.order()
        args.inputs(inputs, "int8")
        (x,) = inputs
        args.same_quantization(x)
        channels = picture(args, x)[3]
        # Caffe2 derives this operator from the pooling ones, which insist on a kernel.
        args.require(
            args.integer("kernel", args.integer("kernel_h", 0)) > 0 or bool(args.integers("kernels")),
            "has no kernel; Caffe2 wants the argument kernel=1",
        )
        self.group = args.integer("group", 1)
        args.require(
            self.group > 1 and channels % self.group == 0,
            f"group is {self.group}; must be 2 or more and divide the {channels} channels",
        )
        self.outputs = (TensorSpec("int8", x.shape, x.scale, x.zero_point),)

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Transpose groups and their members."""
        x = inputs[0]
        parts = x.reshape(*x.shape[:3], self.group, -1)
        return (np.ascontiguousarray(parts.swapaxes(3, 4)).reshape(x.shape),)


OPERATORS = {
    "NCHW2NHWC": NCHW2NHWC,
    "NHWC2NCHW": NHWC2NCHW,
    "Int8Reshape": Int8Reshape,
    "Int8Flatten": Int8Flatten,
    "Int8Transpose": Int8Transpose,
    "Int8ChannelShuffle": Int8ChannelShuffle,
}
