"""The Int8 operators by their definitions (NUMERICS.md) alone, in int64, slowly: what any engine must compute.

Shares nothing with the project's operators: convolutions are loops over the kernel, requantization is Q31.
"""

import math

import numpy as np

from imagequeue_worker.caffe2.quantize.integers import Int8Layer
from imagequeue_worker.caffe2.quantize.ranges import Quantization


def run_layer(layer: Int8Layer, inputs: list, quantizations: list[Quantization]) -> np.ndarray:
    """One operator on uint8 [N, H, W, C] or [N, K]."""
    x, xq, y, args = inputs[0].astype(np.int64), quantizations[0], layer.output, layer.args
    low = y.zero_point if layer.op_type.endswith("Relu") else 0
    match layer.op_type.removesuffix("Relu"):
        case "Int8Conv" | "Int8FC":
            acc = _conv(layer, x, xq) if "Conv" in layer.op_type else _fully_connected(layer, x, xq)
            return _clip(_q31(acc, xq.scale, layer.constants[0].scale, y.scale) + y.zero_point, low)
        case "Int8Add":
            return _clip(_add(x, inputs[1].astype(np.int64), xq, quantizations[1], y), low)
        case "Int8MaxPool":
            return _windows(x, args, -1).max(axis=(3, 4)).astype(np.uint8)
        case "Int8AveragePool":
            return _clip(_average(x - xq.zero_point, args, xq, y), low)
    raise AssertionError(layer.op_type)


def _clip(values, low):
    return np.clip(values, low, 255).astype(np.uint8)


def _bits(value):
    return int(np.float32(value).view(np.uint32))


def _divide(value, shift):
    mask = (1 << shift) - 1
    return (value >> shift) + (((value & mask) - (value < 0)) > (mask >> 1))


def _q31(acc, xs, ws, ys):
    s = np.float32(np.float32(xs) * np.float32(ws)) / np.float32(ys)
    assert 2**-32 <= s < 1
    multiplier = ((_bits(s) & 0x7FFFFF) | 0x800000) << 7
    return _divide((acc * multiplier + (1 << 30)) >> 31, 127 + 31 - 32 - (_bits(s) >> 23))


def _windows(x, args, fill):
    """[N, H', W', kernel_h, kernel_w, C]."""
    pads = ((0, 0), (args["pad_t"], args["pad_b"]), (args["pad_l"], args["pad_r"]), (0, 0))
    x = np.pad(x, pads, constant_values=fill)
    kernel, stride = (args["kernel_h"], args["kernel_w"]), (args["stride_h"], args["stride_w"])
    dilation = (args.get("dilation_h", 1), args.get("dilation_w", 1))
    size = [(x.shape[1 + i] - (kernel[i] - 1) * dilation[i] - 1) // stride[i] + 1 for i in (0, 1)]
    out = np.empty((len(x), *size, *kernel, x.shape[3]), np.int64)
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            top, left = row * dilation[0], column * dilation[1]
            part = x[:, top:, left:][:, :: stride[0], :: stride[1]]
            out[:, :, :, row, column] = part[:, : size[0], : size[1]]
    return out


def _conv(layer, x, xq):
    w, b = layer.constants
    group = layer.args.get("group", 1)
    real = w.data.astype(np.int64) - w.zero_point
    patches = _windows(x - xq.zero_point, layer.args, 0)
    channels, outputs = x.shape[3] // group, len(real) // group
    parts = [
        np.einsum("nhwklc,mklc->nhwm", patches[..., g * channels : (g + 1) * channels], real[g * outputs :][:outputs])
        for g in range(group)
    ]
    return np.concatenate(parts, axis=3) + b.data


def _fully_connected(layer, x, xq):
    w, b = layer.constants
    return (x.reshape(len(x), -1) - xq.zero_point) @ (w.data.astype(np.int64) - w.zero_point).T + b.data


def _add(a, b, aq, bq, y):
    ra, rb = (float(np.float32(q.scale) / np.float32(y.scale)) for q in (aq, bq))
    shift = 21 - (math.frexp(max(ra, rb))[1] - 1)
    ma, mb = round(ra * 2**shift), round(rb * 2**shift)
    return _divide(ma * (a - aq.zero_point) + mb * (b - bq.zero_point), shift) + y.zero_point


def _average(x, args, xq, y):
    if args.get("global_pooling"):
        total, count = x.sum(axis=(1, 2), keepdims=True), x.shape[1] * x.shape[2]
    else:
        total, count = _windows(x, args, 0).sum(axis=(3, 4)), args["kernel_h"] * args["kernel_w"]
    s = np.float32(xq.scale) / np.float32(np.float32(y.scale) * np.float32(count))
    multiplier, shift = (_bits(s) & 0x7FFFFF) | 0x800000, 127 + 23 - (_bits(s) >> 23)
    return ((total * multiplier - (total < 0) + (1 << (shift - 1))) >> shift) + y.zero_point
