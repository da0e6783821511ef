"""The loop over the layers: teacher and student side by side, so that each step sees the errors made before it.

At each layer with weights: outputs of the teacher, patches of the student's inputs at sampled places, range of the
output, range of the weights, rounding, bias, integers; then the student runs the finished Int8 operator.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imagequeue_worker.caffe2.operators import Scratch
from imagequeue_worker.caffe2.pixels import PixelScaling, look_up
from imagequeue_worker.caffe2.tensor import Array

from .bias import corrected_bias
from .blobs import Blob, Map, study, teach, threads_map
from .errors import InvalidCalibration, InvalidModel
from .integers import Int8Layer, integer_constants, wide_enough, window_args
from .layers import Activation, Add, Conv, FloatNet, Layer, Linear, Pool
from .patches import grouped, grouped_weights, output_size, padded, windows
from .ranges import (
    Quantization,
    activation_quantization,
    average_quantization,
    input_quantization,
    logit_quantization,
    weight_quantization,
)
from .rounding import round_with_feedback, second_moments

# Input patches that a layer's rounding and bias see; more change nothing (QUANTIZE.md).
SAMPLED_PATCHES = 20_000
# Values that are multiplied at a time.
BLOCK = 1 << 21


@dataclass(frozen=True, slots=True)
class LayerReport:
    """How one layer came out. `error`: of its outputs, root mean square, as a share of the float net's."""

    name: str
    op_type: str
    quantization: Quantization
    error: float
    widened: bool = False


@dataclass(frozen=True)
class QuantizedNet:
    """An Int8 net, ready to be written, and how it compares with its float net on the calibration pictures."""

    input_shape: tuple[int, int, int]
    input: Quantization
    input_name: str
    layers: tuple[Int8Layer, ...]
    reports: tuple[LayerReport, ...]
    teacher_logits: Array
    student_logits: Array

    @property
    def agreement(self) -> float:
        """On which share of the calibration pictures both nets have the same best class."""
        return float(np.mean(self.teacher_logits.argmax(axis=1) == self.student_logits.argmax(axis=1)))


def quantize_net(
    net: FloatNet,
    pixels: Array,
    scaling: PixelScaling,
    *,
    seed: int = 0,
    threads: int = 1,
    progress: Callable[[LayerReport, int], None] | None = None,
) -> QuantizedNet:
    """Quantize a folded net.

    Args:
        net: What `fold` gave, its channels in the order of the pixels.
        pixels: Calibration pictures, uint8 [N, H, W, C].
        scaling: Mean and deviation of the pixels.
        seed: Chooses the sampled places.
        threads: Pictures at a time; changes no byte.
        progress: Told each layer's report and how many layers there are.

    Raises:
        InvalidCalibration: No pictures, or of another size.
        InvalidModel, InvalidOperator: Scales or shapes that Caffe2 refuses.
    """
    if pixels.dtype != np.uint8 or pixels.shape[1:] != net.input_shape or len(pixels) == 0:
        raise InvalidCalibration(
            f"calibration pictures are {pixels.dtype} {list(pixels.shape)}; must be uint8 {['N', *net.input_shape]}, "
            "N at least 1"
        )
    with threads_map(threads) as each:
        return _Quantizer(net, pixels, scaling, seed, each).run(progress)


