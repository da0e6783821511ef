"""The quantized tensor, and what is known of a tensor before its data exist."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidInput

Array = NDArray[Any]
Kind = Literal["int8", "int32", "float", "int64"]

# Smallest normal float32: QNNPACK refuses denormal scales together with zero, infinity and NaN.
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


def scale_problem(scale: float) -> str | None:
    """Say what is wrong with a scale, or None: it must be finite, positive and a normal float32."""
    if not math.isfinite(scale) or scale <= 0:
        return f"is {scale}; must be finite and positive"
    if not SMALLEST_SCALE <= scale <= float(np.finfo(np.float32).max):
        return f"is {scale}; must be a normal float32, {SMALLEST_SCALE:.4g} to 3.4e38"
    return None


@dataclass(frozen=True, eq=False, slots=True)
class QTensor:
    """Real value = (data - zero_point) * scale; Caffe2's `Int8TensorCPU`.

    Attributes:
        data: uint8 values, or int32 for a bias.
        scale: A float32 value, finite and positive.
        zero_point: 0…255 for uint8 data.

    Raises:
        InvalidInput: The dtype, the scale or the zero point breaks these rules.
    """

    data: Array
    scale: float
    zero_point: int = 0

    def __post_init__(self) -> None:
        data = np.asarray(self.data)
        if data.dtype not in (np.uint8, np.int32):
            raise InvalidInput(f"QTensor data have dtype {data.dtype}; must be uint8 (or int32 for a bias)")
        with np.errstate(over="ignore"):
            scale = float(np.float32(self.scale))
        if (problem := scale_problem(scale)) is not None:
            raise InvalidInput(f"QTensor scale {problem}; re-export the tensor")
        if data.dtype == np.uint8 and not 0 <= self.zero_point <= 255:
            raise InvalidInput(f"QTensor zero_point is {self.zero_point}; must be 0 to 255 for uint8 data")
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero_point", int(self.zero_point))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the data."""
        return self.data.shape


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor as it is known when a net is loaded: no data yet, unless it is a constant."""

    kind: Kind
    shape: tuple[int, ...]
    scale: float = 1.0
    zero_point: int = 0
    constant: Array | None = field(default=None, compare=False, repr=False)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        if self.kind in ("int8", "int32"):
            return f"{self.kind} {list(self.shape)} scale {self.scale:.6g} zero point {self.zero_point}"
        return f"{self.kind} {list(self.shape)}"


def spec_of(value: QTensor | Array) -> TensorSpec:
    """Describe a tensor that exists: a `QTensor`, or a numpy array of float32, int32 or int64.

    Raises:
        InvalidInput: An array of another dtype.
    """
    if isinstance(value, QTensor):
        kind: Kind = "int8" if value.data.dtype == np.uint8 else "int32"
        return TensorSpec(kind, value.data.shape, value.scale, value.zero_point, value.data)
    kinds: dict[str, Kind] = {"float32": "float", "int32": "int32", "int64": "int64"}
    array = np.asarray(value)
    if array.dtype.name not in kinds:
        raise InvalidInput(
            f"a tensor has dtype {array.dtype}; must be a QTensor, or an array of float32, int32 or int64"
        )
    return TensorSpec(kinds[array.dtype.name], array.shape, constant=array)


def value_of(spec: TensorSpec, data: Array) -> QTensor | Array:
    """Join data with their description: the inverse of `spec_of`."""
    if spec.kind in ("int8", "int32"):
        return QTensor(data, spec.scale, spec.zero_point)
    return data
