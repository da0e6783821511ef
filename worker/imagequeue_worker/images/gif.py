"""The first frame of a GIF as OpenCV paints it, and whether a GIF was cut.

OpenCV paints a frame over the background colour of the global palette (black where there is no such palette);
Pillow paints it over index 0, and enlarges the picture when a frame lies outside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from imagequeue_worker.images.spec import Limits

_HEADER_BYTES = 13
_EXTENSION, _FRAME, _TRAILER = 0x21, 0x2C, 0x3B


def check_gif(data: bytes, image: ImageFile.ImageFile, limits: Limits) -> None:
    """Raise ValueError when a GIF is cut, or when its first frame lies outside its picture; ImageError `too_large`."""
    width, height = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if image.size != (width, height):
        raise ValueError(f"its first frame lies outside its {width}x{height} pixels")
    position, frames = _HEADER_BYTES + _table_bytes(data[10]), 0
    try:
        while data[position] != _TRAILER:
            block = data[position]
            position += 1
            if block == _EXTENSION:
                position = _after_pieces(data, position + 1)
            elif block == _FRAME:
                frames += 1
                limits.check_frames(frames)
                position += 9 + _table_bytes(data[position + 8])
                position = _after_pieces(data, position + 1)
    except IndexError:
        raise ValueError(f"it ends after {len(data)} bytes, before its trailer") from None


def _table_bytes(flags: int) -> int:
    """The size of the colour table that a header or frame announces."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_pieces(data: bytes, position: int) -> int:
    """The position after a chain of pieces: a length each, 0 the last."""
    while length := data[position]:
        position += length + 1
    return position + 1


def gif_bgr(data: bytes, image: ImageFile.ImageFile) -> NDArray[np.uint8]:
    """Load the first frame and return uint8 `[height, width, 3]` in BGR."""
    left, top, right, bottom = image.tile[0].extents or (0, 0, *image.size)
    first = _HEADER_BYTES + 3 * data[11]
    background = data[first : first + 3] if 3 * data[11] < _table_bytes(data[10]) else bytes(3)

    frame = np.asarray(image.convert("RGBA"))[top:bottom, left:right]
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    pixels[:] = tuple(background[::-1])
    np.copyto(pixels[top:bottom, left:right], frame[:, :, 2::-1], where=frame[:, :, 3:] != 0)
    return pixels
