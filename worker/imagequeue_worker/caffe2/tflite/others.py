"""ADD, pooling, MEAN, RELU, RESHAPE, SQUEEZE, SOFTMAX: what has no weights."""

import numpy as np

from .conversion import Conversion
from .flatbuffer import Table
from .model import Operator
from .products import window_args

# Int8Softmax knows no other output; TFLite's uint8 one neither.
SOFTMAX_SCALE = 1 / 256


def add(net: Conversion, op: Operator) -> None:
    """ADD -> Int8Add or Int8AddRelu; both inputs are computed and have one shape."""
    options = net.options(op, 11) if op.options_type else None
    (a, _), (b, _) = net.input(op, 0), net.input(op, 1)
    relu = net.relu(op, options.integer(0, "b") if options is not None else 0)
    net.emit(op, "Int8AddRelu" if relu else "Int8Add", (a, b), {})


def average_pool_2d(net: Conversion, op: Operator) -> None:
    """AVERAGE_POOL_2D -> Int8AveragePool. Without padding only: TFLite leaves it out of the divisor."""
    args = _window(net, op, net.options(op, 5))
    if args.get("pad") != 0:
        raise net.error(op, "averages over padding, which Caffe2 counts as pixels and TFLite does not; pool VALID")
    _pool(net, op, "Int8AveragePool", args)


def max_pool_2d(net: Conversion, op: Operator) -> None:
    """MAX_POOL_2D -> Int8MaxPool."""
    _pool(net, op, "Int8MaxPool", _window(net, op, net.options(op, 5)))


def _window(net: Conversion, op: Operator, options: Table) -> dict[str, object]:
    _, x = net.input(op)
    if len(x.shape) != 4:
        raise net.error(op, f"has input {list(x.shape)}; must have four dimensions")
    kernel = options.integer(4, "i"), options.integer(3, "i")
    sizes = []
    for axis, stride_field in ((1, 2), (2, 1)):
        stride = options.integer(stride_field, "i")
        before, after = net.padding(op, options.integer(0, "b"), x.shape[axis], kernel[axis - 1], stride)
        sizes.append((stride, 1, before, after))
    return window_args(kernel, sizes)


def _pool(net: Conversion, op: Operator, op_type: str, args: dict[str, object]) -> None:
    blob, _ = net.input(op)
    relu = net.relu(op, net.options(op, 5).integer(5, "b"))
    net.emit(op, f"{op_type}Relu" if relu else op_type, (blob,), args)


def mean(net: Conversion, op: Operator) -> None:
    """MEAN over height and width -> Int8AveragePool over the whole picture, flattened if dimensions are dropped."""
    blob, x = net.input(op)
    _, axes = net.constant(op, 1, "INT32")
    if len(x.shape) != 4 or sorted(int(axis) % 4 for axis in axes.ravel()[:4]) != [1, 2]:
        raise net.error(op, f"is over axes {axes.ravel()[:8].tolist()} of {list(x.shape)}; must be height and width")
    y = net.output(op)
    args: dict[str, object] = {"global_pooling": 1}
    if len(y.shape) == 4:
        net.emit(op, "Int8AveragePool", (blob,), args)
        return
    pooled, _ = net.builder.add(
        "Int8AveragePool", (blob,), f"{blob}/mean",
        {"order": "NHWC", **args, "Y_scale": y.scale, "Y_zero_point": y.zero_point}, op.where,
    )  # fmt: skip
    net.emit(op, "Int8Flatten", (pooled,), {"axis": 1})


def relu(net: Conversion, op: Operator) -> None:
    """RELU, RELU6 -> Int8Relu, where scale and zero point stay."""
    blob, _ = net.input(op)
    net.relu(op, 3 if op.type == "RELU6" else 1)
    net.emit(op, "Int8Relu", (blob,), {})


def reshape(net: Conversion, op: Operator) -> None:
    """RESHAPE, SQUEEZE -> Int8Flatten or Int8Reshape, to the shape that the output has. The batch stays."""
    blob, x = net.input(op)
    y = net.output(op)
    if not x.shape or y.shape[:1] != (1,):
        raise net.error(op, f"makes {list(y.shape)} of {list(x.shape)}; must keep the pictures apart, in dimension 0")
    if len(y.shape) == 2:
        net.emit(op, "Int8Flatten", (blob,), {"axis": 1})
    else:
        net.emit(op, "Int8Reshape", (blob,), {"shape": [0, *y.shape[1:]]})


def softmax(net: Conversion, op: Operator) -> None:
    """SOFTMAX -> Int8Softmax, over all values of a picture."""
    beta = net.options(op, 9).real(0)
    if beta != 1:
        raise net.error(op, f"has beta {beta}; Caffe2 has 1; multiply the logits' scale by it and convert again")
    blob, x = net.input(op)
    y = net.output(op)
    if int(np.prod(x.shape, dtype=np.int64)) != x.shape[-1]:
        raise net.error(op, f"has input {list(x.shape)}; must have one row of values, as Caffe2 takes all of them")
    if y.scale != SOFTMAX_SCALE or y.zero_point != 0:
        raise net.error(op, f"has output scale {y.scale:.6g}, zero point {y.zero_point}; must be 1/256 and 0")
    net.emit(op, "Int8Softmax", (blob,), {})
