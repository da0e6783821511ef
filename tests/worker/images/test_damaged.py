"""Damaged files: one ImageError, no other exception, no partial picture, nothing on standard error."""

import subprocess
import sys

import numpy as np
import picture_files as made
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.images import Limits, decode, preprocess

WHOLE = {
    "jpeg": made.encode(made.COFFEE, "JPEG"),
    "jpeg progressive": made.encode(made.COFFEE, "JPEG", progressive=True),
    "jpeg cmyk": made.encode(made.CMYK, "JPEG"),
    "png": made.encode(made.COFFEE, "PNG"),
    "png palette": made.encode(made.PALETTE, "PNG", transparency=3),
    "webp": made.encode(made.COFFEE, "WEBP"),
    "webp lossless": made.encode(made.RGBA, "WEBP", lossless=True),
    "webp animated": made.encode(made.COFFEE, "WEBP", save_all=True, append_images=[made.COFFEE.transpose(0)]),
    "gif": made.encode(made.PALETTE, "GIF", transparency=3),
    "gif animated": made.encode(made.PALETTE, "GIF", save_all=True, append_images=[made.PALETTE.transpose(0)]),
    "tiff": made.encode(made.COFFEE, "TIFF"),
    "tiff lzw": made.encode(made.COFFEE, "TIFF", compression="tiff_lzw"),
    "tiff deflate": made.encode(made.COFFEE, "TIFF", compression="tiff_adobe_deflate"),
    "tiff jpeg": made.encode(made.COFFEE, "TIFF", compression="jpeg"),
    "bmp": made.encode(made.COFFEE, "BMP"),
    "ppm": made.encode(made.COFFEE, "PPM"),
    "avif": made.encode(made.COFFEE, "AVIF"),
}
# A worker's process has this filter from the start; pytest puts its own in front.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
each_format = pytest.mark.parametrize("data", WHOLE.values(), ids=list(WHOLE))
SMALL = Limits(pixels_max=1_000_000)  # a damaged header may promise any size


def outcome(data):
    """The decoded picture, or the error's code; other exceptions pass."""
    try:
        return decode(data, SMALL)
    except ImageError as error:
        return error.code


@each_format
def test_a_file_that_is_cut_is_corrupt_and_never_half_a_picture(data):
    whole = decode(data)
    cuts = {*range(len(data) - 20, len(data)), *np.linspace(20, len(data) - 21, 80).astype(int).tolist()}
    for cut in sorted(cuts):
        result = outcome(data[:cut])
        complete = isinstance(result, np.ndarray) and np.array_equal(result, whole)
        assert complete or result is ErrorCode.CORRUPT, f"cut at {cut} of {len(data)}"


@pytest.mark.parametrize("name", ["jpeg", "jpeg progressive", "jpeg cmyk", "png", "gif", "gif animated", "webp"])
def test_a_missing_end_is_corrupt(name):
    assert outcome(WHOLE[name][:-2]) is ErrorCode.CORRUPT


@each_format
def test_damaged_bytes_give_a_picture_or_an_image_error(data):
    place = st.integers(0, min(300, len(data) - 1)) | st.integers(0, len(data) - 1)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=6))
    def damaged(changes):
        changed = bytearray(data)
        for position, value in changes:
            changed[position] = value
        result = outcome(bytes(changed))
        assert isinstance(result, ErrorCode) or (result.ndim == 3 and result.dtype == np.uint8)

    damaged()


@each_format
def test_a_signature_alone_is_refused(data):
    assert isinstance(outcome(data[:12]), ErrorCode)


SIGNATURES = [data[:length] for data in WHOLE.values() for length in (4, 16, 40)]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SIGNATURES), st.binary(max_size=200))
def test_noise_after_a_signature_gives_a_picture_or_an_image_error(signature, noise):
    result = outcome(signature + noise)
    assert isinstance(result, ErrorCode | np.ndarray)


@given(st.binary(max_size=100))
def test_noise_is_no_image(noise):
    with pytest.raises(ImageError):
        preprocess(noise)


def eoi_too_early():
    data = WHOLE["jpeg"]
    return data[: len(data) // 2] + b"\xff\xd9"


ROW = bytes([0]) + b"\xff" * 60
BROKEN = {
    "jpeg that ends too early": eoi_too_early(),
    "jpeg of a start and an end": b"\xff\xd8\xff\xd9",
    "png whose rows end early": made.png(60, 40, 8, 0, ROW * 20),
    "png without rows": made.png(60, 40, 8, 0, b""),
    "png one byte short": made.png(60, 40, 8, 0, (ROW * 40)[:-1]),
    "png interlaced whose passes end early": made.png(60, 40, 8, 0, ROW * 8, interlace=1),
    "png with one pass of seven": made.png(8, 8, 8, 0, b"\x00\xff", interlace=1),
    "png without its palette": made.png(60, 40, 8, 3, ROW * 40),
    "png without an end": made.png(60, 40, 8, 0, ROW * 40)[:-12],
    "gif whose codes end early": made.gif((0, 0, 20, 10), pixels=[4, 1, 4, 1, 5]),
    "gif without codes": made.gif((0, 0, 20, 10), pixels=[4, 5]),
    "gif whose frame lies outside": made.gif((15, 5, 20, 10)),
    "gif without a frame": made.gif((0, 0, 1, 1))[:25] + b";",
    "bmp without pixels": made.bmp(24, np.zeros((0, 9, 3), np.uint8), height=5),
    "ppm without pixels": b"P6 3 2 255\n",
    "ppm of words without pixels": b"P3 3 2 255\n1 2 3",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=list(BROKEN))
def test_a_picture_with_a_part_missing_is_corrupt(data):
    assert outcome(data) is ErrorCode.CORRUPT


def test_a_whole_interlaced_png_is_read():
    # Adam7 on 8x8 grey pixels: the rows of its seven passes, a filter byte before each.
    rows = b"".join(bytes([0]) + b"\x00" * n for n in (1, 1, 2, 2, 2, 4, 4, 4, 4, 4, 4, 8, 8, 8, 8))
    assert decode(made.png(8, 8, 8, 0, rows, interlace=1)).shape == (8, 8, 3)
    assert outcome(made.png(8, 8, 8, 0, rows[:-9], interlace=1)) is ErrorCode.CORRUPT


def test_damaged_files_write_nothing_to_standard_error(tmp_path):
    rng = np.random.default_rng(0)
    for number, data in enumerate([data for name, data in WHOLE.items() if "tiff" in name] * 30):
        changed = bytearray(data)
        for position in rng.integers(0, len(data), 8):
            changed[position] = rng.integers(0, 256)
        (tmp_path / f"{number}.tif").write_bytes(changed[: rng.integers(len(data) // 2, len(data) + 1)])
    (tmp_path / "text-in-a-profile.png").write_bytes(made.encode(made.PALETTE, "PNG", transparency=bytes(64)))
    script = (
        "import pathlib, sys\n"
        "from imagequeue_worker.errors import ImageError\n"
        "from imagequeue_worker.images import preprocess\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    try: preprocess(path.read_bytes())\n"
        "    except ImageError: pass\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, check=True)
    assert (run.stdout, run.stderr) == (b"", b"")
