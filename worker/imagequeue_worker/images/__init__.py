"""Bytes -> pixels, equal byte for byte to Caffe2's ImageInput with OpenCV.

In the order of reading:

- spec.py: what a net wants to see, and what a worker is willing to decode
- decode.py: bytes -> upright BGR picture; jpeg.py: JPEG, in C++ by native_jpeg.py as far as a net sees it
- formats.py: everything else, by Pillow; colours.py: as OpenCV sees it; gif.py, png.py, tiff.py: what Pillow
  does not notice; quiet.py: nothing on standard error
- orientation.py: EXIF, which way is up
- resize.py: picture -> crop, in C++ by native_resize.py where the library is there; taps.py: its coordinates and
  weights in numpy
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imagequeue_worker.images.decode import decode
from imagequeue_worker.images.resize import resize_and_crop
from imagequeue_worker.images.spec import DEFAULT_LIMITS, ZOO, Limits, Preprocessing

__all__ = ["DEFAULT_LIMITS", "ZOO", "Limits", "Preprocessing", "crop_for", "decode", "preprocess", "resize_and_crop"]


def preprocess(data: bytes, spec: Preprocessing = ZOO, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Decode an image file and return what a net sees: uint8 `[crop, crop, 3]` in its channel order.

    The picture is turned upright (EXIF), its shorter side resized to `spec.resize` (INTER_AREA), and its
    centre cut out. The answer is a contiguous array of its own. Safe to call from several threads; decoding
    and the larger array operations release the GIL.

    Raises ImageError, and nothing else but MemoryError: `unsupported_format` (no image, or none that is
    read), `corrupt` (truncated or damaged: never a partial picture), `too_large` (above `limits`, decided from
    the header).
    """
    return crop_for(decode(data, limits, spec), spec)


def crop_for(picture: NDArray[np.uint8], spec: Preprocessing = ZOO) -> NDArray[np.uint8]:
    """What a net sees of a decoded picture, uint8 `[height, width, 3]` in BGR; as `preprocess` returns it."""
    pixels = resize_and_crop(picture, spec.resize, spec.crop)
    return pixels if spec.channel_order == "BGR" else np.ascontiguousarray(pixels[:, :, ::-1])
