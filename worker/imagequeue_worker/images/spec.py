"""What a net wants to see (`Preprocessing`), and what a worker is willing to decode (`Limits`).

Both are values: made once from a net's description or from settings, and handed down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError

ChannelOrder = Literal["BGR", "RGB"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a net's pixels are made from a decoded picture: Caffe2's ImageInput.

    The shorter side becomes `resize` pixels (OpenCV's INTER_AREA), then the centre `crop` x `crop` is cut
    out. `mean` and `std` are in units of 255 and, like the pixels, in `channel_order`. They are not applied
    to the uint8 pixels: the net joins them with its Int8Quantize to a 256-entry table per channel.
    """

    resize: int = 256
    crop: int = 224
    # Measured with Caffe2 on 1,000 ImageNet pictures: BGR 85 % top-1, RGB 67 % (DESIGN.md section 5).
    channel_order: ChannelOrder = "BGR"
    mean: tuple[float, float, float] = (0.406, 0.456, 0.485)
    std: tuple[float, float, float] = (0.225, 0.224, 0.229)

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize:
            raise ValueError(f"crop is {self.crop} of a picture resized to {self.resize}; 1 to resize fits")
        if self.channel_order not in ("BGR", "RGB"):
            raise ValueError(f"channel_order is {self.channel_order!r}; BGR and RGB are known")
        if min(self.std) <= 0:
            raise ValueError(f"std is {self.std}; every channel's must be positive")


ZOO = Preprocessing()
"""The Caffe2 model zoo's: its MobileNetV2 and every ImageNet net made like it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused as `too_large`, from the header, before any pixel is allocated."""

    image_bytes_max: int = 64 << 20
    pixels_max: int = 100_000_000  # 300 MB of BGR; a progressive JPEG needs three times that for a moment
    side_max: int = 65_535  # JPEG's own
    frames_max: int = 10_000  # of an animation: its decoder visits all of them to find the first

    def check_bytes(self, count: int) -> None:
        """Raise ImageError `too_large` when a file of `count` bytes is above the limit."""
        if count > self.image_bytes_max:
            raise ImageError(
                ErrorCode.TOO_LARGE,
                f"image has {count} bytes; at most {self.image_bytes_max} are read; raise --max-image-bytes",
            )

    def check_frames(self, count: int) -> None:
        """Raise ImageError `too_large` when an animation of `count` frames is above the limit."""
        if count > self.frames_max:
            raise ImageError(
                ErrorCode.TOO_LARGE,
                f"image has {count} frames or more; at most {self.frames_max} are read; raise --max-frames",
            )

    def check_size(self, width: int, height: int) -> None:
        """Raise ImageError `too_large` when a picture of this size in pixels is above a limit."""
        if max(width, height) > self.side_max:
            raise ImageError(
                ErrorCode.TOO_LARGE,
                f"image is {width}x{height}; its sides may have {self.side_max} pixels; raise --max-side",
            )
        if width * height > self.pixels_max:
            raise ImageError(
                ErrorCode.TOO_LARGE,
                f"image is {width}x{height}, {width * height} pixels; at most {self.pixels_max} are decoded; "
                "raise --max-pixels",
            )


DEFAULT_LIMITS = Limits()
