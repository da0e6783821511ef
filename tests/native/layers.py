"""Random single operators, as hypothesis strategies, and their comparison between engines.

Shapes, scales and zero points are drawn, so that failures shrink; bytes come from a seed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st

from imagequeue_worker.caffe2 import QTensor, available_engines, run_operator
from imagequeue_worker.caffe2.tensor import Array

NATIVE_ENGINES = [name for name in available_engines() if name.startswith("native/")]
PATHS = [name.removeprefix("native/") for name in NATIVE_ENGINES]
needs_native = pytest.mark.skipif(not NATIVE_ENGINES, reason="the native engine was not built: imagequeue-worker info")


@dataclass(frozen=True)
class Case:
    """An operator with its inputs."""

    op_type: str
    inputs: tuple[QTensor, ...]
    args: Mapping[str, Any]

    def run(self, engine: str) -> Array:
        result = run_operator(self.op_type, self.inputs, self.args, engine=engine)[0]
        return result.data if isinstance(result, QTensor) else result

    def __repr__(self) -> str:
        shown = ", ".join(f"{x.data.dtype}{list(x.shape)} {x.scale!r} {x.zero_point}" for x in self.inputs)
        return f"{self.op_type}({shown}; {dict(self.args)})"


def differing(case: Case) -> dict[str, int]:
    """Count the elements in which each native path differs from the portable engine; empty if none does."""
    wanted = case.run("portable")
    found = {}
    for engine in NATIVE_ENGINES:
        got = case.run(engine)
        same = got.shape == wanted.shape and got.dtype == wanted.dtype
        if count := int((got != wanted).sum()) if same else max(1, wanted.size):
            found[engine] = count
    return found


# Bytes. Extremes overflow what is too narrow: 16-bit sums, int8 weights, float sums.

BYTE = st.integers(0, 255)
ZERO_POINTS = st.sampled_from([0, 1, 127, 128, 254, 255]) | BYTE
FILLS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "any": lambda rng, shape: rng.integers(0, 256, shape),
    "zeros": lambda rng, shape: np.zeros(shape),
    "ones": lambda rng, shape: np.full(shape, 255),
    "extremes": lambda rng, shape: rng.choice([0, 255], shape),
    "narrow": lambda rng, shape: np.clip(np.rint(rng.normal(128, 12, shape)), 0, 255),
    # Few weights beyond int8 among many within: what nets have.
    "outliers": lambda rng, shape: np.where(rng.random(shape) < 0.02, rng.choice([0, 255], shape), 120),
}


@st.composite
def filled(draw: st.DrawFn, shape: tuple[int, ...]) -> Array:
    """Draw bytes of a shape."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return FILLS[draw(st.sampled_from(sorted(FILLS)))](rng, shape).astype(np.uint8)


# Scales. Input and output have scale 1, so that the weights' scale is the one of the requantization.

EDGE_SCALES = [2.0**-32, 2.0**-31, 2.0**-24, 0.25, 0.5, 0.75, 1 - 2.0**-24, 0.5 - 2.0**-26]


