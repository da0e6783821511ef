"""Bytes -> an upright BGR picture, whatever the format; every refusal is an ImageError.

JPEG has a file of its own, `jpeg.py`; everything else goes through Pillow, in `formats.py`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.images.formats import FORMATS, decode_other, sniff
from imagequeue_worker.images.jpeg import decode_jpeg
from imagequeue_worker.images.spec import DEFAULT_LIMITS, Limits, Preprocessing


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS, spec: Preprocessing | None = None) -> NDArray[np.uint8]:
    """Decode an image file to an upright picture, uint8 `[height, width, 3]` in BGR.

    With `spec`, only what its crop is made of is promised: the rest of a JPEG may be anything.

    Raises ImageError: `unsupported_format` (empty, or no image that is read), `corrupt` (truncated or
    damaged), `too_large` (above `limits`; decided from the header, nothing is allocated).
    """
    if not data:
        raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, "image has 0 bytes; the file is empty")
    limits.check_bytes(len(data))
    if data.startswith(b"\xff\xd8\xff"):
        return decode_jpeg(data, limits, spec)
    name = sniff(data)
    if name is None:
        names = ", ".join(FORMATS)
        raise ImageError(
            ErrorCode.UNSUPPORTED_FORMAT,
            f"{len(data)} bytes that begin with {data[:8]!r} are no image; JPEG and {names} are read",
        )
    return decode_other(data, name, limits)
