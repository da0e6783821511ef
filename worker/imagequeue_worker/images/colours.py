"""Pillow's picture -> BGR as OpenCV's `IMREAD_COLOR` makes it (PIXELS.md section 6, measured on OpenCV 5.0).

Alpha is dropped, never composited, and transparency ignored; the exceptions are OpenCV's own. Known to
differ from OpenCV by 1 or 2: 16-bit RGB of TIFF and PPM, YCbCr and premultiplied TIFF; and PGM or PPM whose
maximum is not 255 or 65535, which OpenCV does not scale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError

Pixels = NDArray[np.uint8]

# OpenCV shifts 5- and 6-bit channels left, Pillow stretches them to 255. In B, G, R.
_BMP16_MASK = {
    "BGR;15": np.array([0xF8, 0xF8, 0xF8], np.uint8),
    "BGR;16": np.array([0xF8, 0xFC, 0xF8], np.uint8),
}


def bgr(image: ImageFile.ImageFile, name: str) -> Pixels:
    """Load `image`, a file of the format `name`, and return uint8 `[height, width, 3]` in BGR.

    Raises ImageError `unsupported_format` for modes without an 8-bit meaning, and whatever Pillow raises.
    """
    packing = _packing(image)  # known before loading only
    image.load()
    image.info.pop("transparency", None)  # `convert` would warn about it
    pixels = _pixels(image, name)
    if name == "BMP" and packing in _BMP16_MASK:
        pixels &= _BMP16_MASK[packing]
    return pixels


def _packing(image: ImageFile.ImageFile) -> str:
    """How the pixels are packed in the file, in Pillow's words; empty where it does not say."""
    arguments = image.tile[0].args if image.tile else None
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _pixels(image: Image.Image, name: str) -> Pixels:
    match image.mode:
        case "1" | "P" | "PA" | "YCbCr":
            return _reversed(np.asarray(image.convert("RGB")))
        case "L":
            return _grey(np.asarray(image))
        case "LA" | "La":
            return _grey(np.asarray(image)[:, :, 0])
        case "I;16" | "I;16L" | "I;16B":
            return _grey(np.asarray(image) >> 8)
        case "I" if name in ("PPM", "PNG"):  # 16 bits in 32
            return _grey(np.asarray(image) >> 8)
        case "RGB" | "RGBX":
            return _reversed(np.asarray(image))
        case "RGBA" | "RGBa":
            return _times_alpha(np.asarray(image)) if name == "TIFF" else _reversed(np.asarray(image))
        case "CMYK":
            return _from_inks(np.asarray(image))
        case mode:
            raise ImageError(
                ErrorCode.UNSUPPORTED_FORMAT,
                f"{name} has pixels of the kind {mode!r}; grey, colour and palette of 8 and 16 bits are read",
            )


def _reversed(rgb: Pixels) -> Pixels:
    return np.ascontiguousarray(rgb[:, :, 2::-1])


def _grey(levels: NDArray[np.generic]) -> Pixels:
    return np.repeat(levels.astype(np.uint8)[:, :, np.newaxis], 3, axis=2)


def _times_alpha(rgba: Pixels) -> Pixels:
    """OpenCV multiplies a TIFF's colours by its straight alpha, as it does for no other format."""
    colours, alpha = rgba[:, :, 2::-1].astype(np.uint32), rgba[:, :, 3:].astype(np.uint32)
    pixels: Pixels = ((colours * alpha + 127) // 255).astype(np.uint8)
    return pixels


def _from_inks(cmyk: Pixels) -> Pixels:
    """TIFF's CMYK; JPEG's never comes here."""
    ink, black = cmyk[:, :, 2::-1].astype(np.uint32), cmyk[:, :, 3:].astype(np.uint32)
    pixels: Pixels = ((255 - black) * (255 - ink) // 255).astype(np.uint8)
    return pixels