@st.composite
def requantizations(draw: st.DrawFn, largest: int) -> float:
    """Draw a scale: usual ones map accumulators up to `largest` to some bytes, so that few results are clipped."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(EDGE_SCALES) | st.floats(2.0**-32, 1, exclude_max=True, width=32))
    reach = 2.0 ** draw(st.floats(3, 13))
    return float(np.float32(min(max(reach / max(largest, 1), 2.0**-31), 1 - 2.0**-24)))


@st.composite
def linear(draw: st.DrawFn, op_type: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], **args: Any) -> Case:
    """Draw a layer with weights and bias for these shapes; `args` are its geometry."""
    x = QTensor(draw(filled(x_shape)), 1.0, draw(ZERO_POINTS))
    w_zero_point = draw(ZERO_POINTS)
    weights = draw(filled(w_shape))
    signed = weights.astype(np.int64) - w_zero_point
    largest = int(np.abs(signed).reshape(w_shape[0], -1).sum(axis=1).max()) * 255
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = min(max(1, largest // draw(st.sampled_from([2, 8, 64]))), 2**30)
    bias = rng.integers(-spread, spread + 1, w_shape[0]).astype(np.int32)
    w = QTensor(weights, draw(requantizations(largest)), w_zero_point)
    y_zero_point = draw(ZERO_POINTS)
    assume(not (op_type.endswith("Relu") and y_zero_point == 255))
    inputs = (x, w, QTensor(bias, 1.0))
    return Case(op_type, inputs, {**args, "Y_scale": 1.0, "Y_zero_point": y_zero_point})


CONVOLUTIONS = st.sampled_from(["Int8Conv", "Int8ConvRelu"])
BATCHES = st.integers(1, 3)
CHANNELS = st.integers(1, 70) | st.sampled_from([8, 16, 24, 32, 48, 64])


@st.composite
def pixels(draw: st.DrawFn) -> tuple[int, int]:
    """Draw height and width, 1 to 60 pixels."""
    height = draw(st.integers(1, 12))
    return height, draw(st.integers(1, max(1, 60 // height)))


@st.composite
def pointwise_layers(draw: st.DrawFn) -> Case:
    """Draw a convolution that is a matrix product."""
    depth, channels = draw(CHANNELS), draw(CHANNELS)
    x_shape = (draw(BATCHES), *draw(pixels()), depth)
    return draw(linear(draw(CONVOLUTIONS), x_shape, (channels, 1, 1, depth), kernel=1, order="NHWC"))


@st.composite
def geometries(draw: st.DrawFn, kernels: st.SearchStrategy[int]) -> tuple[tuple[int, int], dict[str, Any]]:
    """Draw an input's height and width, and the windows over it."""
    height, width = draw(pixels())
    square = draw(st.booleans())
    kernel = [draw(kernels)] * 2 if square else [draw(kernels), draw(kernels)]
    dilations = [draw(st.sampled_from([1, 1, 1, 2, 3])) for _ in range(2)]
    strides = [draw(st.integers(1, 3))] * 2 if square else [draw(st.integers(1, 3)), draw(st.integers(1, 3))]
    same = [size // 2 for size in kernel] * 2
    pads = same if draw(st.booleans()) else [draw(st.integers(0, 4)) for _ in range(4)]
    for axis, size in enumerate((height, width)):
        assume(size + pads[axis] + pads[axis + 2] > (kernel[axis] - 1) * dilations[axis])
    args = {"kernels": kernel, "strides": strides, "dilations": dilations, "pads": pads, "order": "NHWC"}
    return (height, width), args


@st.composite
def depthwise_layers(draw: st.DrawFn) -> Case:
    """Draw a convolution with one filter for each channel; 3x3 and 5x5 have kernels of their own."""
    channels = draw(st.integers(2, 70) | st.sampled_from([16, 32, 64, 96]))
    size, args = draw(geometries(st.sampled_from([3, 5, 3, 5, 1, 2, 4, 7])))
    x_shape, w_shape = (draw(BATCHES), *size, channels), (channels, *args["kernels"], 1)
    return draw(linear(draw(CONVOLUTIONS), x_shape, w_shape, group=channels, **args))


@st.composite
def window_layers(draw: st.DrawFn) -> Case:
    """Draw any other convolution: windows, groups, 1x1 with strides or padding."""
    group = draw(st.sampled_from([1, 1, 2, 3]))
    depth, channels = draw(st.integers(1, 70 // group)), draw(st.integers(1, 40))
    size, args = draw(geometries(st.integers(1, 5)))
    x_shape, w_shape = (draw(BATCHES), *size, group * depth), (group * channels, *args["kernels"], depth)
    return draw(linear(draw(CONVOLUTIONS), x_shape, w_shape, group=group, **args))


@st.composite
def fully_connected_layers(draw: st.DrawFn) -> Case:
    """Draw an Int8FC over images or rows."""
    batch, channels = draw(BATCHES), draw(st.integers(1, 70))
    if draw(st.booleans()):
        size, depth = draw(pixels()), draw(st.integers(1, 20))
        return draw(linear("Int8FC", (batch, *size, depth), (channels, size[0] * size[1] * depth)))
    depth = draw(st.integers(1, 1500) | st.sampled_from([1024, 1280]))
    return draw(linear("Int8FC", (batch, depth), (channels, depth)))


# Operators without weights

HALVES = st.sampled_from([0.25, 0.5, 0.75, 1.0, 1.5, 2.0])  # scales with which results lie between two bytes


def power(exponent: float) -> float:
    """Give a scale, a float32."""
    return float(np.float32(2.0**exponent))


@st.composite
def tensors(draw: st.DrawFn, scale: float = 1.0) -> QTensor:
    """Draw an image tensor."""
    shape = (draw(BATCHES), *draw(pixels()), draw(CHANNELS))
    return QTensor(draw(filled(shape)), scale, draw(ZERO_POINTS))


@st.composite
def additions(draw: st.DrawFn) -> Case:
    """Draw a sum; scales over the output's from 2^-14 to 2^8, most of them near 1."""
    op_type = draw(st.sampled_from(["Int8Add", "Int8AddRelu", "Int8Sum", "Int8SumRelu"]))
    scales = HALVES | st.floats(-2, 2).map(power) | st.floats(-14, 7.99).map(power)
    a = draw(tensors(draw(scales)))
    b = QTensor(draw(filled(a.shape)), draw(scales), draw(ZERO_POINTS))
    y_zero_point = draw(ZERO_POINTS)
    assume(not (op_type.endswith("Relu") and y_zero_point == 255))
    return Case(op_type, (a, b), {"Y_scale": 1.0, "Y_zero_point": y_zero_point})


@st.composite
def poolings(draw: st.DrawFn) -> Case:
    """Draw a pooling, over windows or everything; padding may be wider than the window."""
    op_type = draw(st.sampled_from(["Int8AveragePool", "Int8AveragePoolRelu", "Int8MaxPool", "Int8MaxPoolRelu"]))
    x = draw(tensors())
    if draw(st.integers(0, 3)) == 0:
        args: dict[str, Any] = {"global_pooling": 1}
    else:
        kernels = [draw(st.sampled_from([1, 2, 2, 3, 4, 5])), draw(st.sampled_from([2, 2, 3, 4, 5]))]
        pads = [draw(st.sampled_from([0, 0, 1, 2, 6])) for _ in range(4)]
        for axis in (0, 1):
            assume(x.shape[1 + axis] + pads[axis] + pads[axis + 2] >= kernels[axis])
        args = {"kernels": kernels, "strides": [draw(st.integers(1, 3)) for _ in range(2)], "pads": pads}
    if op_type.startswith("Int8Max"):
        return Case(op_type, (x,), {**args, "Y_scale": x.scale, "Y_zero_point": x.zero_point})
    y_scale = draw(HALVES | st.floats(-1, 1).map(power) | st.floats(-7.99, 8).map(power))
    return Case(op_type, (x,), {**args, "Y_scale": y_scale, "Y_zero_point": draw(ZERO_POINTS)})


@st.composite
def tables(draw: st.DrawFn) -> Case:
    """Draw an operator that maps each byte on its own."""
    x = draw(tensors(power(draw(st.floats(-9, 2)))))
    kept = {"Y_scale": x.scale, "Y_zero_point": x.zero_point}
    ratio = 2 ** draw(st.floats(-2, 2))
    leaky = {"Y_scale": x.scale * ratio, "Y_zero_point": draw(BYTE), "alpha": draw(st.floats(0.01, 0.99))}
    unit = {"Y_scale": 1 / 256, "Y_zero_point": 0}
    choices = [("Int8Relu", kept), ("Int8LeakyRelu", leaky), ("Int8Sigmoid", unit), ("Int8Dequantize", {})]
    op_type, args = draw(st.sampled_from(choices))
    return Case(op_type, (x,), args)


@st.composite
def softmaxes(draw: st.DrawFn) -> Case:
    """Draw a softmax, flat or steep, over few or many values."""
    shape = (draw(BATCHES), draw(st.integers(1, 300) | st.just(1001)))
    x = QTensor(draw(filled(shape)), power(draw(st.floats(-12, 3))), draw(ZERO_POINTS))
    return Case("Int8Softmax", (x,), {"Y_scale": 1 / 256, "Y_zero_point": 0})


# What tests/native checks in portions, and tests/fuzz/operators.py for as long as wanted.
STRATEGIES: dict[str, Callable[[], st.SearchStrategy[Case]]] = {
    "pointwise": pointwise_layers,
    "depthwise": depthwise_layers,
    "windows": window_layers,
    "fully connected": fully_connected_layers,
    "add": additions,
    "pool": poolings,
    "table": tables,
    "softmax": softmaxes,
}
