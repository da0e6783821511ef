"""Resize and crop in C++, where the library is there: worker/native/resize.cpp, without the GIL."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_int32, c_int64, c_void_p
from functools import cache

import numpy as np
from numpy.typing import NDArray

from imagequeue_worker.caffe2 import native
from imagequeue_worker.images.taps import Window

Pixels = NDArray[np.uint8]
Resize = Callable[[Pixels, Window, Window], Pixels]


class _Axis(ctypes.Structure):
    """`taps.Window`."""

    _fields_ = [(name, c_int32) for name in Window._fields]


@cache
def native_resize(*, vectors: bool = True) -> Resize | None:
    """How to resize in C++; None where there is no library, or an older one without it.

    Args:
        vectors: As this processor does it best; otherwise in plain C++, as where it has no AVX2.
    """
    if native.problem():
        return None
    try:
        function = native.library().iq_resize
    except AttributeError:
        return None
    function.restype = c_int32
    function.argtypes = [c_void_p, c_int64, POINTER(_Axis), POINTER(_Axis), c_int32, c_void_p]

    def resize(pixels: Pixels, rows: Window, columns: Window) -> Pixels:
        """uint8 [rows.src, columns.src, 3] -> uint8 [rows.size, columns.size, 3]."""
        pitch, *rest = pixels.strides
        if rest != [3, 1]:  # rows may lie anywhere, pixels may not
            pixels = np.ascontiguousarray(pixels)
            pitch = pixels.strides[0]
        out = np.empty((rows.size, columns.size, 3), np.uint8)
        across, down = _Axis(*columns), _Axis(*rows)
        if function(pixels.ctypes.data, pitch, byref(down), byref(across), vectors, out.ctypes.data) < 0:
            raise MemoryError
        return out

    return resize
