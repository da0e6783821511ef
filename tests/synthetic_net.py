"""Makes an Int8 net of MobileNetV2's shape in code: the graph of the zoo's net, with seeded random weights.

Scales are set while the net is built, by running it on a few seeded pictures with the portable operators, so
that no layer saturates or dies and different pictures get different classes. Deterministic for a seed.

    folder = write_synthetic_net(tmp_path, width=0.25, size=64, classes=10)
    net = load_net(folder)
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from imagequeue_worker.caffe2 import ZOO_SCALING, QTensor, run_operator
from imagequeue_worker.caffe2.arguments import argument_of
from imagequeue_worker.caffe2.netdef import Argument, NetDef, OperatorDef
from imagequeue_worker.caffe2.netdef_writer import write_net
from imagequeue_worker.caffe2.pixels import look_up
from imagequeue_worker.caffe2.tensor import Array

# MobileNetV2: expansion, output channels, repetitions, stride of the first repetition.
BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
INPUT_SCALE, INPUT_ZERO_POINT = 0.018640225753188133, 114


def write_synthetic_net(
    folder: Path, *, seed: int = 0, width: float = 1.0, size: int = 224, classes: int = 1000
) -> Path:
    """Write `init_net.pb` and `predict_net.pb` into the folder, made if missing; return it.

    Args:
        folder: Where to.
        seed: For the weights.
        width: Factor on all channel counts, rounded up to multiples of 8, as in the paper.
        size: Height and width of the input; a multiple of 32, at least 64.
        classes: Number of outputs.
    """
    builder = _Builder(np.random.default_rng(seed), size)
    x = builder.input()
    x = builder.conv(x, _channels(32, width), kernel=3, stride=2, relu=True)
    for expansion, channels, repetitions, first_stride in BLOCKS:
        for repetition in range(repetitions):
            x = builder.block(x, expansion, _channels(channels, width), first_stride if repetition == 0 else 1)
    x = builder.conv(x, _channels(1280, width), relu=True)
    x = builder.pool(x)
    x = builder.classify(x, classes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "init_net.pb").write_bytes(write_net(builder.init_net()))
    (folder / "predict_net.pb").write_bytes(write_net(builder.predict_net(x)))
    return folder


def synthetic_pictures(count: int, size: int, seed: int = 0) -> Array:
    """Make smooth random pictures that a net tells apart: uint8 [count, size, size, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 5, 5, 3)).astype(np.float32)
    places = np.linspace(0, 3.999, size)
    low = places.astype(int)
    part = (places - low).astype(np.float32)
    rows = coarse[:, low] * (1 - part)[:, None, None] + coarse[:, low + 1] * part[:, None, None]
    smooth = rows[:, :, low] * (1 - part)[:, None] + rows[:, :, low + 1] * part[:, None]
    noise = rng.normal(0, 12, smooth.shape)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def _channels(count: int, width: float) -> int:
    return max(8, int(count * width + 7) // 8 * 8)


@dataclass
class _Builder:
    rng: np.random.Generator
    size: int
    fills: list[OperatorDef] = field(default_factory=list)
    ops: list[OperatorDef] = field(default_factory=list)
    # Blobs of the calibration pictures.
    blobs: dict[str, QTensor | Array] = field(default_factory=dict)
    count: int = 0

    def input(self) -> str:
        pictures = synthetic_pictures(8, self.size, seed=12345)
        table = ZOO_SCALING.table(INPUT_SCALE, INPUT_ZERO_POINT)
        self.ops.append(OperatorDef("NCHW2NHWC", ("data",), ("1",)))
        args = (Argument("Y_scale", f=INPUT_SCALE), Argument("Y_zero_point", i=INPUT_ZERO_POINT))
        self.ops.append(OperatorDef("Int8Quantize", ("1",), ("3",), args))
        self.count = 3
        self.blobs["3"] = QTensor(look_up(table, pictures), INPUT_SCALE, INPUT_ZERO_POINT)
        return "3"

    def block(self, x: str, expansion: int, channels: int, stride: int) -> str:
        inner = self._quantized(x).shape[3] * expansion
        y = self.conv(x, inner, relu=True) if expansion > 1 else x
        y = self.conv(y, inner, kernel=3, stride=stride, group=inner, relu=True)
        y = self.conv(y, channels)
        if stride == 1 and self._quantized(x).shape[3] == channels:
            return self._add(x, y)
        return y

    def conv(
        self, x: str, channels: int, *, kernel: int = 1, stride: int = 1, group: int = 1, relu: bool = False
    ) -> str:
        depth = self._quantized(x).shape[3] // group
        weights, bias = self._parameters(x, (channels, kernel, kernel, depth))
        args: dict[str, object] = {
            "kernel": kernel,
            "stride": stride,
            "pad": kernel // 2,
            "order": "NHWC",
        }
        if group > 1:
            args["group"] = group
        y = self._calibrated("Int8Conv", (x, weights, bias), args, relu=relu)
        return self._emit("Int8Relu", (y,), {"order": "NHWC", **self._quantization(y)}) if relu else y

    def pool(self, x: str) -> str:
        kernel = self._quantized(x).shape[1]
        args = {"order": "NHWC", "kernel": kernel, "stride": 1, **self._quantization(x)}
        return self._emit("Int8AveragePool", (x,), args)

    def classify(self, x: str, classes: int) -> str:
        weights, bias = self._classifier(x, classes)
        x = self._calibrated("Int8FC", (x, weights, bias), {"order": "NHWC"}, relu=False)
        quantization = {"Y_scale": 1 / 256, "Y_zero_point": 0}
        x = self._emit("Int8Softmax", (x,), {"order": "NHWC", **quantization})
        # Like the zoo's net, whose external output is not the probabilities but their bytes.
        self._emit("Int8Dequantize", (x,), {}, name="softmax")
        return x

    def _classifier(self, x: str, classes: int) -> tuple[str, str]:
        """Fill weights and a bias that give each class the mean 0 and the deviation 3 over the pictures."""
        blob = self._quantized(x)
        features = blob.data.reshape(len(blob.data), -1).astype(np.int64) - blob.zero_point
        weights = np.clip(np.rint(self.rng.normal(128, 35, (classes, features.shape[1]))), 0, 255).astype(np.uint8)
        products = features @ (weights.astype(np.int64) - 128).T
        bias = -np.rint(products.mean(axis=0)).astype(np.int32)
        scale = float(np.float32(3 / max(1.0, products.std(axis=0).mean()) / blob.scale))
        w = self._fill("Int8GivenTensorFill", weights, scale, 128, Argument("values", s=weights.tobytes()))
        return w, self._bias(bias, x, scale)

    def init_net(self) -> NetDef:
        return NetDef("synthetic_init", tuple(self.fills))

    def predict_net(self, output: str) -> NetDef:
        constants = [name for fill in self.fills for name in fill.outputs]
        return NetDef(
            "synthetic",
            tuple(self.ops),
            (Argument("input_size", ints=(self.size, self.size)),),
            ("data", *constants),
            (output,),
        )

    def _quantized(self, name: str) -> QTensor:
        blob = self.blobs[name]
        assert isinstance(blob, QTensor)
        return blob

    def _quantization(self, name: str) -> dict[str, object]:
        return {"Y_scale": self._quantized(name).scale, "Y_zero_point": self._quantized(name).zero_point}

    def _name(self) -> str:
        self.count += 1
        return str(self.count)

    def _parameters(self, x: str, shape: tuple[int, ...]) -> tuple[str, str]:
        """Fill random weights, a few of them beyond int8 like the zoo's, and a bias."""
        zero_point = int(self.rng.integers(90, 166))
        weights = np.clip(np.rint(self.rng.normal(zero_point, 35, shape)), 0, 255).astype(np.uint8)
        spread = np.sqrt(np.prod(shape[1:])) * 35 * 40
        bias = np.rint(self.rng.normal(0, 0.4 * spread, shape[0])).astype(np.int32)
        scale = float(np.float32(self.rng.uniform(0.003, 0.012)))
        w = self._fill("Int8GivenTensorFill", weights, scale, zero_point, Argument("values", s=weights.tobytes()))
        return w, self._bias(bias, x, scale)

    def _bias(self, bias: Array, x: str, scale: float) -> str:
        values = Argument("values", ints=tuple(int(value) for value in bias))
        product = float(np.float32(scale) * np.float32(self._quantized(x).scale))
        return self._fill("Int8GivenIntTensorFill", bias, product, 0, values)

    def _fill(self, op_type: str, data: Array, scale: float, zero_point: int, values: Argument) -> str:
        name = self._name()
        args = (
            Argument("shape", ints=data.shape),
            values,
            Argument("Y_scale", f=scale),
            Argument("Y_zero_point", i=zero_point),
        )
        self.fills.append(OperatorDef(op_type, (), (name,), args))
        self.blobs[name] = QTensor(data, scale, zero_point)
        return name

    def _calibrated(self, op_type: str, inputs: tuple[str, str, str], args: dict[str, object], *, relu: bool) -> str:
        """Emit a layer with the output range that its results on the calibration pictures need."""
        product = self._quantized(inputs[0]).scale * self._quantized(inputs[1]).scale
        # Coarser and coarser, until nothing saturates; then the range is cut to 99.9 % of the values.
        coarse = product * 1.01
        for _ in range(24):
            blob = self._run(op_type, inputs, {**args, "Y_scale": coarse, "Y_zero_point": 128})
            if np.isin(blob.data, (0, 255)).mean() < 0.001:
                break
            coarse *= 2
        real = (blob.data.astype(np.float64) - 128) * coarse
        low, high = np.quantile(real, (0.0005, 0.9995))
        low = 0.0 if relu else min(low, 0.0)
        y_scale = max((max(high, 0.0) - low) / 255, product * 1.01)
        y_zero_point = int(np.clip(np.rint(-low / y_scale), 0, 254))
        return self._emit(op_type, inputs, {**args, "Y_scale": y_scale, "Y_zero_point": y_zero_point})

    def _add(self, a: str, b: str) -> str:
        sums = sum(
            (blob.data.astype(np.float64) - blob.zero_point) * blob.scale
            for blob in (self._quantized(a), self._quantized(b))
        )
        low, high = np.quantile(sums, (0.0005, 0.9995))
        y_scale = float((max(high, 0.0) - min(low, 0.0)) / 255)
        zero_point = int(np.clip(np.rint(-min(low, 0.0) / y_scale), 0, 255))
        return self._emit("Int8Sum", (b, a), {"Y_scale": y_scale, "Y_zero_point": zero_point, "order": "NHWC"})

    def _run(self, op_type: str, inputs: tuple[str, ...], args: dict[str, object]) -> QTensor:
        (result,) = self._outputs(op_type, inputs, args)
        assert isinstance(result, QTensor)
        return result

    def _outputs(self, op_type: str, inputs: tuple[str, ...], args: dict[str, object]) -> list[QTensor | Array]:
        return run_operator(op_type, [self.blobs[name] for name in inputs], args)

    def _emit(self, op_type: str, inputs: tuple[str, ...], args: dict[str, object], name: str = "") -> str:
        name = name or self._name()
        (self.blobs[name],) = self._outputs(op_type, inputs, args)
        self.ops.append(
            OperatorDef(op_type, inputs, (name,), tuple(argument_of(key, value) for key, value in args.items()))
        )
        return name
