"""Small random nets: chains and residual blocks, with operators that have no kernel in between.

    folder = write_random_net(tmp_path, seed=3, steps=["conv", "residual", "shuffle"])

Scales are chosen so that bytes spread over their range and depend on the picture: a wrong byte is seen at the end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from imagequeue_worker.caffe2.arguments import Arguments, argument_of
from imagequeue_worker.caffe2.netdef import Argument, NetDef, OperatorDef
from imagequeue_worker.caffe2.netdef_writer import write_net
from imagequeue_worker.caffe2.operators import check_operator
from imagequeue_worker.caffe2.tensor import Array, TensorSpec

INPUT_SCALE, INPUT_ZERO_POINT = 0.02, 114
LARGEST = 4000  # elements of a blob: a picture of 16 x 16 in 15 channels


@dataclass
class Builder:
    """A net that grows; each step takes the newest blob and leaves another one, `x`."""

    rng: np.random.Generator
    x: str = ""
    blobs: dict[str, TensorSpec] = field(default_factory=dict)
    fills: list[OperatorDef] = field(default_factory=list)
    ops: list[OperatorDef] = field(default_factory=list)
    images: list[str] = field(default_factory=list)  # earlier blobs that may be read again

    @property
    def spec(self) -> TensorSpec:
        return self.blobs[self.x]

    def emit(
        self, op_type: str, inputs: Sequence[str], *, outputs: int = 1, in_place: bool = True, **args: object
    ) -> str:
        """Append an operator; returns its first output's name, now and then that of the input of a Relu."""
        names = [f"b{len(self.blobs) + i}" for i in range(outputs)]
        specs = [self.blobs[name] for name in inputs]
        operator = check_operator(specs, Arguments(op_type, [argument_of(n, v) for n, v in args.items()]))
        if op_type == "Int8Relu" and in_place and self.rng.random() < 0.5:
            names = [inputs[0]]
        self.blobs.update(zip(names, operator.outputs, strict=False))
        arguments = tuple(argument_of(name, value) for name, value in args.items())
        self.ops.append(OperatorDef(op_type, tuple(inputs), tuple(names), arguments))
        return names[0]

    def kept(self, name: str = "") -> dict[str, object]:
        spec = self.blobs[name or self.x]
        return {"Y_scale": spec.scale, "Y_zero_point": spec.zero_point}

    def constant(self, op_type: str, data: Array, scale: float, zero_point: int, values: Argument) -> str:
        name = f"c{len(self.fills)}"
        args = [Argument("shape", ints=data.shape), values, argument_of("Y_scale", scale)]
        self.fills.append(OperatorDef(op_type, (), (name,), (*args, argument_of("Y_zero_point", zero_point))))
        kind = "int8" if data.dtype == np.uint8 else "int32"
        self.blobs[name] = TensorSpec(kind, data.shape, float(np.float32(scale)), zero_point, data)
        return name

    def layer(
        self, op_type: str, x: str, shape: tuple[int, ...], *, relu: bool = False, scale: float = 0.0, **args: object
    ) -> str:
        """Append a layer whose outputs spread over some 200 bytes; a few of its weights are beyond int8.

        With `scale` the output has about this scale, else one that is left to chance.
        """
        rng, spec = self.rng, self.blobs[x]
        zero_point = int(rng.integers(70, 186))
        weights = np.clip(np.rint(rng.normal(zero_point, 45, shape)), 0, 255).astype(np.uint8)
        weights[rng.random(shape) < 0.01] = rng.choice([0, 255])
        spread = 45 * 55 * np.sqrt(np.prod(shape[1:]))
        scale = float(np.float32(scale * 51 / spread / spec.scale or rng.uniform(0.003, 0.01)))
        w = self.constant("Int8GivenTensorFill", weights, scale, zero_point, Argument("values", s=weights.tobytes()))
        offsets = np.rint(rng.normal(0, spread / 3, shape[0])).astype(np.int32)
        values = Argument("values", ints=tuple(int(value) for value in offsets))
        b = self.constant("Int8GivenIntTensorFill", offsets, scale * spec.scale, 0, values)
        y_scale = max(spec.scale * scale * spread * 5 / 255, spec.scale * scale * 1.01)
        y_zero_point = int(rng.choice([0, 3, 60])) if relu else int(rng.integers(90, 166))
        return self.emit(op_type, (x, w, b), **args, Y_scale=y_scale, Y_zero_point=y_zero_point)


