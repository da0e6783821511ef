"""Step 9: an Int8 layer as Caffe2 has it: operator, arguments, bytes, int32 bias; checked, runnable, writable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.geometry import Window
from imagequeue_worker.caffe2.operators import Operator, make_operator
from imagequeue_worker.caffe2.tensor import Array, QTensor, TensorSpec, spec_of

from .ranges import Quantization


@dataclass(frozen=True)
class Int8Layer:
    """One operator of the net to be written. `constants`: weights and bias, in this order, or none."""

    op_type: str
    name: str
    inputs: tuple[str, ...]
    output: Quantization
    args: Mapping[str, object] = field(default_factory=dict)
    constants: tuple[QTensor, ...] = ()

    @property
    def arguments(self) -> dict[str, object]:
        """All arguments: what Caffe2 demands of every Int8 operator, and this one's own."""
        return {
            "order": "NHWC",
            "Y_scale": self.output.scale,
            "Y_zero_point": self.output.zero_point,
            **self.args,
        }

    def operator(self, inputs: Sequence[TensorSpec]) -> Operator:
        """Prepare it to run, checking all rules of Caffe2.

        Raises:
            InvalidOperator: A scale or shape breaks one.
        """
        specs = [*inputs, *(spec_of(constant) for constant in self.constants)]
        return make_operator(specs, Arguments.of(self.op_type, self.arguments))


def integer_constants(weights: Array, w: Quantization, bias: Array, x: Quantization) -> tuple[QTensor, QTensor]:
    """Make the weights' and the bias' tensors of bytes and a real bias, whose step is f32(xs * ws)."""
    step = float(np.float32(x.scale) * np.float32(w.scale))
    limits = np.iinfo(np.int32)
    steps = np.clip(np.rint(bias / step), limits.min, limits.max).astype(np.int32)
    return QTensor(weights, w.scale, w.zero_point), QTensor(steps, step, 0)


def wide_enough(output: Quantization, x: Quantization, w: Quantization) -> Quantization:
    """Raise an output's scale just as far as f32(f32(xs * ws) / Y_scale) < 1 needs."""
    product = np.float32(x.scale) * np.float32(w.scale)
    scale = np.float32(output.scale)
    while not product / scale < 1:
        scale = np.nextafter(max(scale, product), np.float32(np.inf))
    return replace(output, scale=float(scale))


def window_args(window: Window) -> dict[str, object]:
    """Spell a window in Caffe2's arguments, leaving out dilation where there is none."""
    args: dict[str, object] = dict(
        zip(("kernel_h", "kernel_w", "stride_h", "stride_w"), window.kernel + window.stride, strict=True)
    )
    args.update(zip(("pad_t", "pad_l", "pad_b", "pad_r"), window.pads, strict=True))
    if window.dilation != (1, 1):
        args.update(zip(("dilation_h", "dilation_w"), window.dilation, strict=True))
    return args
