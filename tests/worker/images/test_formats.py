"""Every format and kind of pixels, against OpenCV's imdecode."""

import io

import numpy as np
import oracle
import picture_files as made
import pytest
import tifffile
from skimage import data as photographs

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.images import decode, preprocess

_WORDS = np.random.default_rng(3).integers(0, 65536, (20, 32), dtype=np.uint16)
_QUADS = np.random.default_rng(4).integers(0, 256, (20, 32, 4), dtype=np.uint8)
_SECOND = made.COFFEE.transpose(0)


def tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def jpegs():
    for name, image in (("grey", made.GREY), ("colour", made.COFFEE), ("cmyk", made.CMYK)):
        yield f"jpeg {name}", made.encode(image, "JPEG")
        yield f"jpeg {name} progressive", made.encode(image, "JPEG", progressive=True)
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        yield f"jpeg {subsampling}", made.encode(made.COFFEE, "JPEG", subsampling=subsampling)
    yield "jpeg with bytes after its end", made.encode(made.COFFEE, "JPEG") + b"junk" * 10


def pngs():
    images = {
        "grey": made.GREY,
        "colour": made.COFFEE,
        "alpha": made.RGBA,
        "grey_alpha": made.LA,
        "palette": made.PALETTE,
    }
    for name, image in {**images, "grey16": made.GREY16, "bilevel": made.BILEVEL}.items():
        yield f"png {name}", made.encode(image, "PNG")
    for bits in (1, 2, 4):
        yield f"png palette of {bits} bits", made.encode(made.COFFEE.quantize(2**bits), "PNG", bits=bits)
        yield f"png grey of {bits} bits", made.png_noise(64, 40, bits, 0, 8 * bits)
    yield "png one transparent colour of a palette", made.encode(made.PALETTE, "PNG", transparency=3)
    yield (
        "png transparency per palette entry",
        made.encode(made.PALETTE, "PNG", transparency=bytes(range(64))),
    )
    yield "png transparent colour", made.encode(made.COFFEE, "PNG", transparency=(10, 20, 30))
    yield "png transparent grey", made.encode(made.GREY, "PNG", transparency=7)
    yield "png colour of 16 bits", made.png_noise(60, 40, 16, 2, 360)
    yield "png colour and alpha of 16 bits", made.png_noise(60, 40, 16, 6, 480)
    yield "png grey and alpha of 16 bits", made.png_noise(60, 40, 16, 4, 240)
    yield "png black below", made.png(60, 40, 8, 0, (bytes([0]) + b"\xff" * 60) * 20 + bytes(61 * 20))
    for animated in (False, True):
        options = {"save_all": True, "append_images": [_SECOND], "default_image": animated}
        yield f"png animated {animated}", made.encode(made.COFFEE, "PNG", **options)


def webps():
    for name, image in {
        "grey": made.GREY,
        "colour": made.COFFEE,
        "alpha": made.RGBA,
        "grey_alpha": made.LA,
    }.items():
        yield f"webp {name}", made.encode(image, "WEBP")
        yield f"webp {name} lossless", made.encode(image, "WEBP", lossless=True)
    yield (
        "webp animated",
        made.encode(made.COFFEE, "WEBP", save_all=True, append_images=[_SECOND], lossless=True),
    )


def gifs():
    for name, image in {
        "palette": made.PALETTE,
        "grey": made.GREY,
        "bilevel": made.BILEVEL,
        "alpha": made.RGBA,
    }.items():
        yield f"gif {name}", made.encode(image, "GIF")
    yield "gif interlaced", made.encode(made.PALETTE, "GIF", interlace=1)
    yield (
        "gif animated",
        made.encode(made.PALETTE, "GIF", save_all=True, append_images=[made.PALETTE.transpose(0)]),
    )
    for background in (0, 5, 63):
        yield (
            f"gif transparent over {background}",
            made.encode(made.PALETTE, "GIF", transparency=17, background=background),
        )
    yield "gif transparent grey", made.encode(made.GREY, "GIF", transparency=100, background=9)
    for background in (0, 1, 3):
        for transparent in (None, 1, 2):
            for tables in ({}, {"global_table": False}, {"local_table": True}):
                for frame in ((3, 2, 5, 4), (0, 0, 20, 10)):
                    name = f"gif frame {frame} over {background} transparent {transparent} {tables}"
                    yield name, made.gif(frame, background, transparent, **tables)


