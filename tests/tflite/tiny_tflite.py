"""Small uint8 nets as .tflite files: every operator that is converted, on 10 x 10 pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tflite.flatbuffer_writer import Scalar, Table, Vector, write

FLOAT32, INT32, UINT8, INT8 = 0, 2, 3, 9
ADD, AVERAGE_POOL_2D, CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED = 0, 1, 3, 4, 9
MAX_POOL_2D, RELU, RELU6, RESHAPE, SOFTMAX, CUSTOM, MEAN, SQUEEZE, HARD_SWISH = 17, 19, 21, 22, 25, 32, 40, 43, 117
NONE, FUSED_RELU, FUSED_RELU_N1, FUSED_RELU6, FUSED_TANH = range(5)
SAME, VALID = 0, 1
SIX = float(np.float32(6 / 255))


Pair = int | tuple[int, int]
"""Height and width, one number where they are equal."""


def both(pair: Pair) -> tuple[int, int]:
    return pair if isinstance(pair, tuple) else (pair, pair)


def byte(value: int) -> Scalar:
    return Scalar("b", value)


def number(value: int) -> Scalar:
    return Scalar("i", value)


@dataclass
class TinyNet:
    """A graph in the making; methods return tensor numbers. `tensors[n]` may be changed before `file()`."""

    seed: int = 0
    tensors: list[Table] = field(default_factory=list)
    buffers: list[Table] = field(default_factory=lambda: [{}])
    operators: list[Table] = field(default_factory=list)
    codes: list[Table] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    inputs: list[int] = field(default_factory=lambda: [0])
    outputs: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        scale: float | list[float] = 1.0,
        zero_point: int = 0,
        kind: int = UINT8,
        data: Any = None,
    ) -> int:
        scales = scale if isinstance(scale, list) else [scale]
        buffer = 0
        if data is not None:
            buffer = len(self.buffers)
            self.buffers.append({0: np.asarray(data).tobytes()})
        self.tensors.append(
            {
                0: Vector("i", list(shape)),
                1: byte(kind),
                2: Scalar("I", buffer),
                3: name,
                4: {2: Vector("f", scales), 3: Vector("q", [zero_point] * len(scales))},
            }
        )
        self.shapes.append(shape)
        return len(self.tensors) - 1

    def operator(
        self, code: int, inputs: list[int], output: int, union: int = 0, options: Table | None = None, custom: str = ""
    ) -> int:
        self.codes.append({0: byte(min(code, 127)), 3: number(code), 2: number(1)} | ({1: custom} if custom else {}))
        table: Table = {
            0: Scalar("I", len(self.codes) - 1),
            1: Vector("i", list(inputs)),
            2: Vector("i", [output]),
        }
        if options is not None:
            table |= {3: Scalar("B", union), 4: options}
        self.operators.append(table)
        self.outputs = [output]
        return output

    def parameters(self, name: str, shape: tuple[int, ...], channels: int, scale: float, xs: float) -> tuple[int, int]:
        """Weights with zero point 131, bias in units of the products."""
        weights = self.tensor(
            f"{name}/weights", shape, scale, 131, data=self.random.integers(0, 256, shape).astype(np.uint8)
        )
        bias = self.tensor(
            f"{name}/bias", (channels,), float(np.float32(xs) * np.float32(scale)), kind=INT32,
            data=self.random.integers(-3000, 3000, channels).astype(np.int32),
        )  # fmt: skip
        return weights, bias

    def conv(
        self, x: int, xs: float, channels: int, shape: tuple[int, ...], kernel: Pair, stride: Pair = 1,
        activation: int = FUSED_RELU6, ys: float = SIX, yz: int = 0, ws: float = 0.004, padding: int = SAME,
        dilation: Pair = 1,
    ) -> int:  # fmt: skip
        name = f"conv_{len(self.operators)}"
        w, b = self.parameters(name, (channels, *both(kernel), self.shapes[x][3]), channels, ws, xs)
        y = self.tensor(f"{name};joined", shape, ys, yz)
        options: Table = {0: byte(padding), 1: number(both(stride)[1]), 2: number(both(stride)[0]), 3: byte(activation)}
        options |= {4: number(both(dilation)[1]), 5: number(both(dilation)[0])}
        return self.operator(CONV_2D, [x, w, b], y, 1, options)

    def depthwise(
        self, x: int, xs: float, multiplier: int, shape: tuple[int, ...], kernel: int = 3, stride: int = 1,
        activation: int = FUSED_RELU6, ys: float = SIX, yz: int = 0, ws: float = 0.03,
    ) -> int:  # fmt: skip
        name = f"depthwise_{len(self.operators)}"
        channels = self.shapes[x][3] * multiplier
        w, b = self.parameters(name, (1, kernel, kernel, channels), channels, ws, xs)
        y = self.tensor(name, shape, ys, yz)
        options: Table = {0: byte(SAME), 1: number(stride), 2: number(stride), 3: number(multiplier)}
        return self.operator(DEPTHWISE_CONV_2D, [x, w, b], y, 2, options | {4: byte(activation)})

    def pool(
        self, code: int, x: int, kernel: Pair, shape: tuple[int, ...], stride: Pair = 1, padding: int = VALID,
        scale: float = SIX, zero_point: int = 0,
    ) -> int:  # fmt: skip
        y = self.tensor(f"pool_{len(self.operators)}", shape, scale, zero_point)
        sizes: Table = {1: number(both(stride)[1]), 2: number(both(stride)[0])}
        sizes |= {3: number(both(kernel)[1]), 4: number(both(kernel)[0])}
        return self.operator(code, [x], y, 5, {0: byte(padding), **sizes, 5: byte(NONE)})

    def add(self, a: int, b: int, scale: float, zero_point: int, activation: int = NONE) -> int:
        y = self.tensor(f"add_{len(self.operators)}", self.shapes[a], scale, zero_point)
        return self.operator(ADD, [a, b], y, 11, {0: byte(activation)})

    def fully_connected(
        self, x: int, xs: float, channels: int, ys: float = 0.1, yz: int = 60, activation: int = NONE, ws: float = 0.004
    ) -> int:
        depth = int(np.prod(self.shapes[x][1:]))
        w, b = self.parameters(f"fc_{len(self.operators)}", (channels, depth), channels, ws, xs)
        y = self.tensor(f"fc_{len(self.operators)}", (1, channels), ys, yz)
        return self.operator(FULLY_CONNECTED, [x, w, b], y, 8, {0: byte(activation)})

    def mean(self, x: int, shape: tuple[int, ...], scale: float = SIX, zero_point: int = 0) -> int:
        axes = self.tensor("axes", (2,), [], kind=INT32, data=np.array([1, 2], np.int32))
        y = self.tensor("mean", shape, scale, zero_point)
        return self.operator(MEAN, [x, axes], y, 27, {0: byte(len(shape) == 4)})

    def reshape(self, x: int, shape: tuple[int, ...], scale: float, zero_point: int, code: int = RESHAPE) -> int:
        y = self.tensor(f"reshape_{len(self.operators)}", shape, scale, zero_point)
        if code == SQUEEZE:
            return self.operator(code, [x], y, 30, {0: Vector("i", [1, 2])})
        wanted = self.tensor("shape", (len(shape),), [], kind=INT32, data=np.array(shape, np.int32))
        return self.operator(code, [x, wanted], y)

    def softmax(self, x: int, beta: float = 1.0, scale: float = 1 / 256) -> int:
        y = self.tensor("softmax", self.shapes[x], scale)
        return self.operator(SOFTMAX, [x], y, 9, {0: Scalar("f", beta)})

    def model(self) -> Table:
        graph: Table = {
            0: self.tensors,
            1: Vector("i", list(self.inputs)),
            2: Vector("i", list(self.outputs)),
            3: self.operators,
        }
        return {0: Scalar("I", 3), 1: self.codes, 2: [graph], 3: "made by a test", 4: self.buffers}

    def file(self) -> bytes:
        return write(self.model())


def picture(net: TinyNet, size: int = 10, channels: int = 3) -> int:
    return net.tensor("input", (1, size, size, channels), 1 / 128, 128)


def mobile_net(seed: int = 0, multiplier: int = 2) -> TinyNet:
    """A MobileNetV2 in small: asymmetric padding, a depthwise multiplier, a residual, average pool, 1x1 logits."""
    net = TinyNet(seed)
    x = net.conv(picture(net), 1 / 128, 6, (1, 5, 5, 6), 3, stride=2)
    x = net.depthwise(x, SIX, multiplier, (1, 5, 5, 6 * multiplier))
    a = net.conv(x, SIX, 4, (1, 5, 5, 4), 1, activation=NONE, ys=0.05, yz=120)
    b = net.conv(a, 0.05, 4, (1, 5, 5, 4), 3, activation=NONE, ys=0.07, yz=131)
    c = net.add(a, b, 0.09, 127)
    x = net.conv(c, 0.09, 16, (1, 5, 5, 16), 1)
    x = net.pool(AVERAGE_POOL_2D, x, 5, (1, 1, 1, 16))
    x = net.conv(x, SIX, 7, (1, 1, 1, 7), 1, activation=NONE, ys=0.1, yz=60)
    net.softmax(net.reshape(x, (1, 7), 0.1, 60))
    return net


def oblong_net(seed: int = 0) -> TinyNet:
    """Heights that differ from widths, in kernels, strides, dilations and padding."""
    net = TinyNet(seed)
    x = net.conv(picture(net, 11), 1 / 128, 8, (1, 11, 6, 8), (2, 5), stride=(1, 2), dilation=(3, 1))
    x = net.pool(MAX_POOL_2D, x, (3, 2), (1, 6, 6, 8), stride=(2, 1), padding=SAME)
    x = net.conv(x, SIX, 5, (1, 3, 5, 5), (4, 2), padding=VALID)
    x = net.pool(AVERAGE_POOL_2D, x, (3, 5), (1, 1, 1, 5))
    net.softmax(net.reshape(x, (1, 5), SIX, 0))
    return net


def other_net(seed: int = 0) -> TinyNet:
    """What MobileNets have not: max pool, Relu alone and fused, dilation, fully connected, squeeze."""
    net = TinyNet(seed)
    x = net.conv(picture(net), 1 / 128, 8, (1, 10, 10, 8), 3, activation=FUSED_RELU, ys=0.05, yz=3, dilation=2)
    x = net.pool(MAX_POOL_2D, x, 3, (1, 5, 5, 8), stride=2, padding=SAME, scale=0.05, zero_point=3)
    x = net.depthwise(x, 0.05, 1, (1, 3, 3, 8), stride=2, activation=NONE, ys=0.06, yz=100)
    x = net.operator(RELU, [x], net.tensor("relu", (1, 3, 3, 8), 0.06, 100))
    x = net.pool(AVERAGE_POOL_2D, x, 3, (1, 1, 1, 8), scale=0.06, zero_point=100)
    x = net.reshape(x, (1, 8), 0.06, 100, SQUEEZE)
    x = net.fully_connected(x, 0.06, 12, ys=0.04, yz=20, activation=FUSED_RELU)
    net.softmax(net.fully_connected(x, 0.04, 5))
    return net
