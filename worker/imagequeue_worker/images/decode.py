"""Bytes -> an upright BGR picture, whatever the format; every refusal is an ImageError.

JPEG goes through simplejpeg (libjpeg-turbo's defaults: islow, fancy upsampling; strict, so that a cut file is
`corrupt` and never a half-grey picture). Everything else goes through Pillow, in `formats.py`.
"""

from __future__ import annotations

import re

import numpy as np
import simplejpeg  # type: ignore[import-untyped]
from numpy.typing import NDArray

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.images.formats import FORMATS, decode_other, sniff
from imagequeue_worker.images.orientation import jpeg_orientation, turn
from imagequeue_worker.images.spec import DEFAULT_LIMITS, Limits

# A marker inside or between scans: 0xFF00 is a stuffed byte, 0xFFD0 … 0xFFD7 are restarts, 0xFFFF is fill.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_START_OF_SCAN = b"\xff\xda"
_SCANS_MAX = 100  # each scan visits every block; usual progressive files have 10


def _count_scans(data: bytes) -> int:
    """How often _START_OF_SCAN occurs; bytes.count takes four times as long, a tenth of a millisecond a picture."""
    first, second = _START_OF_SCAN
    values = np.frombuffer(data, np.uint8)
    return int(np.count_nonzero((values[:-1] == first) & (values[1:] == second)))


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Decode an image file to an upright picture, uint8 `[height, width, 3]` in BGR.

    Raises ImageError: `unsupported_format` (empty, or no image that is read), `corrupt` (truncated or
    damaged), `too_large` (above `limits`; decided from the header, nothing is allocated).
    """
    if not data:
        raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, "image has 0 bytes; the file is empty")
    limits.check_bytes(len(data))
    if data.startswith(b"\xff\xd8\xff"):
        return _decode_jpeg(data, limits)
    name = sniff(data)
    if name is None:
        names = ", ".join(FORMATS)
        raise ImageError(
            ErrorCode.UNSUPPORTED_FORMAT,
            f"{len(data)} bytes that begin with {data[:8]!r} are no image; JPEG and {names} are read",
        )
    return decode_other(data, name, limits)


def _decode_jpeg(data: bytes, limits: Limits) -> NDArray[np.uint8]:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, OverflowError) as error:
        raise _jpeg_error(error) from error
    limits.check_size(int(width), int(height))
    if _count_scans(data) > _SCANS_MAX:  # includes chance hits in metadata and trailing data
        _check_scans(data)
    try:
        pixels = simplejpeg.decode_jpeg(data, "BGR")
    except MemoryError as error:
        raise ImageError(ErrorCode.TOO_LARGE, f"image is {width}x{height}; memory ran out decoding it") from error
    except (ValueError, OverflowError) as error:
        raise _jpeg_error(error) from error
    return turn(pixels, jpeg_orientation(data))


def _jpeg_error(error: Exception) -> ImageError:
    if "nsupported" in str(error):  # libjpeg's word for 12-bit, lossless and other rare processes
        return ImageError(ErrorCode.UNSUPPORTED_FORMAT, f"JPEG of a kind that is not read: {error}")
    return ImageError(ErrorCode.CORRUPT, f"JPEG is truncated or damaged: {error}")


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