def tiffs():
    kinds = {
        "grey": made.GREY,
        "colour": made.COFFEE,
        "alpha": made.RGBA,
        "cmyk": made.CMYK,
        "palette": made.PALETTE,
    }
    kinds |= {"grey_alpha": made.LA, "grey16": made.GREY16, "bilevel": made.BILEVEL}
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        for name, image in kinds.items():
            yield f"tiff {name} {compression}", made.encode(image, "TIFF", compression=compression)
    yield "tiff fax", made.encode(made.BILEVEL, "TIFF", compression="group4")
    yield "tiff jpeg", made.encode(made.COFFEE, "TIFF", compression="jpeg")
    colour, grey = np.asarray(made.COFFEE), np.asarray(made.GREY)
    yield "tiff planar", tiff(colour.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate")
    yield "tiff tiled", tiff(colour, photometric="rgb", tile=(32, 32))
    yield "tiff white is zero", tiff(grey, photometric="miniswhite")
    yield "tiff of 64 bits", tiff(colour, photometric="rgb", bigtiff=True)
    yield "tiff big-endian", tiff(colour, photometric="rgb", byteorder=">")
    yield "tiff big-endian of 16 bits", tiff(np.asarray(made.GREY16), photometric="minisblack", byteorder=">")
    yield "tiff of two pages", tiff(np.stack([colour, colour[::-1]]), photometric="rgb")
    yield "tiff straight alpha", tiff(np.asarray(made.RGBA), photometric="rgb", extrasamples=["unassalpha"])


def others():
    for name, image in {"grey": made.GREY, "colour": made.COFFEE, "alpha": made.RGBA}.items():
        yield f"bmp {name}", made.encode(image.convert("RGBA") if name == "alpha" else image, "BMP")
        yield f"avif {name}", made.encode(image, "AVIF")
    yield "bmp palette", made.encode(made.PALETTE, "BMP")
    yield "bmp bilevel", made.encode(made.BILEVEL, "BMP")
    yield "bmp 555", made.bmp(16, _WORDS)
    yield "bmp 555 by masks", made.bmp(16, _WORDS, (0x7C00, 0x3E0, 0x1F))
    yield "bmp 565", made.bmp(16, _WORDS, (0xF800, 0x7E0, 0x1F))
    yield "bmp of 32 bits", made.bmp(32, _QUADS)
    yield "bmp from the top", made.bmp(32, _QUADS, height=-20)
    for name, image in {
        "grey": made.GREY,
        "colour": made.COFFEE,
        "bilevel": made.BILEVEL,
        "grey16": made.GREY16,
    }.items():
        yield f"ppm {name}", made.encode(image, "PPM")


CASES = [*jpegs(), *pngs(), *webps(), *gifs(), *tiffs(), *others()]


@pytest.mark.parametrize("data", [data for _, data in CASES], ids=[name for name, _ in CASES])
def test_pixels_equal_opencv(data):
    reference = oracle.decode(data)
    assert reference is not None
    assert oracle.differing_bytes(decode(data), reference) == 0


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_photographs_become_the_canonical_crop(name, kind):
    data = made.encode(made.Image.fromarray(getattr(photographs, name)()), kind)
    assert oracle.differing_bytes(preprocess(data), oracle.crop(oracle.decode(data))) == 0


def premultiplied():
    rgba = np.asarray(made.RGBA).astype(np.uint16)
    rgba[:, :, :3] = rgba[:, :, :3] * rgba[:, :, 3:] // 255
    return tiff(rgba.astype(np.uint8), photometric="rgb", extrasamples=["assocalpha"])


ALMOST = {
    "tiff YCbCr": made.encode(made.COFFEE.convert("YCbCr"), "TIFF"),
    "tiff colour of 16 bits": tiff(_WORDS.reshape(8, 16, 5)[:, :, :3].copy(), photometric="rgb"),
    "tiff premultiplied": premultiplied(),
    "ppm of 16 bits": b"P6 8 16 65535\n" + _WORDS.tobytes()[: 8 * 16 * 6],
}


@pytest.mark.parametrize("data", ALMOST.values(), ids=list(ALMOST))
def test_the_known_exceptions_are_one_or_two_off(data):
    mine, reference = decode(data), oracle.decode(data)
    assert mine.shape == reference.shape
    assert np.abs(mine.astype(int) - reference).max() <= 2


UNSUPPORTED = {
    "tiff of floats": made.encode(made.GREY.convert("F"), "TIFF"),
    "tiff of doubles": tiff(np.asarray(made.GREY).astype(np.float64), photometric="minisblack"),
    "tiff of colour floats": tiff(np.zeros((5, 7, 3), np.float32), photometric="rgb"),
    "tiff of 32 bits": made.encode(made.GREY.convert("I"), "TIFF"),
    "tiff LAB": made.encode(made.COFFEE.convert("LAB"), "TIFF"),
    "jpeg of 12 bits": made.encode(made.COFFEE, "JPEG").replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),
    "ico": made.encode(made.COFFEE, "ICO"),
    "jpeg 2000": made.encode(made.COFFEE, "JPEG2000"),
    "eps": made.encode(made.COFFEE, "EPS"),
    "text": b"this is not a picture",
    "text that begins as a BMP": b"BM is what this text begins with, and it is long enough to be one",
    "text that begins as a PBM": b"P1 is what this text begins with",
    "web page": b"<!DOCTYPE html><title>404</title>",
    "zip": b"PK\x03\x04" + bytes(60),
    "zeros": bytes(1000),
    "one byte": b"\xff",
}


@pytest.mark.parametrize("data", UNSUPPORTED.values(), ids=list(UNSUPPORTED))
def test_what_is_not_read_is_unsupported(data):
    with pytest.raises(ImageError) as caught:
        preprocess(data)
    assert caught.value.code is ErrorCode.UNSUPPORTED_FORMAT


def test_an_empty_file_says_that_it_has_no_bytes():
    with pytest.raises(ImageError, match="0 bytes") as caught:
        preprocess(b"")
    assert caught.value.code is ErrorCode.UNSUPPORTED_FORMAT


def test_bytes_that_are_no_image_are_quoted_with_the_formats_that_are_read():
    with pytest.raises(ImageError, match=r"<html>.*JPEG and PNG, WEBP, GIF"):
        preprocess(b"<html></html>")