# Steps


def convolution(net: Builder, x: str, channels: int, kernel: int = 1, relu: bool = True, **args: object) -> str:
    group = int(args.get("group", 1))  # type: ignore[call-overload]
    depth = net.blobs[x].shape[3] // group
    fused = relu and net.rng.random() < 0.3
    geometry = {"kernel": kernel, "pad": kernel // 2, "order": "NHWC", **args}
    op_type = "Int8ConvRelu" if fused else "Int8Conv"
    y = net.layer(op_type, x, (channels, kernel, kernel, depth), relu=relu, **geometry)
    return net.emit("Int8Relu", (y,), order="NHWC", **net.kept(y)) if relu and not fused else y


def conv(net: Builder) -> str:
    most = max(1, LARGEST // max(1, net.spec.size // net.spec.shape[3]))
    return convolution(net, net.x, int(net.rng.integers(1, min(most, 40) + 1)), relu=bool(net.rng.random() < 0.7))


def wide_conv(net: Builder) -> str:
    return convolution(net, net.x, int(net.rng.integers(1, 12)), int(net.rng.choice([3, 5])), relu=False)


def strided_conv(net: Builder) -> str:
    return convolution(net, net.x, int(net.rng.integers(2, 24)), 3, stride=2)


def depthwise(net: Builder) -> str:
    channels, stride = net.spec.shape[3], int(net.rng.integers(1, 3))
    return convolution(net, net.x, channels, int(net.rng.choice([3, 5])), group=channels, stride=stride)


def residual(net: Builder) -> str:
    """Expand, filter, project and add what came in: a blob that is read twice."""
    x, channels = net.x, net.spec.shape[3]
    y = convolution(net, x, 2 * channels)
    y = convolution(net, y, 2 * channels, 3, group=2 * channels)
    return add(net, x, convolution(net, y, channels, relu=False))


def add(net: Builder, a: str, b: str) -> str:
    y_scale = 1.2 * max(net.blobs[a].scale, net.blobs[b].scale)
    if not all(net.blobs[name].scale / y_scale >= 2**-14 for name in (a, b)):
        return b
    op_type = str(net.rng.choice(["Int8Add", "Int8Sum", "Int8AddRelu"]))
    return net.emit(op_type, (str(a), str(b)), Y_scale=y_scale, Y_zero_point=int(net.rng.integers(0, 200)))


def skip(net: Builder) -> str:
    """Add an earlier blob of this shape, the quantized picture included; if there is none, the blob itself."""
    same = [name for name in net.images if net.blobs[name].shape == net.spec.shape]
    return add(net, *net.rng.permutation([str(net.rng.choice(same)) if same else net.x, net.x]))


def picture(net: Builder) -> str:
    """Add the quantized picture itself behind an operator without a kernel, where the size is still the picture's."""
    if net.spec.shape[1:3] != net.blobs["b0"].shape[1:3]:
        return net.x
    net.x = convolution(net, net.x, 3, relu=False)
    return add(net, *net.rng.permutation([turn(net), "b0"]))


def concat(net: Builder) -> str:
    """Join a blob with what a Relu and a pooling make of it: all of one scale and zero point."""
    x, kept = net.x, net.kept()
    pooled = net.emit("Int8MaxPool", (x,), kernel=3, pad=1, order="NHWC", **kept)
    # Not in place: the blob is read again.
    names = (x, pooled) if net.rng.random() < 0.5 else (pooled, x, pooled)
    return net.emit("Int8Concat", names, outputs=2, order="NHWC", **kept)


def average(net: Builder) -> str:
    scale = net.spec.scale * float(net.rng.uniform(0.5, 1.0))
    zero_point = int(net.rng.integers(0, 200))
    return net.emit("Int8AveragePool", (net.x,), kernel=3, pad=1, stride=2, Y_scale=scale, Y_zero_point=zero_point)


def late_relu(net: Builder) -> str:
    """Clip what a convolution wrote, seen through reshapes, and add one of the blobs that must not be clipped."""
    blobs = [convolution(net, net.x, net.spec.shape[3], relu=False)]
    for _ in range(net.rng.integers(0, 3)):
        kept = net.kept(blobs[-1])
        blobs.append(net.emit("Int8Reshape", blobs[-1:], outputs=2, shape=[0, *net.spec.shape[1:]], **kept))
    y = net.emit("Int8Relu", blobs[-1:], in_place=False, order="NHWC", **net.kept(blobs[-1]))
    return add(net, str(net.rng.choice(blobs)), y)


def dead_end(net: Builder) -> str:
    """Append an operator that nobody reads."""
    convolution(net, net.x, 3, relu=False)
    return net.x


def turn(net: Builder) -> str:
    return net.emit("Int8Transpose", (net.x,), axes=[0, 2, 1, 3], **net.kept())


def shuffle(net: Builder) -> str:
    groups = [g for g in (2, 3, 5) if net.spec.shape[3] % g == 0]
    return net.emit("Int8ChannelShuffle", (net.x,), group=groups[0], kernel=1, **net.kept()) if groups else net.x


def resize(net: Builder) -> str:
    if net.spec.size > LARGEST // 4:
        return net.x
    return net.emit("Int8ResizeNearest", (net.x,), width_scale=2.0, height_scale=2.0, **net.kept())


def cut(net: Builder) -> str:
    """Drop the last row, where there are several."""
    ends = [-1, net.spec.shape[1] - 1 if net.spec.shape[1] > 1 else -1, -1, -1]
    return net.emit("Int8Slice", (net.x,), starts=[0, 0, 0, 0], ends=ends, **net.kept())


def reshape(net: Builder) -> str:
    """Swap height and width in name only: no byte moves."""
    _, height, width, channels = net.spec.shape
    return net.emit("Int8Reshape", (net.x,), outputs=2, shape=[0, width, height, channels], **net.kept())


def leaky(net: Builder) -> str:
    return net.emit("Int8LeakyRelu", (net.x,), alpha=0.1, **net.kept())


def sigmoid(net: Builder) -> str:
    return net.emit("Int8Sigmoid", (net.x,), Y_scale=1 / 256, Y_zero_point=0)


STEPS: dict[str, Callable[[Builder], str]] = {
    each.__name__: each
    for each in (
        *(conv, wide_conv, strided_conv, depthwise, residual, skip, average, leaky, sigmoid),
        *(late_relu, picture, dead_end),
        *(concat, turn, shuffle, resize, cut, reshape),  # without a kernel
    )
}


def write_random_net(
    folder: Path, *, seed: int, steps: Sequence[str], size: int = 12, mixing: bool = False, transposed: bool = True
) -> Path:
    """Write a net into the folder, made if missing; return it.

    Args:
        folder: Where to.
        seed: For weights and for what the steps choose.
        steps: Names out of `STEPS`.
        size: Height and width of the pictures.
        mixing: Make rows of all pixels of all images in front of the classifier: the batch is no longer the first
            dimension.
        transposed: Take NCHW, as Caffe2's nets do.
    """
    net = Builder(np.random.default_rng(seed))
    quantized = TensorSpec("int8", (1, size, size, 3), float(np.float32(INPUT_SCALE)), INPUT_ZERO_POINT)
    net.x = "b0"
    net.blobs["b0"] = quantized
    source = "nhwc" if transposed else "data"
    if transposed:
        net.ops.append(OperatorDef("NCHW2NHWC", ("data",), ("nhwc",)))
    args = tuple(argument_of(name, value) for name, value in net.kept().items())
    net.ops.append(OperatorDef("Int8Quantize", (source,), ("b0",), args))
    for step in steps:
        net.images.append(net.x)
        net.x = STEPS[step](net)
    if mixing:
        net.x = net.emit("Int8Reshape", (net.x,), outputs=2, shape=[-1, net.spec.shape[3]], **net.kept())
    # Probabilities from 1 down to e^-10 and not one class alone.
    net.x = net.layer("Int8FC", net.x, (7, net.spec.size // net.spec.shape[0]), scale=0.04)
    net.x = net.emit("Int8Softmax", (net.x,), Y_scale=1 / 256, Y_zero_point=0)
    net.ops.append(OperatorDef("Int8Dequantize", (net.x,), ("softmax",)))
    constants = tuple(name for fill in net.fills for name in fill.outputs)
    carried = (Argument("input_size", ints=(size, size)),)
    predict = NetDef(f"random {seed}", tuple(net.ops), carried, ("data", *constants), ("softmax",))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "init_net.pb").write_bytes(write_net(NetDef("constants", tuple(net.fills))))
    (folder / "predict_net.pb").write_bytes(write_net(predict))
    return folder
