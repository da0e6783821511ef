"""JPEG: libjpeg-turbo's defaults (islow, fancy upsampling), strict: a cut file is `corrupt`, never a half-grey picture.

By simplejpeg; and where it is known what a net sees of the picture, in C++ only as far as that goes. What that refuses,
simplejpeg is asked for, so that both end in the same errors; damage below what a net sees is no error there.
"""

from __future__ import annotations

import re

import numpy as np
import simplejpeg  # type: ignore[import-untyped]
from numpy.typing import NDArray

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.images.native_jpeg import native_jpeg
from imagequeue_worker.images.orientation import UPRIGHT, jpeg_orientation, turn
from imagequeue_worker.images.resize import windows
from imagequeue_worker.images.spec import Limits, Preprocessing

Pixels = NDArray[np.uint8]

# A marker inside or between scans: 0xFF00 is a stuffed byte, 0xFFD0 … 0xFFD7 are restarts, 0xFFFF is fill.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_START_OF_SCAN = b"\xff\xda"
_SCANS_MAX = 100  # each scan visits every block; usual progressive files have 10. Also in worker/native/jpeg.cpp


def decode_jpeg(data: bytes, limits: Limits, spec: Preprocessing | None) -> Pixels:
    """Decode a JPEG to an upright picture, uint8 `[height, width, 3]` in BGR.

    With `spec`, what its crop is not made of may be anything. Raises ImageError, as `decode` does.
    """
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, OverflowError) as error:
        raise _refusal(error) from error
    limits.check_size(int(width), int(height))
    orientation = jpeg_orientation(data)
    if spec is not None and orientation == UPRIGHT:
        pixels = _decode_seen(data, int(height), int(width), spec)
        if pixels is not None:
            return pixels
    return turn(_decode_whole(data, int(height), int(width)), orientation)


def _decode_seen(data: bytes, height: int, width: int, spec: Preprocessing) -> Pixels | None:
    """What the net sees of it; None when this is not to be had."""
    decode_region = native_jpeg()
    if decode_region is None:
        return None
    rows, columns = windows(height, width, spec.resize, spec.crop)
    return decode_region(data, height, width, rows.sources, columns.sources)


def _decode_whole(data: bytes, height: int, width: int) -> Pixels:
    if _count_scans(data) > _SCANS_MAX:  # includes chance hits in metadata and trailing data
        _check_scans(data)
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "BGR")
    except MemoryError as error:
        raise ImageError(ErrorCode.TOO_LARGE, f"image is {width}x{height}; memory ran out decoding it") from error
    except (ValueError, OverflowError) as error:
        raise _refusal(error) from error
    return pixels


def _refusal(error: Exception) -> ImageError:
    if "nsupported" in str(error):  # libjpeg's word for 12-bit, lossless and other rare processes
        return ImageError(ErrorCode.UNSUPPORTED_FORMAT, f"JPEG of a kind that is not read: {error}")
    return ImageError(ErrorCode.CORRUPT, f"JPEG is truncated or damaged: {error}")


def _count_scans(data: bytes) -> int:
    """How often _START_OF_SCAN occurs; bytes.count takes four times as long, a tenth of a millisecond a picture."""
    first, second = _START_OF_SCAN
    values = np.frombuffer(data, np.uint8)
    return int(np.count_nonzero((values[:-1] == first) & (values[1:] == second)))


def _check_scans(data: bytes) -> None:
    """Raise ImageError `too_large` when a JPEG has so many scans that it was made to keep a decoder busy."""
    position, scans = 2, 0
    while (match := _MARKER.search(data, position)) is not None:
        marker = match[1][0]
        if marker == 0xD9:  # EOI: what follows is not decoded
            return
        scans += marker == 0xDA
        if scans > _SCANS_MAX:
            raise ImageError(
                ErrorCode.TOO_LARGE,
                f"JPEG has more than {_SCANS_MAX} scans; it may be made to exhaust decoders; save it anew",
            )
        position = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")
