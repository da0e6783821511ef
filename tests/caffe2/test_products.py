"""Convolutions and fully connected layers of any geometry are plain sums in whole numbers, requantized."""

from itertools import product

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imagequeue_worker.caffe2 import QTensor, run_operator
from imagequeue_worker.caffe2.requantize import q31
from imagequeue_worker.caffe2.tensor import Array

SMALL = st.integers(1, 3)
PAIR = st.tuples(SMALL, SMALL)
PADS = st.tuples(*[st.integers(0, 3)] * 4)
BYTE = st.integers(0, 255)
# Groups, channels and output channels of each group: pointwise and dense, depthwise, and everything else.
CHANNELS = st.one_of(
    st.tuples(st.just(1), st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(2, 9), st.just(1), st.just(1)),
    st.tuples(st.integers(2, 3), SMALL, SMALL),
)


def plain_convolution(x: QTensor, w: QTensor, b: QTensor, stride, pads, dilation, group: int) -> Array:
    top, left, bottom, right = pads
    data = np.pad(x.data.astype(np.int64) - x.zero_point, ((0, 0), (top, bottom), (left, right), (0, 0)))
    weights = w.data.astype(np.int64) - w.zero_point
    height = (data.shape[1] - (w.shape[1] - 1) * dilation[0] - 1) // stride[0] + 1
    width = (data.shape[2] - (w.shape[2] - 1) * dilation[1] - 1) // stride[1] + 1
    acc = np.zeros((len(data), height, width, w.shape[0]), np.int64) + b.data
    members, depth = w.shape[0] // group, w.shape[3]
    for m, down, across, c in product(*(range(n) for n in w.shape)):
        channel = m // members * depth + c
        rows = slice(down * dilation[0], down * dilation[0] + (height - 1) * stride[0] + 1, stride[0])
        columns = slice(across * dilation[1], across * dilation[1] + (width - 1) * stride[1] + 1, stride[1])
        acc[..., m] += data[:, rows, columns, channel] * weights[m, down, across, c]
    return acc


def requantized(acc: Array, x: QTensor, w: QTensor, y_scale: float, y_zero_point: int, minimum: int = 0) -> Array:
    scale = float(np.float32(x.scale) * np.float32(w.scale) / np.float32(y_scale))
    return np.clip(q31(acc, scale) + y_zero_point, minimum, 255).astype(np.uint8)


@given(
    st.integers(0, 2**32 - 1),
    CHANNELS,
    PAIR,
    PAIR,
    PADS,
    PAIR,
    BYTE,
    BYTE,
    st.integers(0, 254),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_a_convolution_is_a_plain_sum(
    seed: int, channels, kernel, stride, pads, dilation, x_zero: int, w_zero: int, y_zero: int, relu: bool
):
    rng = np.random.default_rng(seed)
    group, depth, members = channels
    size = rng.integers(1, 9, 2)
    for axis in (0, 1):
        assume(size[axis] + pads[axis] + pads[axis + 2] > (kernel[axis] - 1) * dilation[axis])
    batch, height, width = int(rng.integers(1, 3)), *map(int, size)
    x = QTensor(rng.integers(0, 256, (batch, height, width, group * depth), dtype=np.uint8), 0.02, x_zero)
    w = QTensor(rng.integers(0, 256, (group * members, *kernel, depth), dtype=np.uint8), 0.01, w_zero)
    b = QTensor(rng.integers(-20_000, 20_000, group * members).astype(np.int32), 0.0002)
    acc = plain_convolution(x, w, b, stride, pads, dilation, group)
    y_scale = max(0.0003, float(np.abs(acc).max()) * 0.0002 / 200)
    args = {
        "kernels": list(kernel),
        "strides": list(stride),
        "pads": list(pads),
        "dilations": list(dilation),
        "group": group,
        "order": "NHWC",
        "Y_scale": y_scale,
        "Y_zero_point": y_zero,
    }
    (got,) = run_operator("Int8ConvRelu" if relu else "Int8Conv", [x, w, b], args)
    assert np.array_equal(got.data, requantized(acc, x, w, y_scale, y_zero, y_zero if relu else 0))


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 5),
    st.sampled_from([1, 2, 7, 258, 259, 1000]),
    st.booleans(),
    BYTE,
)
@settings(max_examples=60, deadline=None)
def test_a_fully_connected_layer_is_a_plain_sum(seed: int, outputs: int, depth: int, extreme: bool, zero: int):
    # 259 products of extreme bytes pass 2^24, what float32 sums hold exactly.
    rng = np.random.default_rng(seed)
    values = np.array([0, 255] if extreme else range(256), np.uint8)
    x = QTensor(rng.choice(values, (3, depth)), 0.02, zero)
    w = QTensor(rng.choice(values, (outputs, depth)), 0.01, 255 - zero)
    b = QTensor(rng.integers(-(2**20), 2**20, outputs).astype(np.int32), 0.0002)
    acc = (x.data.astype(np.int64) - x.zero_point) @ (w.data.astype(np.int64) - w.zero_point).T + b.data
    y_scale = max(0.0003, float(np.abs(acc).max()) * 0.0002 / 120)
    (got,) = run_operator("Int8FC", [x, w, b], {"Y_scale": y_scale, "Y_zero_point": 128})
    assert np.array_equal(got.data, requantized(acc, x, w, y_scale, 128))
