"""A JPEG as far as it is looked at, in C++ where the library has libjpeg-turbo: worker/native/jpeg.cpp, without GIL."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_int32, c_int64, c_void_p
from functools import cache

import numpy as np
from numpy.typing import NDArray

from imagequeue_worker.caffe2 import native

Pixels = NDArray[np.uint8]
DecodeRegion = Callable[[bytes, int, int, tuple[int, int], tuple[int, int]], Pixels | None]
"""JPEG, height, width, rows (first, end), columns (first, end) -> the picture with only those filled; or None."""


class _Region(ctypes.Structure):
    """Region in worker/native/jpeg.h."""

    _fields_ = [(name, c_int32) for name in ("height", "width", "top", "bottom", "left", "right")]


def libjpeg_version() -> str | None:
    """Of the libjpeg-turbo in the library; None where it is built without, or is not there."""
    if native.problem():
        return None
    try:
        function = native.library().iq_jpeg_version
    except AttributeError:  # an older library
        return None
    function.restype = c_char_p
    version: bytes | None = function()
    return None if version is None else version.decode()


@cache
def native_jpeg() -> DecodeRegion | None:
    """How to decode a region in C++; None where there is no library, or one without libjpeg-turbo."""
    if libjpeg_version() is None:
        return None
    function = native.library().iq_jpeg_region
    function.restype = c_int32
    function.argtypes = [c_char_p, c_int64, POINTER(_Region), c_void_p, c_int64]

    def decode_region(
        data: bytes, height: int, width: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> Pixels | None:
        """The upright BGR picture uint8 [height, width, 3], anything outside of the region; None when it is refused."""
        pixels = np.empty((height, width, 3), np.uint8)
        region = _Region(height, width, *rows, *columns)
        refused = function(data, len(data), byref(region), pixels.ctypes.data, pixels.strides[0])
        return None if refused else pixels

    return decode_region
