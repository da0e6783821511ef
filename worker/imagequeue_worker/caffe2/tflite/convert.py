"""The whole way: the bytes of a .tflite file -> init_net, predict_net, and what a caller must know of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from imagequeue_worker.caffe2.errors import InvalidNet, UnsupportedOperator
from imagequeue_worker.caffe2.netdef import NetDef
from imagequeue_worker.caffe2.pixels import PixelScaling

from . import others, products
from .builder import NetBuilder
from .conversion import Conversion, Layer, quantized
from .model import Model, Operator, Tensor, read_model

IMAGE, PROBABILITIES = "data", "softmax"

CONVERTERS: Mapping[str, Callable[[Conversion, Operator], None]] = {
    "ADD": others.add,
    "AVERAGE_POOL_2D": others.average_pool_2d,
    "CONV_2D": products.conv_2d,
    "DEPTHWISE_CONV_2D": products.depthwise_conv_2d,
    "FULLY_CONNECTED": products.fully_connected,
    "MAX_POOL_2D": others.max_pool_2d,
    "MEAN": others.mean,
    "RELU": others.relu,
    "RELU6": others.relu,
    "RESHAPE": others.reshape,
    "SOFTMAX": others.softmax,
    "SQUEEZE": others.reshape,
}


@dataclass(frozen=True, slots=True)
class ImportedNet:
    """A Caffe2 net made of a TFLite one.

    Attributes:
        init: The constants.
        predict: The graph: float32 `data` [N, C, H, W] to float32 `softmax` [N, classes].
        scaling: Mean and deviation of the pixels, for which the quantized input is the pixel's byte itself.
        input_size: (height, width).
        classes: Number of outputs.
        layers: What became of each layer, in order.
    """

    init: NetDef
    predict: NetDef
    scaling: PixelScaling
    input_size: tuple[int, int]
    classes: int
    layers: tuple[Layer, ...]


def convert_tflite(data: bytes, name: str) -> ImportedNet:
    """Convert a uint8 classifier.

    Args:
        data: The .tflite file.
        name: The name of the Caffe2 net.

    Raises:
        NetFormatError: The bytes are truncated, damaged or no .tflite file.
        UnsupportedOperator: An operator that has no Int8 counterpart here; the message lists the known ones.
        InvalidNet: Not uint8 with one scale per tensor, or not a classifier of one picture.
        InvalidOperator: A layer that Caffe2 would refuse or compute differently.
    """
    model = read_model(data)
    for op in model.operators:
        if op.type not in CONVERTERS:
            raise UnsupportedOperator(op.type, CONVERTERS, op.where)
    height, width, channels = _picture(model.input)
    builder = NetBuilder(name, IMAGE, (channels, height, width), PROBABILITIES)
    net = Conversion(model, builder)
    scaling = _read_pixels(net, model.input, channels)
    for op in model.operators:
        CONVERTERS[op.type](net, op)
    classes = _write_probabilities(net, model)
    init, predict = builder.nets()
    return ImportedNet(init, predict, scaling, (height, width), classes, tuple(net.layers))


def _picture(tensor: Tensor) -> tuple[int, int, int]:
    quantized(tensor)
    if len(tensor.shape) != 4 or tensor.shape[0] != 1 or not all(0 < extent <= 1 << 14 for extent in tensor.shape):
        raise InvalidNet(f"{tensor} is the net's input; must be one picture [1, H, W, C]; convert it with batch 1")
    return tensor.shape[1], tensor.shape[2], tensor.shape[3]


def _read_pixels(net: Conversion, tensor: Tensor, channels: int) -> PixelScaling:
    """Add the operators in front, and find the scaling for which the net sees the pixels' bytes, as in TFLite."""
    if channels > 16:
        raise InvalidNet(f"{tensor} is the net's input; pictures have 1 to 16 channels")
    deviation = 1 / (255 * tensor.scale)
    scaling = PixelScaling((tensor.zero_point / 255,) * channels, (deviation,) * channels)
    with np.errstate(over="ignore", invalid="ignore"):
        table = scaling.table(tensor.scale, tensor.zero_point)
    # The division by 255 * std must not lose a step; it does not for any scale of a real net.
    if not np.array_equal(table, np.tile(np.arange(256), (channels, 1))):
        raise InvalidNet(f"{tensor} has scale {tensor.scale:.6g}: pixels would not arrive unchanged; convert it again")
    transposed, _ = net.builder.add("NCHW2NHWC", (IMAGE,), f"{IMAGE}_nhwc", {})
    args: dict[str, object] = {"Y_scale": tensor.scale, "Y_zero_point": tensor.zero_point}
    blob, spec = net.builder.add("Int8Quantize", (transposed,), f"{IMAGE}_quantized", args)
    net.blobs[tensor.number] = blob
    net.layers.append(Layer(tensor.number, blob, "(input)", "Int8Quantize", spec.shape, spec.scale, spec.zero_point))
    return scaling


def _write_probabilities(net: Conversion, model: Model) -> int:
    """Add what turns the last layer's bytes into float probabilities [N, classes]; return the classes."""
    output = quantized(model.output)
    if output.number not in net.blobs or output.number == model.input.number:
        raise InvalidNet(f"{output} is the net's output, which no operator computes; convert the net again")
    blob = net.blobs[output.number]
    spec = net.builder.specs[blob]
    last = next(op for op in reversed(model.operators) if output.number in op.outputs)
    if last.type != "SOFTMAX":
        raise InvalidNet(
            f"{output} is the net's output, computed by {last.type}; must be probabilities, of a SOFTMAX; "
            "export the net with one"
        )
    if len(spec.shape) != 2:
        same: dict[str, object] = {"axis": 1, "Y_scale": spec.scale, "Y_zero_point": spec.zero_point}
        blob, spec = net.builder.add("Int8Flatten", (blob,), "classes", same)
    probabilities = net.builder.finish(blob)
    net.layers.append(Layer(output.number, PROBABILITIES, "(output)", "Int8Dequantize", probabilities.shape, 1.0, 0))
    return probabilities.shape[1]
