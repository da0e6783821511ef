"""A loaded net: pictures in, probabilities out."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .engines import ENGINES, Engine
from .errors import InvalidInput, InvalidOperator
from .graph import Graph
from .interpreter import Plan
from .operators import Scratch
from .pixels import PixelScaling, look_up
from .step_info import StepInfo
from .tensor import Array, QTensor, TensorSpec, value_of

# Tried in this order where a net fixes its input size (by a pooling kernel, or a fully connected layer) but
# does not name it. The zoo's MobileNetV2 takes 193…224 alike.
LIKELY_SIZES = (224, 192, 160, 128, 96, 64, 32, 256, 288, 299, 320, 384, 448, 512)


@dataclass(frozen=True)
class _Fitted:
    """A graph made ready for one size of picture."""

    prelude: Plan
    engine: Engine
    channels_last: bool


class Net:
    """An Int8 net in memory, checked, ready to run from any thread.

    Attributes:
        name: As the predict net has it.
        sha256: Of the bytes of init_net.pb followed by those of predict_net.pb, hexadecimal.
        engine: The engine that runs it.
        scaling: The mean and standard deviation of its pixels.
        pixel_table: uint8 [C, 256], read-only: pixel byte to quantized byte, for each channel.
        input_name: The image blob's name.
        input_size: (height, width) of the pictures it takes.
        output_name: The blob that `run` returns.
        classes: Number of values for each picture.
    """

    def __init__(
        self,
        graph: Graph,
        sha256: str,
        engine: str,
        scaling: PixelScaling,
        input_size: tuple[int, int] | None,
        threads: int = 1,
    ) -> None:
        fitted = _fit(graph, engine, len(scaling.mean), input_size, threads)
        self._prelude, self._engine, self._channels_last = fitted.prelude, fitted.engine, fitted.channels_last
        self._scratch = Scratch()
        self._names = graph.names
        self._entry = graph.entry
        self._image = self._prelude.specs[graph.input]
        self._quantized = self._prelude.specs[graph.entry]
        shape = self._quantized.shape
        self.name = graph.name
        self.sha256 = sha256
        self.engine = self._engine.name
        self.scaling = scaling
        self.pixel_table = scaling.table(self._quantized.scale, self._quantized.zero_point)
        self._engine.expect_table(self.pixel_table)
        self.input_name = graph.names[graph.input]
        self.input_size = (shape[1], shape[2]) if self._channels_last else (shape[2], shape[3])
        self.output_name = self._engine.output
        self.classes = int(np.prod(self._engine.output_shape))

    def __repr__(self) -> str:
        height, width = self.input_size
        return f"<Net {self.name!r} {self.sha256[:12]} {height}x{width} -> {self.classes}, {self.engine}>"

    def describe(self) -> list[StepInfo]:
        """List the engine's steps."""
        return list(self._engine.description)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run as Caffe2's Predictor does: {"data": float32 [N, 3, H, W]} -> {"softmax": float32 [N, 1000]}.

        Raises:
            InvalidInput: Another name, dtype or shape, or an empty batch.
        """
        return {self.output_name: self._engine.run(self._quantize(inputs))}

    def run_pixels(self, pixels: Array) -> dict[str, Array]:
        """Run on decoded pictures, uint8 [N, H, W, C] in the net's channel order; the hot path.

        Raises:
            InvalidInput: Another dtype or shape, or an empty batch.
        """
        self._check_pictures(pixels)
        if not self._channels_last:
            return self.run_quantized(look_up(self.pixel_table, pixels))
        return {self.output_name: self._engine.run(np.ascontiguousarray(pixels), self.pixel_table)}

    def run_quantized(self, images: Array) -> dict[str, Array]:
        """Run on pictures whose bytes already went through `pixel_table`, uint8 [N, H, W, C].

        Raises:
            InvalidInput: Another dtype or shape, or an empty batch.
        """
        self._check_pictures(images)
        if not self._channels_last:
            images = np.ascontiguousarray(np.moveaxis(images, -1, 1))
        return {self.output_name: self._engine.run(np.ascontiguousarray(images))}

    def run_blobs(self, inputs: Mapping[str, Array]) -> dict[str, QTensor | Array]:
        """Run all images at once and return every blob by name, for comparison layer by layer."""
        data = self._checked(inputs)
        early = self._prelude.run(data, self._scratch)
        blobs = {self._names[slot]: value_of(self._prelude.specs[slot], blob) for slot, blob in early.items()}
        return {**blobs, **self._engine.blobs(early[self._entry])}

    def float_input(self, pixels: Array) -> dict[str, Array]:
        """Make what `run` takes of pixels: uint8 [N, H, W, C] to {"data": float32 [N, C, H, W]}."""
        self._check_pictures(pixels)
        scaled = self.scaling.apply(pixels)
        if self._image.shape[1:] != scaled.shape[1:]:
            scaled = np.ascontiguousarray(np.moveaxis(scaled, -1, 1))
        return {self.input_name: scaled}

    def _checked(self, inputs: Mapping[str, Array]) -> Array:
        if set(inputs) != {self.input_name}:
            raise InvalidInput(f"inputs are {sorted(inputs)}; must be exactly {self.input_name!r}")
        data = np.asarray(inputs[self.input_name])
        wanted = self._image.shape[1:]
        if data.dtype != np.float32 or data.ndim != 4 or data.shape[1:] != wanted or len(data) == 0:
            raise InvalidInput(
                f"{self.input_name!r} is {data.dtype} {list(data.shape)}; must be float32 {['N', *wanted]}, "
                "N at least 1"
            )
        return data

    def _check_pictures(self, pixels: Array) -> None:
        wanted = (*self.input_size, len(self.scaling.mean))
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != wanted or len(pixels) == 0:
            raise InvalidInput(
                f"pictures are {pixels.dtype} {list(pixels.shape)}; must be uint8 {['N', *wanted]}, N at least 1"
            )

    def _quantize(self, inputs: Mapping[str, Array]) -> Array:
        """Quantize image by image: the floats of a large batch would be four times its bytes."""
        data = self._checked(inputs)
        out = np.empty((len(data), *self._quantized.shape[1:]), np.uint8)
        for number in range(len(data)):
            blobs = self._prelude.run(data[number : number + 1], self._scratch, (self._entry,))
            out[number] = blobs[self._entry][0]
        return out


def _fit(graph: Graph, engine: str, channels: int, input_size: tuple[int, int] | None, threads: int) -> _Fitted:
    """Find the picture size for which all operators agree, and prepare the net for it.

    Raises:
        InvalidOperator, InvalidNet: No size fits; the error is that of the first one tried.
    """
    named = input_size or graph.input_size
    sizes = (named,) if named else tuple((size, size) for size in LIKELY_SIZES)
    transposes = graph.prelude[0].args.op_type == "NCHW2NHWC"
    first: InvalidOperator | None = None
    for height, width in sizes:
        for channels_last in (False,) if transposes else (True, False):
            shape = (1, height, width, channels) if channels_last else (1, channels, height, width)
            try:
                prelude = Plan(graph.prelude, {}, graph.input, TensorSpec("float", shape))
                entry = prelude.specs[graph.entry]
                return _Fitted(prelude, ENGINES[engine](graph, entry, threads), channels_last or transposes)
            except InvalidOperator as error:
                first = first or error
    raise first or InvalidOperator("no input size to try")
