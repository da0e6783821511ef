"""CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED: weights, bias and window, as Caffe2 wants them."""

from dataclasses import dataclass

import numpy as np

from imagequeue_worker.caffe2.tensor import Array, TensorSpec

from .conversion import Conversion, layer_name, quantized
from .model import Operator, Tensor

# Far beyond any classifier; a .pb file has each bias as a number of its own, which takes memory to write.
MAX_CHANNELS = 1 << 16


@dataclass(frozen=True, slots=True)
class _Options:
    """Where a convolution's options have what: field numbers of the schema, height before width."""

    union: int
    activation: int
    dilation: tuple[int, int]
    padding: int = 0
    stride: tuple[int, int] = (2, 1)


_CONV = _Options(union=1, activation=3, dilation=(5, 4))
_DEPTHWISE = _Options(union=2, activation=4, dilation=(6, 5))


def conv_2d(net: Conversion, op: Operator) -> None:
    """CONV_2D -> Int8Conv or Int8ConvRelu. Weights are [M, kernel_h, kernel_w, C] in both."""
    w, weights = net.constant(op, 1, "UINT8")
    _convolution(net, op, _CONV, w, weights)


def depthwise_conv_2d(net: Conversion, op: Operator) -> None:
    """DEPTHWISE_CONV_2D -> the same with as many groups as channels.

    Weights [1, kernel_h, kernel_w, C * multiplier] become [C * multiplier, kernel_h, kernel_w, 1]: output
    channel `c * multiplier + i` belongs to input channel c in both.
    """
    w, weights = net.constant(op, 1, "UINT8")
    if len(w.shape) != 4 or w.shape[0] != 1:
        raise net.error(op, f"{w} holds the weights; must have shape [1, kernel_h, kernel_w, channels]")
    _convolution(net, op, _DEPTHWISE, w, weights.transpose(3, 1, 2, 0))


def _convolution(net: Conversion, op: Operator, fields: _Options, w: Tensor, weights: Array) -> None:
    """Convert a convolution whose weights are [M, kernel_h, kernel_w, C / groups]."""
    options = net.options(op, fields.union)
    blob, x = net.input(op)
    if len(x.shape) != 4 or weights.ndim != 4:
        raise net.error(op, f"has input {list(x.shape)} and {w}; both must have four dimensions")
    scheme = options.integer(fields.padding, "b")
    sizes: list[tuple[int, int, int, int]] = []
    for axis in (0, 1):
        stride = options.integer(fields.stride[axis], "i")
        spread = options.integer(fields.dilation[axis], "i", 1)
        padding = net.padding(op, scheme, x.shape[axis + 1], weights.shape[axis + 1], stride, spread)
        sizes.append((stride, spread, *padding))
    args = window_args((weights.shape[1], weights.shape[2]), sizes)
    if fields is _DEPTHWISE and x.shape[3] > 1:
        args["group"] = x.shape[3]
    relu = net.relu(op, options.integer(fields.activation, "b"))
    net.emit(op, "Int8ConvRelu" if relu else "Int8Conv", _parameters(net, op, blob, x, w, weights), args)


def window_args(kernel: tuple[int, int], sizes: list[tuple[int, int, int, int]]) -> dict[str, object]:
    """Write a window in Caffe2's words; sizes are (stride, dilation, before, after) of height and width."""
    (stride_h, dilation_h, top, bottom), (stride_w, dilation_w, left, right) = sizes
    args = {**_both("kernel", *kernel), **_both("stride", stride_h, stride_w)}
    if (dilation_h, dilation_w) != (1, 1):
        args |= _both("dilation", dilation_h, dilation_w)
    if top == left == bottom == right:
        return {**args, "pad": top}
    return {**args, "pad_t": top, "pad_l": left, "pad_b": bottom, "pad_r": right}


def _both(name: str, height: int, width: int) -> dict[str, object]:
    return {name: height} if height == width else {f"{name}_h": height, f"{name}_w": width}


def fully_connected(net: Conversion, op: Operator) -> None:
    """FULLY_CONNECTED -> Int8FC, and an Int8Relu where an activation is fused."""
    options = net.options(op, 8)
    if options.integer(1, "b"):
        raise net.error(op, f"has weights in format {options.integer(1, 'b')}; the plain one, 0, is known")
    blob, x = net.input(op)
    w, weights = net.constant(op, 1, "UINT8")
    relu = net.relu(op, options.integer(0, "b"))
    net.emit(op, "Int8FC", _parameters(net, op, blob, x, w, weights), {})
    if relu:
        net.emit(op, "Int8Relu", (net.blobs[op.outputs[0]],), {})


def _parameters(
    net: Conversion, op: Operator, blob: str, x: TensorSpec, w: Tensor, weights: Array
) -> tuple[str, str, str]:
    """Add weights and bias to init_net; zeros where TFLite has no bias, as Caffe2 demands one."""
    quantized(w)
    name = layer_name(net.output(op))
    with np.errstate(over="ignore", under="ignore"):
        scale = float(np.float32(x.scale) * np.float32(w.scale))
    channels = weights.shape[0] if weights.ndim else 0
    if not 1 <= channels <= MAX_CHANNELS:
        raise net.error(op, f"{w} makes {channels:,} channels; must be 1 to {MAX_CHANNELS:,}")
    if len(op.inputs) > 2 and op.inputs[2] >= 0:
        b, bias = net.constant(op, 2, "INT32")
        _check_bias(net, op, b, scale, channels)
    else:
        bias = np.zeros(channels, np.int32)
    added = net.builder.weights(f"{name}/weights", weights, w.scale, w.zero_point)
    return blob, added, net.builder.bias(f"{name}/bias", bias, scale)


def _check_bias(net: Conversion, op: Operator, b: Tensor, scale: float, channels: int) -> None:
    """Refuse a bias in other units than the products: Caffe2 adds it as it is. The tolerance is TFLite's."""
    if b.shape != (channels,):
        raise net.error(op, f"{b} holds the bias; must have one value for each of {channels:,} channels")
    if b.scales != 1 or b.zero_point != 0 or not abs(scale - b.scale) <= 0.02 * net.output(op).scale:
        raise net.error(
            op,
            f"{b} holds the bias with {b.scales} scales, scale {b.scale:.6g}, zero point {b.zero_point}; must be "
            f"one, input scale * weight scale = {scale:.6g}, and 0; convert the net again",
        )
