"""Whether a PNG is all there. Pillow fills missing rows with black, and does without a palette or an end."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

_SIGNATURE_BYTES: Final = 8
_CHUNK_EXTRA: Final = 12  # length, type and checksum around a chunk's data
_PIECE: Final = 1 << 16  # bytes inflated at once
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Adam7: first column, first row, column step, row step of each pass; without interlacing there is one.
_PASSES: Final = {
    0: ((0, 0, 1, 1),),
    1: ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
}


def check_png(data: bytes, image: ImageFile.ImageFile) -> None:
    """Raise ValueError when a PNG lacks its end, or the palette that it needs."""
    position = _SIGNATURE_BYTES
    while (kind := data[position + 4 : position + 8]) and kind != b"IEND":
        position += int.from_bytes(data[position : position + 4], "big") + _CHUNK_EXTRA
    if position + _CHUNK_EXTRA > len(data):
        raise ValueError(f"it ends after {len(data)} bytes, before its IEND chunk does")
    if image.mode == "P" and image.palette is None:
        raise ValueError("its PLTE chunk is missing")


def check_png_rows(data: bytes, pixels: NDArray[np.uint8]) -> None:
    """Raise ValueError when the rows of a decoded PNG end early.

    Missing rows are black, and the last one is always among them, so that inflating once more is rarely
    needed.
    """
    if not pixels[-1].any() or data[28]:
        missing = _row_bytes(data) - _inflated_bytes(data)
        if missing > 0:
            raise ValueError(f"{missing} bytes of its rows are missing")


def _row_bytes(data: bytes) -> int:
    """How many bytes the header promises: a filter byte and the packed pixels of every row of every pass."""
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    bits = data[24] * _CHANNELS[data[25]]
    total = 0
    for first_column, first_row, column_step, row_step in _PASSES[data[28]]:
        columns = max(0, -(-(width - first_column) // column_step))
        rows = max(0, -(-(height - first_row) // row_step))
        total += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    return total


def _inflated_bytes(data: bytes) -> int:
    inflater, count = zlib.decompressobj(), 0
    for chunk in _idat(data):
        rest = chunk
        while rest and not inflater.eof:
            count += len(inflater.decompress(rest, _PIECE))
            rest = inflater.unconsumed_tail
    return count + len(inflater.flush())


def _idat(data: bytes) -> Iterator[bytes]:
    position = _SIGNATURE_BYTES
    while (kind := data[position + 4 : position + 8]) != b"IEND" and position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if kind == b"IDAT":
            yield data[position + 8 : position + 8 + length]
        position += length + _CHUNK_EXTRA
