"""A Caffe2 net in the making: every operator is checked by the runtime's own rules as it is added."""

import re

import numpy as np

from imagequeue_worker.caffe2.arguments import Arguments, argument_of
from imagequeue_worker.caffe2.errors import InvalidNet
from imagequeue_worker.caffe2.netdef import NetDef, OperatorDef
from imagequeue_worker.caffe2.operators import make_operator
from imagequeue_worker.caffe2.tensor import Array, TensorSpec

# Weights and biases, counted at each use: what a net may have that `load_net` reads, and what bounds the time
# and memory that a file can cost in which many tensors share one buffer.
MAX_CONSTANT_BYTES = 1 << 27

_TAKEN = TensorSpec("int64", ())


class NetBuilder:
    """Collects the operators of init_net and predict_net, and what is known of every blob.

    Args:
        name: The net's.
        image: Name of the float input, [N, C, H, W].
        shape: C, H, W.
        output: Name of the float output, which no other blob gets.
    """

    def __init__(self, name: str, image: str, shape: tuple[int, int, int], output: str) -> None:
        self.name = name
        self.specs: dict[str, TensorSpec] = {image: TensorSpec("float", (1, *shape)), output: _TAKEN}
        self._image, self._output = image, output
        self._size = shape[1:]
        self._fills: list[OperatorDef] = []
        self._operators: list[OperatorDef] = []
        self._bytes = 0

    def add(
        self, op_type: str, inputs: tuple[str, ...], wanted: str, args: dict[str, object], where: str = ""
    ) -> tuple[str, TensorSpec]:
        """Add an operator; return its output's name, made of the wanted one, and what it is.

        Raises:
            InvalidOperator: Caffe2 would refuse the operator.
        """
        spec = self._append(op_type, inputs, output := self.unique(wanted), args, where)
        return output, spec

    def finish(self, blob: str) -> TensorSpec:
        """Add the operator that turns the last blob's bytes into the net's float output."""
        return self._append("Int8Dequantize", (blob,), self._output, {}, "the output")

    def _append(
        self, op_type: str, inputs: tuple[str, ...], output: str, args: dict[str, object], where: str
    ) -> TensorSpec:
        arguments = tuple(argument_of(name, value) for name, value in args.items())
        specs = [self.specs[name] for name in inputs]
        spec = self.specs[output] = make_operator(specs, Arguments(op_type, arguments, where)).outputs[0]
        # Caffe2's Int8Reshape has a second output, the old shape.
        outputs = (output, self.unique(f"{output}/old_shape")) if op_type == "Int8Reshape" else (output,)
        self._operators.append(OperatorDef(op_type, inputs, outputs, arguments))
        return spec

    def weights(self, wanted: str, values: Array, scale: float, zero_point: int) -> str:
        """Add uint8 weights; return their blob's name."""
        data = np.ascontiguousarray(values)
        self.spend(data.nbytes)
        return self._fill(
            "Int8GivenTensorFill", wanted, {"shape": list(data.shape), "values": data.tobytes()}, scale, zero_point
        )

    def bias(self, wanted: str, values: Array, scale: float) -> str:
        """Add an int32 bias. Its scale is for readers of the file: no operator looks at it."""
        self.spend(values.nbytes)
        return self._fill(
            "Int8GivenIntTensorFill", wanted, {"shape": list(values.shape), "values": values.tolist()}, scale, 0
        )

    def spend(self, count: int) -> None:
        """Count bytes of constants against the limit."""
        self._bytes += count
        if self._bytes > MAX_CONSTANT_BYTES:
            raise InvalidNet(f"the net's constants have more than {MAX_CONSTANT_BYTES:,} bytes; a smaller net can run")

    def unique(self, wanted: str) -> str:
        """Return a blob name that is plain text and not yet taken."""
        plain = re.sub(r"[^A-Za-z0-9_./-]+", "_", wanted).strip("_")[:120] or "blob"
        name, number = plain, 1
        while name in self.specs:
            number += 1
            name = f"{plain}_{number}"
        self.specs[name] = _TAKEN
        return name

    def _fill(self, op_type: str, wanted: str, args: dict[str, object], scale: float, zero_point: int) -> str:
        every = {**args, "Y_scale": float(scale), "Y_zero_point": zero_point}
        arguments = tuple(argument_of(name, value) for name, value in every.items())
        spec = make_operator([], Arguments(op_type, arguments, wanted)).outputs[0]
        name = self.unique(wanted)
        self.specs[name] = spec
        self._fills.append(OperatorDef(op_type, (), (name,), arguments))
        return name

    def nets(self) -> tuple[NetDef, NetDef]:
        """Return init_net and predict_net."""
        parameters = tuple(fill.outputs[0] for fill in self._fills)
        predict = NetDef(
            self.name,
            tuple(self._operators),
            (argument_of("input_size", list(self._size)),),
            (self._image, *parameters),
            (self._output,),
        )
        return NetDef(f"{self.name}_init", tuple(self._fills), external_outputs=parameters), predict
