"""Bombs: refused from the header, before memory is asked for; the message names value, limit and setting."""

import resource
import struct

import picture_files as made
import pytest

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.images import Limits, decode, preprocess

_JPEG = made.encode(made.COFFEE, "JPEG")
_FRAME = _JPEG.index(b"\xff\xc0") + 5
_VP8X = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff" * 5 + bytes(1)

BOMBS = {
    "jpeg": _JPEG[:_FRAME] + struct.pack(">HH", 65500, 65500) + _JPEG[_FRAME + 4 :],
    "png": made.png(30000, 30000, 8, 2, b""),
    "gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + made.gif((0, 0, 20, 10))[10:],
    "bmp": made.bmp(24, made.np.zeros((1, 60000, 3), made.np.uint8), height=60000),
    "ppm": b"P6 60000 60000 255\n",
    "webp": b"RIFF" + struct.pack("<I", 40) + b"WEBP" + _VP8X + bytes(30),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=list(BOMBS))
def test_a_bomb_is_too_large_and_allocates_nothing(data):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB
    with pytest.raises(ImageError, match=r"--max-pixels") as caught:
        preprocess(data)
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


LIMITS = [
    (Limits(pixels_max=14_999), "150x100, 15000 pixels; at most 14999 .* --max-pixels"),
    (Limits(side_max=149), "150x100; .* 149 .* --max-side"),
    (
        Limits(image_bytes_max=len(_JPEG) - 1),
        f"{len(_JPEG)} bytes; at most {len(_JPEG) - 1} .* --max-image-bytes",
    ),
]


@pytest.mark.parametrize(("limits", "message"), LIMITS, ids=["pixels", "side", "bytes"])
def test_the_message_names_value_limit_and_setting(limits, message):
    with pytest.raises(ImageError, match=message) as caught:
        preprocess(_JPEG, limits=limits)
    assert caught.value.code is ErrorCode.TOO_LARGE


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF"])
def test_every_format_is_held_to_the_limits_and_may_reach_them(kind):
    data = made.encode(made.COFFEE, kind)
    reached = Limits(image_bytes_max=len(data), pixels_max=15_000, side_max=150)
    assert decode(data, reached).shape == (100, 150, 3)
    with pytest.raises(ImageError, match="--max-pixels"):
        decode(data, Limits(pixels_max=14_999))


ANIMATED = ["GIF", "WEBP", "PNG", "AVIF"]


@pytest.mark.parametrize("kind", ANIMATED)
def test_an_animation_may_have_so_many_frames_and_no_more(kind):
    image = made.PALETTE if kind == "GIF" else made.COFFEE
    data = made.encode(image, kind, save_all=True, append_images=[image.rotate(90 * turn) for turn in (2, 0, 2)])
    assert decode(data, Limits(frames_max=4)).shape == (100, 150, 3)
    with pytest.raises(ImageError, match="at most 3 are read; raise --max-frames") as caught:
        decode(data, Limits(frames_max=3))
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_pages_of_a_tiff_are_no_frames():
    data = made.encode(made.COFFEE, "TIFF", save_all=True, append_images=[made.COFFEE] * 3)
    assert decode(data, Limits(frames_max=1)).shape == (100, 150, 3)


def test_a_jpeg_with_hundreds_of_scans_is_refused():
    data = made.encode(made.COFFEE, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    with pytest.raises(ImageError, match="more than 100 scans") as caught:
        decode(data[:-2] + data[last:-2] * 200 + data[-2:])
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_scan_markers_behind_the_end_do_not_count():
    assert decode(_JPEG + b"\xff\xda\x00\x05" * 300).shape == (100, 150, 3)
