"""The C++ library `imagequeue_worker._native`, through ctypes: one wheel for every Python, no GIL held while it runs.

The structs are those of worker/native/program.h, path.h and abi.cpp.
"""

import ctypes
import importlib.util
import os
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_float, c_int32, c_int64, c_size_t, c_uint8, c_void_p
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np

from .tensor import Array

MODULE = "imagequeue_worker._native"
# For tests: another build of the library, with sanitizers say.
LIBRARY_VARIABLE = "IMAGEQUEUE_NATIVE_LIBRARY"


class Form(IntEnum):
    """How a layer's accumulators become bytes; each is proved for the layer when it is loaded."""

    ONE_FMA = 0
    SIGNED = 1
    Q31 = 2


class ConvShape(ctypes.Structure):
    """A convolution over one image, NHWC."""

    _fields_ = [
        *((name, c_int32) for name in ("height", "width", "channels", "out_height", "out_width", "out_channels")),
        *((name, c_int32) for name in ("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w")),
        *((name, c_int32) for name in ("pad_top", "pad_left", "pad_bottom", "pad_right", "group")),
        ("x_zero_point", c_uint8),
    ]


class LinearRule(ctypes.Structure):
    """The arithmetic of a convolution or fully connected layer; weights int16, bias int32."""

    _fields_ = [
        ("scale", c_float),
        ("zero_point", c_int32),
        ("minimum", c_int32),
        ("lowest", c_int64),
        ("highest", c_int64),
        ("weights", c_void_p),
        ("bias", c_void_p),
    ]


class AddRule(ctypes.Structure):
    """Int8Add in int32."""

    _fields_ = [
        (name, c_int32)
        for name in (
            *("a_multiplier", "b_multiplier", "a_zero_point", "b_zero_point"),
            *("shift", "zero_point", "minimum"),
        )
    ]


class PoolShape(ctypes.Structure):
    """A window that slides over one image, NHWC."""

    _fields_ = [
        (name, c_int32)
        for name in (
            *("height", "width", "channels", "out_height", "out_width"),
            *("kernel_h", "kernel_w", "stride_h", "stride_w", "pad_top", "pad_left"),
        )
    ]


class AverageRule(ctypes.Structure):
    """Average pooling's single rounding."""

    _fields_ = [
        ("multiplier", c_int64),
        ("shift", c_int32),
        ("x_zero_point", c_int32),
        ("zero_point", c_int32),
        ("minimum", c_int32),
    ]


_TWO, _THREE = [c_size_t] * 2, [c_size_t] * 3
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "iq_path_count": (c_int32, []),
    "iq_path_name": (c_char_p, [c_int32]),
    "iq_program_new": (c_void_p, [c_char_p]),
    "iq_program_free": (None, [c_void_p]),
    "iq_convolution": (c_int32, [c_void_p, POINTER(ConvShape), POINTER(LinearRule), *_TWO]),
    "iq_depthwise": (c_int32, [c_void_p, POINTER(ConvShape), POINTER(LinearRule), *_TWO]),
    "iq_add": (c_int32, [c_void_p, POINTER(AddRule), c_int64, *_THREE]),
    "iq_average_pool": (c_int32, [c_void_p, POINTER(PoolShape), POINTER(AverageRule), *_TWO]),
    "iq_max_pool": (c_int32, [c_void_p, POINTER(PoolShape), c_int32, *_TWO]),
    "iq_bytes": (c_int32, [c_void_p, c_void_p, c_int64, *_TWO]),
    "iq_floats": (c_int32, [c_void_p, c_void_p, c_int64, *_TWO]),
    "iq_softmax": (c_int32, [c_void_p, c_void_p, c_int64, *_TWO]),
    "iq_input": (c_int32, [c_void_p, c_size_t, c_size_t]),
    "iq_output": (c_int32, [c_void_p, c_size_t, c_size_t]),
    "iq_expect_table": (c_int32, [c_void_p, c_void_p, c_int32]),
    "iq_finish": (None, [c_void_p, c_size_t]),
    "iq_run": (c_int32, [c_void_p, c_int64, POINTER(c_void_p), POINTER(c_void_p), c_void_p, c_int32]),
    "iq_profile": (c_int32, [c_void_p, c_int32, POINTER(c_void_p), c_void_p, c_int32, c_void_p]),
    "iq_requantization_differences": (c_int64, [c_float, c_int32, c_int32, c_int64, c_int64, POINTER(c_int32)]),
}


def library() -> ctypes.CDLL:
    """Load the library.

    Raises:
        OSError: It was not built, or does not load; `problem` says why.
    """
    loaded, why = _load()
    if loaded is None:
        raise OSError(why)
    return loaded


