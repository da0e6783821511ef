"""A JPEG decoded in C++ as far as a net sees it: the whole decode's bytes, or nothing."""

import io

import numpy as np
import picture_files as made
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from skimage import data as photographs

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.images import ZOO, Limits, decode, native_jpeg, preprocess, resize_and_crop
from imagequeue_worker.images.resize import windows

DECODE = native_jpeg.native_jpeg()
needs_libjpeg = pytest.mark.skipif(DECODE is None, reason="the library is built without libjpeg-turbo")
PHOTOGRAPH = Image.fromarray(photographs.chelsea())  # 451 x 300
SUBSAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
KINDS = {
    f"{name}{kind}": {"subsampling": number, **options}
    for name, number in SUBSAMPLINGS.items()
    for kind, options in {
        "": {},
        " progressive": {"progressive": True},
        " restarts": {"restart_marker_rows": 1},
    }.items()
}
SMALL = Limits(pixels_max=1_000_000)


def jpeg(size=None, **options):
    picture = PHOTOGRAPH.resize(size) if size else PHOTOGRAPH
    return made.encode(picture.convert(options.pop("mode", "RGB")), "JPEG", quality=85, **options)


def seen(data, shape):
    """What C++ decodes for the zoo's net; None when it refuses."""
    rows, columns = windows(*shape, ZOO.resize, ZOO.crop)
    return DECODE(data, *shape, rows.sources, columns.sources)


def outcome(data, spec=None):
    """The crop, or the error's code."""
    try:
        return resize_and_crop(decode(data, SMALL, spec), ZOO.resize, ZOO.crop)
    except ImageError as error:
        return error.code


def lenient_crop(data):
    """The crop of what libjpeg makes of a damaged file, whatever it warns of."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[:, :, ::-1]
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    return resize_and_crop(np.ascontiguousarray(picture), ZOO.resize, ZOO.crop)


@needs_libjpeg
@pytest.mark.parametrize("options", [*KINDS.values(), {"mode": "L"}], ids=[*KINDS, "grey"])
def test_any_region_is_the_whole_decodes(options):
    rng = np.random.default_rng(7)
    for _ in range(60):
        width, height = (int(side) for side in rng.integers(1, 200, 2))
        data = jpeg((width, height), **options)
        whole = decode(data)
        top, left = int(rng.integers(height)), int(rng.integers(width))
        bottom, right = int(rng.integers(top, height)) + 1, int(rng.integers(left, width)) + 1
        part = DECODE(data, height, width, (top, bottom), (left, right))
        assert part is not None
        assert (part[top:bottom, left:right] == whole[top:bottom, left:right]).all()


@needs_libjpeg
@pytest.mark.parametrize("options", KINDS.values(), ids=list(KINDS))
def test_a_net_sees_the_whole_decodes_crop(options):
    rng = np.random.default_rng(8)
    for _ in range(10):
        size = tuple(int(side) for side in rng.integers(20, 900, 2))
        data = jpeg(size, **options)
        picture = seen(data, size[::-1])
        assert picture is not None
        assert (resize_and_crop(picture, ZOO.resize, ZOO.crop) == outcome(data)).all()


@needs_libjpeg
def test_it_is_the_way_that_preprocess_goes(monkeypatch):
    data = jpeg()
    expected = preprocess(data)
    monkeypatch.setattr("simplejpeg.decode_jpeg", lambda *_: pytest.fail("the whole picture was decoded"))
    assert (preprocess(data) == expected).all()


def test_without_it_the_crop_is_the_same(monkeypatch):
    data = jpeg()
    expected = preprocess(data)
    monkeypatch.setattr("imagequeue_worker.images.jpeg.native_jpeg", lambda: None)
    assert (preprocess(data) == expected).all()


@needs_libjpeg
@pytest.mark.parametrize(
    "data", [made.encode(made.CMYK, "JPEG"), jpeg((300, 200))[:-2]], ids=["CMYK", "without an end"]
)
def test_what_is_unusual_is_left_to_the_whole_decode(data):
    with Image.open(io.BytesIO(data)) as image:
        assert seen(data, image.size[::-1]) is None


@needs_libjpeg
def test_another_size_than_the_header_said_is_refused():
    assert DECODE(jpeg((300, 200)), 200, 301, (0, 200), (0, 301)) is None


@needs_libjpeg
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_wherever_a_file_is_cut_it_is_corrupt(options):
    data = jpeg(**options)
    for cut in np.linspace(200, len(data) - 1, 120).astype(int):
        assert outcome(data[:cut], ZOO) is ErrorCode.CORRUPT


@needs_libjpeg
def test_bytes_behind_the_end_do_not_matter():
    data = jpeg()
    assert (outcome(data + b"\xff\xd8 and more", ZOO) == outcome(data)).all()


@needs_libjpeg
@pytest.mark.parametrize("options", KINDS.values(), ids=list(KINDS))
def test_a_damaged_file_gives_the_crop_that_libjpeg_sees_or_the_whole_decodes_error(options):
    data = jpeg(**options)

    @settings(max_examples=80, deadline=None)
    @given(st.lists(st.tuples(st.integers(2, len(data) - 1), st.integers(0, 255)), min_size=1, max_size=3))
    def damaged(changes):
        changed = bytearray(data)
        for position, value in changes:
            changed[position] = value
        whole, crop = outcome(bytes(changed)), outcome(bytes(changed), ZOO)
        if isinstance(crop, ErrorCode):
            assert whole is crop
        else:  # damage below the crop is not seen
            assert (crop == (lenient_crop(bytes(changed)) if isinstance(whole, ErrorCode) else whole)).all()

    damaged()
