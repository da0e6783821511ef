"""An operator's arguments, read as Caffe2's ArgumentHelper reads them; errors name operator and rule."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .errors import InvalidOperator
from .netdef import Argument
from .tensor import TensorSpec, scale_problem


def argument_of(name: str, value: object) -> Argument:
    """Make an Argument of a Python value: int, float, str, bytes, or a sequence of one of them.

    Raises:
        InvalidOperator: Any other type.
    """
    if isinstance(value, bool | int | np.integer):
        if not -(2**63) <= int(value) < 2**63:
            raise InvalidOperator(f"argument {name!r} is {value}; must fit into 64 bits")
        return Argument(name, i=int(value))
    if isinstance(value, float | np.floating):
        return Argument(name, f=float(value))
    if isinstance(value, str | bytes):
        return Argument(name, s=value.encode() if isinstance(value, str) else value)
    if isinstance(value, Sequence | np.ndarray):
        items = list(value)
        if all(isinstance(item, bool | int | np.integer) for item in items):
            return Argument(name, ints=tuple(int(item) for item in items))
        if all(isinstance(item, float | int | np.floating | np.integer) for item in items):
            return Argument(name, floats=tuple(float(item) for item in items))
        if all(isinstance(item, str | bytes) for item in items):
            return Argument(name, strings=tuple(i.encode() if isinstance(i, str) else i for i in items))
    raise InvalidOperator(
        f"argument {name!r} is a {type(value).__name__}; must be int, float, str, bytes or a list of one"
    )


class Arguments:
    """The arguments of one operator of a net, and how to complain about it."""

    def __init__(self, op_type: str, args: Iterable[Argument], where: str = "") -> None:
        self.op_type = op_type
        self.where = f" ({where})" if where else ""
        self._args: dict[str, Argument] = {}
        for arg in args:
            if arg.name in self._args and self._args[arg.name] != arg:
                raise self.error(f"argument {arg.name!r} is given twice; give it once")
            self._args[arg.name] = arg

    @classmethod
    def of(cls, op_type: str, args: Mapping[str, object]) -> "Arguments":
        """Make arguments of a plain mapping."""
        return cls(op_type, [argument_of(name, value) for name, value in args.items()])

    def error(self, message: str) -> InvalidOperator:
        """Make (not raise) an error that names this operator."""
        return InvalidOperator(f"{self.op_type}{self.where}: {message}")

    def require(self, condition: bool, message: str) -> None:
        """Raise InvalidOperator unless the condition holds."""
        if not condition:
            raise self.error(message)

    def __contains__(self, name: str) -> bool:
        return name in self._args

    def integer(self, name: str, default: int) -> int:
        """Read an integer argument."""
        if name not in self._args:
            return default
        value = self._args[name].i
        if value is None:
            raise self.error(f"argument {name!r} has no integer; write it as `i`")
        return value

    def number(self, name: str, default: float) -> float:
        """Read a float argument, rounded to float32; an integer is taken too."""
        if name not in self._args:
            return default
        arg = self._args[name]
        value = arg.f if arg.f is not None else arg.i
        if value is None:
            raise self.error(f"argument {name!r} has no number; write it as `f`")
        with np.errstate(over="ignore"):
            return float(np.float32(value))

    def string(self, name: str) -> bytes:
        """Read a byte string argument; empty where it is missing."""
        value = self._args[name].s if name in self._args else b""
        if value is None:
            raise self.error(f"argument {name!r} has no string; write it as `s`")
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        """Read a list of integers; empty where it is missing."""
        return self._args[name].ints if name in self._args else ()

    def order(self) -> None:
        """Refuse any storage order but NHWC, the only one that Caffe2's Int8 operators have."""
        order = self.string("order") or b"NHWC"
        self.require(order == b"NHWC", f"order is {order!r}; must be NHWC; transpose the net's tensors")

    def output_quantization(self, scale: float = 1.0, zero_point: int = 0) -> tuple[float, int]:
        """Read Y_scale and Y_zero_point; the defaults are Caffe2's."""
        y_scale, y_zero_point = self.number("Y_scale", scale), self.integer("Y_zero_point", zero_point)
        if (problem := scale_problem(y_scale)) is not None:
            raise self.error(f"Y_scale {problem}; re-export the net")
        self.require(0 <= y_zero_point <= 255, f"Y_zero_point is {y_zero_point}; must be 0 to 255; re-export the net")
        return y_scale, y_zero_point

    def same_quantization(self, x: TensorSpec) -> None:
        """Refuse an output scale or zero point other than the input's, as Caffe2 does where bytes only move.

        Where they are missing, the input's are meant.
        """
        y_scale, y_zero_point = self.output_quantization(x.scale, x.zero_point)
        self.require(
            y_scale == x.scale and y_zero_point == x.zero_point,
            f"output has scale {y_scale:.9g}, zero point {y_zero_point}, input {x.scale:.9g}, "
            f"{x.zero_point}; they must be equal for this operator; re-export the net",
        )

    def inputs(self, inputs: Sequence[TensorSpec], *kinds: str, more: bool = False) -> None:
        """Check the number and the kinds of the inputs; `more` allows further ones of the last kind."""
        count = len(inputs)
        if count != len(kinds) and not (more and count > len(kinds)):
            raise self.error(f"has {count} inputs; must have {len(kinds)}{' or more' if more else ''}")
        for number, spec in enumerate(inputs):
            kind = kinds[min(number, len(kinds) - 1)]
            if spec.kind != kind:
                raise self.error(f"input {number} is {spec.kind}; must be {kind}; insert a conversion")
            if spec.kind == "int8" and (problem := scale_problem(spec.scale)) is not None:
                raise self.error(f"input {number}'s scale {problem}; re-export the net")
            if spec.kind == "int8" and not 0 <= spec.zero_point <= 255:
                raise self.error(f"input {number}'s zero point is {spec.zero_point}; must be 0 to 255")