class _Quantizer:
    def __init__(self, net: FloatNet, pixels: Array, scaling: PixelScaling, seed: int, each: Map) -> None:
        self.net, self.seed, self.each, self.scratch = net, seed, each, Scratch()
        self.entry = input_quantization(scaling)
        quantized = look_up(scaling.table(self.entry.scale, self.entry.zero_point), pixels)
        self.blobs = {net.input: Blob(scaling.apply(pixels), quantized, self.entry)}
        last = {name: layer.name for layer in net.layers for name in layer.inputs}
        self.frees: dict[str, list[str]] = {layer.name: [] for layer in net.layers}
        for name, reader in last.items():
            self.frees[reader].append(name)

    def run(self, progress: Callable[[LayerReport, int], None] | None) -> QuantizedNet:
        layers, reports = [], []
        for number, layer in enumerate(self.net.layers):
            int8, widened = self._layer(layer, np.random.default_rng([self.seed, number]))
            for name in self.frees[layer.name]:
                del self.blobs[name]
            blob = self.blobs[layer.name]
            reports.append(LayerReport(layer.name, int8.op_type, blob.quantization, blob.error(), widened))
            layers.append(int8)
            if progress is not None:
                progress(reports[-1], len(self.net.layers))
        logits = self.blobs[self.net.output]
        return QuantizedNet(
            self.net.input_shape,
            self.entry,
            self.net.input,
            tuple(layers),
            tuple(reports),
            logits.teacher.reshape(len(logits.teacher), -1),
            logits.student.reshape(len(logits.student), -1),
        )

    def _layer(self, layer: Layer, rng: np.random.Generator) -> tuple[Int8Layer, bool]:
        inputs = [self.blobs[name] for name in layer.inputs]
        teacher = teach(layer, inputs, self.each)
        if not np.isfinite(extremes(teacher)).all():
            raise InvalidModel(f"{layer.name} computes NaN or infinity; check the model's weights and the scaling")
        if isinstance(layer, Conv | Linear):
            int8, widened = self._weighted(layer, inputs[0], teacher, rng)
        else:
            int8, widened = self._plain(layer, inputs[0].quantization, teacher), False
        student = study(int8, inputs, self.each, self.scratch)
        self.blobs[layer.name] = Blob(teacher, student, int8.output)
        return int8, widened

    def _weighted(
        self, layer: Conv | Linear, x: Blob, teacher: Array, rng: np.random.Generator
    ) -> tuple[Int8Layer, bool]:
        """Quantize a layer with weights."""
        group = layer.group if isinstance(layer, Conv) else 1
        patches, targets = samples(layer, x, teacher, rng)
        w = weight_quantization(layer.weights)
        output = self._output(layer, targets, teacher)
        wide = wide_enough(output, x.quantization, w)
        real = grouped_weights(layer.weights, group)
        rounded = round_with_feedback(real, second_moments(patches, x.quantization.zero_point), w)
        sums = products(patches, rounded, x.quantization, w)
        bias = corrected_bias(targets, sums, layer.bias, layer.clip)
        constants = integer_constants(rounded.reshape(layer.weights.shape), w, bias, x.quantization)
        op_type, args = ("Int8FC", {})
        if isinstance(layer, Conv):
            op_type = "Int8Conv" if layer.clip == "none" else "Int8ConvRelu"
            args = window_args(layer.window) | ({"group": group} if group > 1 else {})
        return Int8Layer(op_type, layer.name, layer.inputs, wide, args, constants), wide != output

    def _output(self, layer: Conv | Linear, targets: Array, teacher: Array) -> Quantization:
        low, high = extremes(teacher)
        if layer.name == self.net.output:
            return logit_quantization(low, high)
        return activation_quantization(targets, low, high, layer.clip)

    def _plain(self, layer: Layer, x: Quantization, teacher: Array) -> Int8Layer:
        """Quantize a layer without weights."""
        low, high = extremes(teacher)
        match layer:
            case Add():
                output = activation_quantization(teacher, low, high, layer.clip)
                return Int8Layer("Int8Add" if layer.clip == "none" else "Int8AddRelu", layer.name, layer.inputs, output)
            case Pool():
                args = window_args(layer.window) if layer.window else {"global_pooling": 1}
                output = x if layer.kind == "max" else average_quantization(low, high)
                op_type = "Int8MaxPool" if layer.kind == "max" else "Int8AveragePool"
                return Int8Layer(op_type, layer.name, layer.inputs, output, args)
            case Activation(clip="relu"):
                return Int8Layer("Int8Relu", layer.name, layer.inputs, x)
        raise InvalidModel(
            f"{layer.name} is a ReLU6 of a blob that others read too, or of no sum; Int8 nets clip where they add up"
        )


def extremes(values: Array) -> tuple[float, float]:
    """Return the least and the largest value."""
    return float(values.min()), float(values.max())


def samples(layer: Conv | Linear, x: Blob, teacher: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Take the student's input patches, uint8 [n, groups, K], and the teacher's outputs, [n, M], of random places."""
    if isinstance(layer, Linear):
        return x.student.reshape(len(x.student), 1, -1), teacher
    height, width = output_size(layer.window, *x.student.shape[1:3])
    count = min(height * width, -(-SAMPLED_PATCHES // len(x.student)))
    depth = layer.weights[0].size
    patches = np.empty((len(x.student) * count, layer.group, depth), np.uint8)
    targets = np.empty((len(patches), len(layer.weights)), np.float32)
    for number, (picture, outputs) in enumerate(zip(x.student, teacher, strict=True)):
        places = np.sort(rng.choice(height * width, count, replace=False))
        view = windows(padded(picture, layer.window, x.quantization.zero_point), layer.window)
        part = slice(number * count, (number + 1) * count)
        patches[part] = grouped(view[places // width, places % width], layer.group)
        targets[part] = outputs.reshape(height * width, -1)[places]
    return patches, targets


def products(patches: Array, weights: Array, x: Quantization, w: Quantization) -> Array:
    """Multiply patches, uint8 [n, groups, K], with weights, uint8 [groups, M, K]: float32 [n, groups * M], real units.

    The integers are summed exactly, in float64.
    """
    signed = (weights.astype(np.float64) - w.zero_point).transpose(0, 2, 1)
    result = np.empty((len(patches), weights.shape[0] * weights.shape[1]), np.float32)
    rows = max(1, BLOCK // patches[0].size)
    for first in range(0, len(patches), rows):
        part = patches[first : first + rows].transpose(1, 0, 2).astype(np.float64) - x.zero_point
        sums = (part @ signed).transpose(1, 0, 2)
        result[first : first + rows] = sums.reshape(len(sums), -1) * (x.scale * w.scale)
    return result
