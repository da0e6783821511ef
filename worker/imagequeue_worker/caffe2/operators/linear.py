"""What convolutions and fully connected layers share: weights in floating point, proved exact at load."""

from collections.abc import Sequence

import numpy as np

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.requantize import Requantizer
from imagequeue_worker.caffe2.tensor import Array, TensorSpec

from .base import Scratch, relu_minimum

# Floating point sums of integers are exact in any order as long as no partial sum can reach this.
EXACT_FLOAT32 = 1 << 24

# Elements of a block of accumulators; fewer calls weigh more than the cache. On one core with 1 MB of it an
# image of the zoo's MobileNetV2 takes 51 ms with 2^15, 41 with 2^16, 36 with 2^17, 35 with 2^18 to 2^20
# (tests/benchmarks/net.py).
BLOCK = 1 << 18


def requantization_scale(args: Arguments, x: TensorSpec, w: TensorSpec, y_scale: float) -> float:
    """Return f32(f32(xs * ws) / ys), which QNNPACK wants in [2^-32, 1)."""
    with np.errstate(over="ignore", under="ignore"):
        scale = float(np.float32(x.scale) * np.float32(w.scale) / np.float32(y_scale))
    args.require(
        2.0**-32 <= scale < 1,
        f"input scale {x.scale:.6g} * weight scale {w.scale:.6g} / Y_scale {y_scale:.6g} is {scale:.6g}; "
        "must be in [2^-32, 1); raise Y_scale, i.e. re-export the net",
    )
    return scale


def check_parameters(args: Arguments, inputs: Sequence[TensorSpec], dimensions: int) -> tuple[Array, Array]:
    """Check the kinds of X, W and B, and return the constants W (uint8) and B (int32).

    B's scale is not looked at, as in Caffe2.
    """
    args.inputs(inputs, "int8", "int8", "int32")
    _, w, b = inputs
    args.require(
        w.constant is not None and b.constant is not None,
        "weights and bias are computed by the net; they must be constants of init_net",
    )
    args.require(
        len(w.shape) == dimensions and w.size > 0,
        f"weights have shape {list(w.shape)}; must have {dimensions} dimensions, none of them 0",
    )
    return np.asarray(w.constant), np.asarray(b.constant)


class Linear:
    """Weights [..., K, M] and everything that turns their products with uint8 inputs into uint8 outputs.

    The input's zero point is folded into the requantizer's offset, so that raw bytes are multiplied:
    sum((x - xz) * w') = sum(x * w') - xz * sum(w'). Any sum of x * w' is at most 255 * sum(|w'|), which
    decides between float32 and float64.

    Args:
        args: The operator's, for Y_scale and Y_zero_point.
        x: The input.
        w: The weights as the net has them, for scale and zero point.
        weights: uint8 [..., K, M], arranged for the kernel; K runs over the products of one output.
        bias: int32, one for each output channel.
        relu: Clip at the zero point.
        centered: The kernel subtracts the input's zero point itself.
    """

    def __init__(
        self,
        args: Arguments,
        x: TensorSpec,
        w: TensorSpec,
        weights: Array,
        bias: Array,
        *,
        relu: bool = False,
        centered: bool = False,
    ) -> None:
        self.y_scale, self.y_zero_point = args.output_quantization()
        minimum = relu_minimum(args, self.y_zero_point, relu=relu)
        scale = requantization_scale(args, x, w, self.y_scale)
        signed = weights.astype(np.int16) - np.int16(w.zero_point)
        positive = 255 * np.maximum(signed, 0).sum(axis=-2, dtype=np.int64).ravel()
        negative = 255 * np.minimum(signed, 0).sum(axis=-2, dtype=np.int64).ravel()
        args.require(
            bias.size == positive.size,
            f"bias has {bias.size} values for {positive.size} channels; must be one each",
        )
        offset = bias.astype(np.int64).ravel()
        if centered:
            largest = positive - negative
            bound = int((np.abs(offset) + largest).max())
        else:
            offset = offset - x.zero_point * signed.sum(axis=-2, dtype=np.int64).ravel()
            largest = np.maximum(positive, -negative)
            bound = int(np.maximum(np.abs(offset + positive), np.abs(offset + negative)).max())
        # Partial sums of one sign only are the extremes, whatever the order of summation.
        self.dtype = np.dtype(np.float32 if int(largest.max()) < EXACT_FLOAT32 else np.float64)
        self.weights: Array = signed
        self.channels = positive.size
        # Accumulators that can occur where raw bytes are multiplied, corrections included.
        self.lowest, self.highest = int((offset + negative).min()), int((offset + positive).max())
        self.requantizer = Requantizer(scale, self.y_zero_point, minimum, offset, bound)

    def by_output(self) -> Array:
        """Return w - w_zero_point, int16 [..., M, K], contiguous: the net's own order. Only before `pack`."""
        return np.ascontiguousarray(self.weights.swapaxes(-1, -2))

    def pack(self) -> None:
        """Bring the weights into floating point."""
        self.weights = self.weights.astype(self.dtype)

    def output(self, shape: tuple[int, ...]) -> TensorSpec:
        """Describe the output."""
        return TensorSpec("int8", shape, self.y_scale, self.y_zero_point)

    def accumulator(self, scratch: Scratch, rows: int, width: int) -> Array:
        """Return uninitialized accumulators [rows, width, M]."""
        return scratch.array("accumulator", (rows, width, self.channels), self.dtype)

    def requantize(self, acc: Array, out: Array, addend: Array, scratch: Scratch) -> None:
        """Turn a block of accumulators [rows, width, M] into bytes."""
        wide = scratch.array("requantize", acc.shape, np.float64)
        signs = scratch.array("signs", acc.shape, np.float64)
        self.requantizer.run(acc, out, addend, wide, signs)


def block_rows(row_elements: int) -> int:
    """Return how many rows make a block of about BLOCK elements."""
    return max(1, BLOCK // max(1, row_elements))


def tile_width(width: int, channels: int) -> int:
    """Return for how many pixels per-channel constants are repeated: a whole row, or 1 if that is long.

    Long inner loops are what makes numpy fast; a row of a real net has a few thousand values.
    """
    return width if width * channels <= BLOCK else 1
