"""The float net itself, layer by layer, in float32: what the quantized net is compared with."""

from collections.abc import Sequence

import numpy as np

from imagequeue_worker.caffe2.tensor import Array

from .layers import CAPS, Activation, Add, Clip, Conv, FloatNet, Layer, Linear, Pool
from .patches import grouped, grouped_weights, output_size, padded, windows


def run_net(net: FloatNet, picture: Array) -> Array:
    """Run a folded net on one scaled picture, float32 [H, W, C]: its logits [classes]."""
    blobs: dict[str, Array] = {net.input: picture}
    for layer in net.layers:
        blobs[layer.name] = run_layer(layer, [blobs[name] for name in layer.inputs])
    return blobs[net.output].reshape(-1)


def run_layer(layer: Layer, inputs: Sequence[Array]) -> Array:
    """Run one layer on one picture; [H, W, C] or [K] each. Overflow is not warned of: the caller looks for it."""
    with np.errstate(over="ignore", invalid="ignore"):
        return _run(layer, inputs)


def _run(layer: Layer, inputs: Sequence[Array]) -> Array:
    match layer:
        case Conv():
            return clipped(_conv(layer, inputs[0]), layer.clip)
        case Linear():
            y = layer.weights.astype(np.float32) @ inputs[0].reshape(-1) + layer.bias.astype(np.float32)
            return clipped(y, layer.clip)
        case Add():
            return clipped(inputs[0] + inputs[1], layer.clip)
        case Activation():
            return clipped(inputs[0].copy(), layer.clip)
        case Pool():
            return _pool(layer, inputs[0])
    raise TypeError(f"{type(layer).__name__} is not folded yet")


def clipped(values: Array, clip: Clip) -> Array:
    """Apply ReLU or ReLU6, in place."""
    return values if clip == "none" else np.clip(values, 0, CAPS[clip], out=values)


def _conv(layer: Conv, x: Array) -> Array:
    bias = layer.bias.astype(np.float32)
    weights = layer.weights.astype(np.float32)
    height, width = output_size(layer.window, *x.shape[:2])
    x = padded(x, layer.window, 0)
    if layer.group == x.shape[2] == len(weights):
        return _depthwise(layer, x, (height, width)) + bias
    if layer.window.taps == 1 and layer.group == 1:
        down, across = layer.window.stride
        flat = np.ascontiguousarray(x[::down, ::across]).reshape(height * width, -1)
        return (flat @ weights.reshape(len(weights), -1).T).reshape(height, width, -1) + bias
    patches = grouped(windows(x, layer.window).reshape(-1, *weights.shape[1:3], x.shape[2]), layer.group)
    sums = patches.transpose(1, 0, 2) @ grouped_weights(weights, layer.group).transpose(0, 2, 1)
    return sums.transpose(1, 0, 2).reshape(height, width, -1) + bias


def _depthwise(layer: Conv, x: Array, size: tuple[int, int]) -> Array:
    """Shifted multiply-adds: no patches are copied."""
    window = layer.window
    weights = layer.weights.astype(np.float32)
    total = np.zeros((*size, x.shape[2]), np.float32)
    scratch = np.empty_like(total)
    for row in range(window.kernel[0]):
        for column in range(window.kernel[1]):
            top, left = row * window.dilation[0], column * window.dilation[1]
            part = x[
                top : top + (size[0] - 1) * window.stride[0] + 1 : window.stride[0],
                left : left + (size[1] - 1) * window.stride[1] + 1 : window.stride[1],
            ]
            np.multiply(part, weights[:, row, column, 0], out=scratch)
            total += scratch
    return total


def _pool(layer: Pool, x: Array) -> Array:
    if layer.window is None:
        return np.asarray(x.mean(axis=(0, 1), keepdims=True, dtype=np.float64), np.float32)
    outside = -np.inf if layer.kind == "max" else 0.0
    view = windows(padded(x, layer.window, outside), layer.window)
    pooled: Array = view.max(axis=(2, 3)) if layer.kind == "max" else view.mean(axis=(2, 3), dtype=np.float32)
    return pooled
