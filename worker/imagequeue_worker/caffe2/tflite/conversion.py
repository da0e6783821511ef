"""What the conversion of every layer shares: blobs by tensor, constants, fused activations, padding, checks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from imagequeue_worker.caffe2.errors import InvalidNet, InvalidOperator
from imagequeue_worker.caffe2.geometry import MAX_EXTENT
from imagequeue_worker.caffe2.tensor import Array, TensorSpec, scale_problem

from .builder import NetBuilder
from .flatbuffer import Table
from .model import Model, Operator, Tensor
from .names import ACTIVATIONS, name_of

_DTYPES: dict[str, DTypeLike] = {"UINT8": "<u1", "INT32": "<i4"}


@dataclass(frozen=True, slots=True)
class Layer:
    """One row of the closing table: what became of an operator. `tensor` is its output's number in the TFLite net."""

    tensor: int
    name: str
    source: str
    operator: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int


class Conversion:
    """A net on its way: the TFLite graph, the Caffe2 net so far, and which blob holds which tensor."""

    def __init__(self, model: Model, builder: NetBuilder) -> None:
        self.model = model
        self.builder = builder
        self.blobs: dict[int, str] = {}
        self.layers: list[Layer] = []

    def error(self, op: Operator, message: str) -> InvalidOperator:
        """Make (not raise) an error that names a TFLite operator."""
        return InvalidOperator(f"{op.type} ({op.where}): {message}")

    def tensor(self, op: Operator, position: int) -> Tensor:
        """Return the tensor that an operator has as input; refuse one that is left out."""
        number = op.inputs[position] if position < len(op.inputs) else -1
        if number < 0:
            raise self.error(op, f"has no input {position}; convert the net again")
        return self.model.tensors[number]

    def input(self, op: Operator, position: int = 0) -> tuple[str, TensorSpec]:
        """Return the blob of an input that an earlier operator computed."""
        tensor = self.tensor(op, position)
        if tensor.number not in self.blobs:
            what = "is a constant" if len(tensor.data) else "is computed by nothing before it"
            raise self.error(op, f"{tensor} {what}; must come from the picture")
        name = self.blobs[tensor.number]
        return name, self.builder.specs[name]

    def output(self, op: Operator) -> Tensor:
        """Return an operator's only output, which must be quantized as Caffe2 knows it."""
        if len(op.outputs) != 1 or op.outputs[0] < 0:
            raise self.error(op, f"has {len(op.outputs)} outputs; must have one")
        return quantized(self.model.tensors[op.outputs[0]])

    def constant(self, op: Operator, position: int, kind: str) -> tuple[Tensor, Array]:
        """Return a constant input: UINT8 weights, or INT32 bias, shape or axes."""
        tensor = self.tensor(op, position)
        if tensor.type != kind:
            quantized(tensor)  # says more about INT8 and floats
            raise self.error(op, f"{tensor} is {tensor.type}; must be {kind}; convert a uint8 net")
        dtype = np.dtype(_DTYPES[kind])
        size = 1
        for extent in tensor.shape:
            size *= max(extent, 0)
        if min(tensor.shape, default=1) < 0 or size * dtype.itemsize != len(tensor.data):
            raise self.error(op, f"{tensor} has {len(tensor.data):,} bytes; its shape needs {size * dtype.itemsize:,}")
        return tensor, np.frombuffer(tensor.data, dtype).reshape(tensor.shape)

    def emit(self, op: Operator, op_type: str, inputs: tuple[str, ...], args: dict[str, object]) -> TensorSpec:
        """Add the Caffe2 operator for a TFLite one, with the scale and zero point of its output.

        Raises:
            InvalidOperator: Caffe2 would refuse it.
            InvalidNet: Caffe2 gives another shape than the TFLite net says.
        """
        y = self.output(op)
        every = {"order": "NHWC", **args, "Y_scale": y.scale, "Y_zero_point": y.zero_point}
        name, spec = self.builder.add(op_type, inputs, layer_name(y), every, op.where)
        if spec.shape != y.shape:
            raise InvalidNet(
                f"{op.type} ({op.where}) gives {list(spec.shape)} in Caffe2, {y} in TFLite; "
                "they must agree, for one picture; convert the net again, with batch 1"
            )
        self.blobs[y.number] = name
        self.layers.append(Layer(y.number, name, op.type, op_type, spec.shape, spec.scale, spec.zero_point))
        return spec

    def relu(self, op: Operator, activation: int) -> bool:
        """Tell whether a fused activation is a Relu for Caffe2, which clips below only.

        TensorFlow's ReLU6 also caps at 6. Where byte 255 stands for 6 or less, saturation is that cap.
        """
        name = name_of(ACTIVATIONS, activation, "activation")
        if name not in ("NONE", "RELU", "RELU6"):
            raise self.error(op, f"has the fused activation {name}; NONE, RELU and RELU6 are known")
        y = self.output(op)
        if name == "RELU6":
            with np.errstate(over="ignore"):
                # TFLite's own rounding of the cap.
                cap = y.zero_point + float(np.floor(np.float32(6) / np.float32(y.scale) + np.float32(0.5)))
            if cap < 255:
                raise self.error(
                    op,
                    f"caps at 6, byte {cap:.0f} of its output (scale {y.scale:.6g}, zero point {y.zero_point}); "
                    "must be byte 255 or above, as Caffe2 does not clip there; quantize its output to the range 0 to 6",
                )
        return name != "NONE"

    def options(self, op: Operator, union: int) -> Table:
        """Return an operator's options; refuse those of another kind of operator."""
        if op.options is None or op.options_type != union:
            raise self.error(op, f"has options of type {op.options_type}; must be {union}; convert the net again")
        return op.options

    def padding(
        self, op: Operator, scheme: int, size: int, kernel: int, stride: int, dilation: int = 1
    ) -> tuple[int, int]:
        """Return the pixels before and after that TensorFlow's padding schemes add along one axis."""
        if scheme not in (0, 1):
            raise self.error(op, f"has padding {scheme}; 0 (SAME) and 1 (VALID) are known")
        if not all(1 <= value <= MAX_EXTENT for value in (size, kernel, stride, dilation)):
            raise self.error(
                op,
                f"has size {size}, kernel {kernel}, stride {stride}, dilation {dilation}; must be 1 to {MAX_EXTENT}",
            )
        outputs = -(-size // stride)
        total = max(0, (outputs - 1) * stride + (kernel - 1) * dilation + 1 - size) if scheme == 0 else 0
        return total // 2, total - total // 2


def layer_name(tensor: Tensor) -> str:
    """The first of the names that TensorFlow's converter joined for one layer."""
    return tensor.name.split(";")[0] or f"tensor_{tensor.number}"


def quantized(tensor: Tensor) -> Tensor:
    """Return a tensor that is uint8 with one scale and one zero point; refuse any other.

    Raises:
        InvalidNet: The net is int8, per channel, or not quantized at all.
    """
    remedy = "convert TensorFlow's uint8 net, or make one of the float net with `imagequeue-worker quantize`"
    if tensor.scales > 1:
        raise InvalidNet(
            f"{tensor} has {tensor.scales:,} scales, one per channel; Caffe2's Int8 operators have one per tensor; "
            f"{remedy}"
        )
    if tensor.type != "UINT8":
        raise InvalidNet(f"{tensor} is {tensor.type}; Caffe2's Int8 operators compute with UINT8 alone; {remedy}")
    problem = scale_problem(tensor.scale) if tensor.scales else "is missing; must be there"
    if problem or not 0 <= tensor.zero_point <= 255:
        scale = f"scale {problem}" if problem else f"zero point is {tensor.zero_point}; must be 0 to 255"
        raise InvalidNet(f"{tensor}: its {scale}; convert the net again")
    return tensor