def problem() -> str:
    """Say why there is no native engine; empty if there is one."""
    return _load()[1]


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    # Not beside __file__: an editable install puts it elsewhere.
    spec = importlib.util.find_spec(MODULE)
    file = os.environ.get(LIBRARY_VARIABLE) or (spec.origin if spec else None)
    if file is None:
        return None, "the C++ library was not built; install a C++ compiler (or ziglang: `make` does), install again"
    try:
        loaded = ctypes.CDLL(file)
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return None, f"{file} does not load ({error}); install again"
    return loaded, ""


def path_names() -> list[str]:
    """List the instruction sets that the library has kernels for and this processor can run, best first."""
    if problem():
        return []
    loaded = library()
    return [loaded.iq_path_name(i).decode() for i in range(loaded.iq_path_count())]


class Program:
    """Steps over one arena, built by one thread, then run by any number of threads at once.

    Offsets are those of the arena that `finish` fixes, in bytes; see `arena.place`.
    """

    def __init__(self, path: str) -> None:
        self._library = library()
        self._handle = self._library.iq_program_new(path.encode())
        if not self._handle:
            raise MemoryError

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.iq_program_free(self._handle)

    def _call(self, name: str, *arguments: object) -> int:
        result: int = getattr(self._library, name)(self._handle, *arguments)
        if result is not None and result < 0:
            raise MemoryError
        return result

    def convolution(self, shape: ConvShape, rule: LinearRule, x: int, y: int) -> Form:
        """Append a convolution; returns how it requantizes."""
        return Form(self._call("iq_convolution", shape, rule, x, y))

    def depthwise(self, shape: ConvShape, rule: LinearRule, x: int, y: int) -> Form:
        """Append a depthwise convolution without dilation of rows; returns how it requantizes."""
        return Form(self._call("iq_depthwise", shape, rule, x, y))

    def add(self, rule: AddRule, count: int, a: int, b: int, y: int) -> None:
        """Append Int8Add."""
        self._call("iq_add", rule, count, a, b, y)

    def average_pool(self, shape: PoolShape, rule: AverageRule, x: int, y: int) -> None:
        """Append Int8AveragePool."""
        self._call("iq_average_pool", shape, rule, x, y)

    def max_pool(self, shape: PoolShape, minimum: int, x: int, y: int) -> None:
        """Append Int8MaxPool."""
        self._call("iq_max_pool", shape, minimum, x, y)

    def table(self, table: Array, count: int, x: int, y: int) -> None:
        """Append y = table[x], 256 entries of uint8 or float32."""
        self._call("iq_bytes" if table.dtype == np.uint8 else "iq_floats", table.ctypes.data, count, x, y)

    def softmax(self, exponentials: Array, count: int, x: int, y: int) -> None:
        """Append Int8Softmax over `count` values; int64 [256] exponentials."""
        self._call("iq_softmax", exponentials.ctypes.data, count, x, y)

    def finish(self, inputs: Sequence[tuple[int, int]], outputs: Sequence[tuple[int, int]], arena_bytes: int) -> None:
        """Fix the tensors that cross the border, as (offset, bytes of one image), and the arena's size."""
        for offset, size in inputs:
            self._call("iq_input", offset, size)
        for offset, size in outputs:
            self._call("iq_output", offset, size)
        self._library.iq_finish(self._handle, arena_bytes)

    def expect_table(self, table: Array) -> None:
        """Make ready for a table, uint8 [C, 256], that `run` will be given; before the first run."""
        self._call("iq_expect_table", table.ctypes.data, len(table))

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], table: Array | None) -> None:
        """Run all images of `inputs`, contiguous arrays [N, …], into `outputs`; without the GIL.

        Args:
            inputs: In the order of `finish`.
            outputs: Written; in the order of `finish`.
            table: uint8 [C, 256], through which the first input is mapped on its way in.
        """
        self._call("iq_run", len(inputs[0]), _addresses(inputs), _addresses(outputs), *_table_arguments(table))

    def profile(self, inputs: Sequence[Array], table: Array | None, rounds: int, steps: int) -> Array:
        """Time the first image's way in and then each of `steps` steps: float64 nanoseconds, best of `rounds`."""
        nanoseconds = np.empty(1 + steps)
        self._call("iq_profile", rounds, _addresses(inputs), *_table_arguments(table), nanoseconds.ctypes.data)
        return nanoseconds


def _addresses(arrays: Sequence[Array]) -> ctypes.Array[c_void_p]:
    return (c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


def _table_arguments(table: Array | None) -> tuple[int | None, int]:
    return (None, 0) if table is None else (table.ctypes.data, len(table))


def requantization_differences(
    scale: float, zero_point: int, minimum: int, lowest: int, highest: int
) -> tuple[Form, int]:
    """Compare the proved form with the rule for every accumulator of a range, for tests: (form, differing)."""
    form = c_int32()
    differing: int = library().iq_requantization_differences(scale, zero_point, minimum, lowest, highest, form)
    return Form(form.value), differing
