"""A corpus of files as the world has them: good ones of every odd kind, damaged ones, bombs, and no images at all.

Each comes with the outcomes that are documented for it: `ok`, or codes.
"""

import io
import random
import struct
from dataclasses import dataclass

import numpy as np
import picture_files as made
from PIL import Image, ImageCms

OK, CORRUPT, TOO_LARGE, UNSUPPORTED = "ok", "corrupt", "too_large", "unsupported_format"
ANY = frozenset({OK, CORRUPT, TOO_LARGE, UNSUPPORTED})


@dataclass(frozen=True)
class File:
    name: str
    data: bytes
    outcomes: frozenset[str]


def _encode(image, name, **options):
    return made.encode(image, name, **options)


def _frames(image, count):
    return {"save_all": True, "append_images": [image.rotate(180)] * (count - 1)}


WHOLE = {
    "baseline.jpg": _encode(made.COFFEE, "JPEG"),
    "progressive.jpg": _encode(made.COFFEE, "JPEG", progressive=True),
    "cmyk.jpg": _encode(made.CMYK, "JPEG"),
    "rgb.png": _encode(made.COFFEE, "PNG"),
    "palette.png": _encode(made.PALETTE, "PNG", transparency=3),
    "lossy.webp": _encode(made.COFFEE, "WEBP"),
    "lossless.webp": _encode(made.RGBA, "WEBP", lossless=True),
    "one.gif": _encode(made.PALETTE, "GIF", transparency=3),
    "animated.gif": _encode(made.PALETTE, "GIF", **_frames(made.PALETTE, 3)),
    "lzw.tif": _encode(made.COFFEE, "TIFF", compression="tiff_lzw"),
    "plain.tif": _encode(made.COFFEE, "TIFF"),
    "rgb.bmp": _encode(made.COFFEE, "BMP"),
    "rgb.ppm": _encode(made.COFFEE, "PPM"),
    "rgb.avif": _encode(made.COFFEE, "AVIF"),
}


def _with_size(data, marker, offset, packed):
    """A file whose header promises another size."""
    place = data.index(marker) + offset
    return data[:place] + packed + data[place + len(packed) :]


def _jpeg_of_size(data, width, height, frame=b"\xff\xc0\x00"):
    return _with_size(data, frame, 5, struct.pack(">HH", height, width))


def _webp(kind, header):
    return (
        b"RIFF"
        + struct.pack("<I", 4 + 8 + len(header) + 40)
        + b"WEBP"
        + kind
        + struct.pack("<I", len(header))
        + header
        + bytes(40)
    )


def _tiff_of_size(data, width, height):
    (directory,) = struct.unpack_from("<I", data, 4)
    changed = bytearray(data)
    for number in range(struct.unpack_from("<H", data, directory)[0]):
        place = directory + 2 + 12 * number
        tag = struct.unpack_from("<H", data, place)[0]
        if tag in (256, 257):
            struct.pack_into("<HHII", changed, place, tag, 4, 1, width if tag == 256 else height)
    return bytes(changed)


