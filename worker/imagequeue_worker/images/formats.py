"""Every format but JPEG, by Pillow: which are read, how they are opened, and what is checked before decoding.

The plugins are called by name, never through `Image.open`: the list below is all that hostile bytes can
reach. ICO (decodes on opening), JPEG 2000 (believes its header) and EPS (runs Ghostscript) are left out on
purpose: PIXELS.md section 6.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.images import quiet
from imagequeue_worker.images.colours import bgr
from imagequeue_worker.images.gif import check_gif, gif_bgr
from imagequeue_worker.images.orientation import exif_orientation, turn
from imagequeue_worker.images.png import check_png, check_png_rows
from imagequeue_worker.images.spec import Limits
from imagequeue_worker.images.tiff import check_tiff

quiet.silence_pillow()

_OPEN: Final[Mapping[str, Callable[[io.BytesIO], ImageFile.ImageFile]]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}
FORMATS: Final = tuple(_OPEN)

# BMP and PPM begin with two letters, so a word more of their headers is asked for: text is no damaged
# picture.
_MAGIC: Final = tuple(
    (name, re.compile(pattern, re.DOTALL))
    for name, pattern in (
        ("PNG", rb"\x89PNG\r\n\x1a\n"),
        ("WEBP", rb"RIFF....WEBP"),
        ("GIF", rb"GIF8[79]a"),
        ("TIFF", rb"II\*\x00|MM\x00\*|II\+\x00|MM\x00\+"),
        ("BMP", rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00"),
        ("PPM", rb"P[1-6](?:\s|#[^\n]{0,200}\n){1,20}\d"),
        ("AVIF", rb".{4}ftypavi[fs]"),
    )
)
_TURNED: Final = frozenset({"PNG", "WEBP"})  # Pillow turns TIFF by itself; OpenCV turns no other format
# Their headers tell how many frames there are. GIF's are counted on the way to its end; of a TIFF, only the first page
# is looked for.
_COUNTED: Final = frozenset({"PNG", "WEBP", "AVIF"})
# Pillow's words for a kind of file that it does not read.
_UNSUPPORTED: Final = re.compile("unknown|unsupported|not supported|not installed", re.IGNORECASE)


def sniff(data: bytes) -> str | None:
    """The name of the format whose signature `data` begins with; None when it is none of `FORMATS`."""
    return next((name for name, magic in _MAGIC if magic.match(data)), None)


def decode_other(data: bytes, name: str, limits: Limits) -> NDArray[np.uint8]:
    """Decode a file of the format `name` to an upright picture, uint8 `[height, width, 3]` in BGR.

    Of an animation, the first frame. Raises ImageError: `too_large` from the header, `corrupt` for whatever
    Pillow refuses, `unsupported_format` for pixels without an 8-bit meaning (float and 32-bit TIFF).
    """
    try:
        if name == "TIFF":
            check_tiff(data)
        with _OPEN[name](io.BytesIO(data)) as image:
            limits.check_size(*image.size)
            if name in _COUNTED:
                limits.check_frames(getattr(image, "n_frames", 1))
            pixels = _load(data, name, image, limits)
            # Asked for after loading: in a PNG it may stand behind the pixels.
            exif = image.info.get("exif", b"") if name in _TURNED else b""
            return turn(pixels, exif_orientation(exif))
    except ImageError:
        raise
    except Image.DecompressionBombError as error:  # WebP's plugin has a limit of its own, above our default
        message = f"{name}: {error} At most {limits.pixels_max} are decoded (--max-pixels)"
        raise ImageError(ErrorCode.TOO_LARGE, message) from error
    except MemoryError as error:
        raise ImageError(ErrorCode.TOO_LARGE, f"{name}: memory ran out decoding it") from error
    except Exception as error:  # Pillow's parsers raise some dozen kinds on damaged files
        raise _refusal(name, error) from error


def _load(data: bytes, name: str, image: ImageFile.ImageFile, limits: Limits) -> NDArray[np.uint8]:
    if name == "GIF":
        check_gif(data, image, limits)
        return gif_bgr(data, image)
    if name == "PNG":
        check_png(data, image)
    pixels = bgr(image, name)
    if name == "PNG":
        check_png_rows(data, pixels)
    return pixels


def _refusal(name: str, error: Exception) -> ImageError:
    message = (str(error) or type(error).__name__)[:200]
    if _UNSUPPORTED.search(message):
        return ImageError(ErrorCode.UNSUPPORTED_FORMAT, f"{name} of a kind that is not read: {message}")
    return ImageError(ErrorCode.CORRUPT, f"{name} is truncated or damaged: {message}")