BOMBS = {
    "bomb.jpg": _jpeg_of_size(WHOLE["baseline.jpg"], 65500, 65500),
    "bomb-progressive.jpg": _jpeg_of_size(WHOLE["progressive.jpg"], 65500, 60000, b"\xff\xc2\x00"),
    "bomb-cmyk.jpg": _jpeg_of_size(WHOLE["cmyk.jpg"], 65500, 65500),
    "bomb.png": made.png(30000, 30000, 8, 2, b""),
    "bomb-widest.png": made.png(2**31 - 1, 2**31 - 1, 16, 6, b""),
    "bomb-interlaced.png": made.png(50000, 50000, 8, 2, b"", interlace=1),
    "bomb.gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + made.gif((0, 0, 20, 10))[10:],
    "bomb.bmp": made.bmp(24, np.zeros((1, 60000, 3), np.uint8), height=60000),
    "bomb.ppm": b"P6 60000 60000 255\n",
    "bomb.pbm": b"P4 600000 600000\n",
    "bomb-extended.webp": _webp(b"VP8X", bytes(4) + b"\xff" * 5 + b"\x00"),
    "bomb-lossy.webp": _webp(b"VP8 ", b"\x10\x02\x00\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383)),
    "bomb-lossless.webp": _webp(b"VP8L", b"\x2f" + struct.pack("<I", 16383 | 16383 << 14)),
    "bomb.tif": _tiff_of_size(WHOLE["plain.tif"], 60000, 60000),
    "bomb-lzw.tif": _tiff_of_size(WHOLE["lzw.tif"], 2**31 - 1, 2**31 - 1),
    "bomb.avif": _with_size(WHOLE["rgb.avif"], b"ispe", 8, struct.pack(">II", 60000, 60000)),
}
# libwebp and libavif refuse some of these for reasons of their own.
_BOMB_OUTCOMES = {name: {TOO_LARGE, CORRUPT} for name in BOMBS if name.endswith((".webp", ".avif"))}

EXIF = {f"exif-{turn}.{kind}": (kind, turn) for turn in range(10) for kind in ("jpg", "png", "webp")}
_PILLOW = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF", "gif": "GIF", "bmp": "BMP", "avif": "AVIF"}


def _icc():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _sides():
    for width, height in ((1, 1), (1, 2), (3, 1), (1, 65535), (65535, 1)):
        stripe = Image.new("RGB", (width, height), (200, 100, 50))
        for kind in ("jpg", "png", "bmp", "tif"):
            limit = 65500 if kind == "jpg" else 65535  # libjpeg's
            if max(width, height) > limit:
                stripe = stripe.resize((min(width, limit), min(height, limit)))
            yield File(f"{width}x{height}.{kind}", _encode(stripe, _PILLOW[kind]), frozenset({OK}))


def _odd():
    """Good files of kinds that are easily got wrong."""
    yield from (
        File(name, data, frozenset({OK}))
        for name, data in {
            "grey16.png": _encode(made.GREY16, "PNG"),
            "grey16.tif": _encode(made.GREY16, "TIFF"),
            "grey.jpg": _encode(made.GREY, "JPEG"),
            "bilevel.png": _encode(made.BILEVEL, "PNG"),
            "bilevel.tif": _encode(made.BILEVEL, "TIFF"),
            "alpha.png": _encode(made.RGBA, "PNG"),
            "grey-alpha.png": _encode(made.LA, "PNG"),
            "alpha.tif": _encode(made.RGBA, "TIFF"),
            "cmyk.tif": _encode(made.CMYK, "TIFF"),
            "rgb48.png": made.png(2, 2, 16, 2, (b"\x00" + bytes(range(12))) * 2),
            "animated.webp": _encode(made.COFFEE, "WEBP", **_frames(made.COFFEE, 4)),
            "animated.png": _encode(made.COFFEE, "PNG", **_frames(made.COFFEE, 4)),
            "animated.avif": _encode(made.COFFEE, "AVIF", **_frames(made.COFFEE, 3)),
            "pages.tif": _encode(made.COFFEE, "TIFF", **_frames(made.COFFEE, 3)),
            "profile.jpg": _encode(made.COFFEE, "JPEG", icc_profile=_icc()),
            "profile.png": _encode(made.COFFEE, "PNG", icc_profile=_icc()),
            "broken-profile.jpg": _encode(made.COFFEE, "JPEG", icc_profile=bytes(3000)),
            "large-profile.jpg": _encode(made.COFFEE, "JPEG", icc_profile=bytes(200_000)),
            "restarts.jpg": _encode(made.COFFEE, "JPEG", restart_marker_rows=1),
            "comment.jpg": _encode(made.COFFEE, "JPEG", comment=b"x" * 60_000),
            "trailing.jpg": WHOLE["baseline.jpg"] + bytes(10_000),
            "trailing.png": WHOLE["rgb.png"] + b"<?php ?>" * 1000,
            "444.jpg": _encode(made.COFFEE, "JPEG", subsampling=0, quality=100),
            "ycck.jpg": _ycck(),
        }.items()
    )
    for name, (kind, turn) in EXIF.items():
        yield File(name, _encode(made.COFFEE, _PILLOW[kind], exif=made.exif(turn)), frozenset({OK}))
    yield from _sides()


def _ycck():
    """A CMYK JPEG whose Adobe marker says that its channels are YCCK."""
    data = WHOLE["cmyk.jpg"]
    return _with_size(data, b"Adobe", 11, b"\x02")


def _wrong_names():
    for suffix, name in (("png", "baseline.jpg"), ("jpg", "rgb.png"), ("gif", "lossy.webp"), ("txt", "rgb.bmp")):
        yield File(f"{name}.{suffix}", WHOLE[name], frozenset({OK}))


def _damaged():
    for name, data in WHOLE.items():
        for tenth in range(10):
            cut = data[: len(data) * tenth // 10]
            yield File(f"cut-{tenth}-{name}", cut, frozenset({CORRUPT, UNSUPPORTED} if tenth == 0 else {CORRUPT}))
        chance = random.Random(name)
        for number in range(6):
            flipped = bytearray(data)
            for _ in range(1 + number):
                flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            yield File(f"flipped-{number}-{name}", bytes(flipped), ANY)
    # What was coded by Huffman, read as if it were arithmetic: libjpeg-turbo knows both.
    yield File("arithmetic.jpg", WHOLE["baseline.jpg"].replace(b"\xff\xc0", b"\xff\xc9", 1), ANY)
    yield File(
        "lossless.jpg", WHOLE["baseline.jpg"].replace(b"\xff\xc0", b"\xff\xc3", 1), frozenset({UNSUPPORTED, CORRUPT})
    )
    yield File(
        "twelve-bit.jpg", _with_size(WHOLE["baseline.jpg"], b"\xff\xc0", 4, b"\x0c"), frozenset({UNSUPPORTED, CORRUPT})
    )


def _no_images():
    buffer = io.BytesIO()
    made.COFFEE.resize((32, 32)).save(buffer, "ICO")
    for name, data in {
        "empty.jpg": b"",
        "one-byte.jpg": b"\xff",
        "text.jpg": b"this is no image\n" * 100,
        "page.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
        "vector.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "paper.pdf": b"%PDF-1.7\n" + bytes(500),
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "icon.ico": buffer.getvalue(),
        "wavelets.jp2": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(200),
        "archive.zip": b"PK\x03\x04" + bytes(500),
        "zeros.png": bytes(5000),
    }.items():
        yield File(name, data, frozenset({UNSUPPORTED}))


def corpus():
    """Every file, by a name of its own."""
    yield from (File(name, data, frozenset({OK})) for name, data in WHOLE.items())
    yield from (File(name, data, frozenset(_BOMB_OUTCOMES.get(name, {TOO_LARGE}))) for name, data in BOMBS.items())
    yield from _odd()
    yield from _wrong_names()
    yield from _damaged()
    yield from _no_images()
