"""Resize and crop, against OpenCV's INTER_AREA: every case of PIXELS.md section 2."""

import os
from pathlib import Path

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data as photographs

from imagequeue_worker.caffe2.native import LIBRARY_VARIABLE
from imagequeue_worker.images import resize
from imagequeue_worker.images.native_resize import native_resize
from imagequeue_worker.images.resize import resize_and_crop, resize_in_numpy, resized_size

_NOISE = np.random.default_rng(7).integers(0, 256, 1 << 22, dtype=np.uint8)


def noise(height, width):
    return np.resize(_NOISE, (height, width, 3))


WAYS = {
    "numpy": resize_in_numpy,
    "C++": native_resize(),
    "plain C++": native_resize(vectors=False),
}
WAYS = {name: way for name, way in WAYS.items() if way is not None}


def assert_equal_to_opencv(pixels, short=256, crop=224):
    """By each way that there is here, so that the ways are compared with each other as well."""
    reference = oracle.crop(pixels, short, crop)
    for name, way in WAYS.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(resize, "native_resize", lambda way=way: way)
            mine = resize_and_crop(pixels, short, crop)
        assert (mine.shape, mine.dtype) == ((crop, crop, 3), np.uint8)
        assert (name, oracle.differing_bytes(mine, reference)) == (name, 0)


def test_the_library_resizes_where_it_is():
    # An older one does not; a build that the tests are given must.
    if os.environ.get(LIBRARY_VARIABLE):
        assert set(WAYS) == {"numpy", "C++", "plain C++"}
    assert native_resize() is WAYS.get("C++")


FACTORS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 15)
EDGES = [
    *[(256 * n, 256 * n) for n in FACTORS if n < 11],
    *[(256 * n, 301 * n) for n in FACTORS if n < 8],
    *[(257 * n, 256 * n) for n in FACTORS if n < 8],
    *[(256 * n, 256 * n + 1) for n in FACTORS if n < 8],
    *[(512, 513), (512, 701), (701, 512), (512, 515), (512, 1023)],  # only one axis would be exact
    *[(256, 256), (256, 300), (300, 256), (256, 4000), (4000, 256)],  # copied
    *[(257, 256), (255, 256), (255, 300), (257, 257), (255, 255)],  # scales next to 1
    *[(1, 1), (1, 2), (2, 1), (1, 4000), (4000, 1), (2, 3000), (3000, 3), (3, 3)],  # aspect ratios to 4000:1
    *[(100, 100), (128, 128), (64, 300), (200, 4000), (4000, 200), (224, 224)],  # enlarged
    *[(300, 4000), (4000, 300), (1000, 4000)],
    *[(12544, 260), (260, 12544)],  # n = 49, where 1/(1/n) is not n
]


@pytest.mark.parametrize(("height", "width"), EDGES)
def test_edge_sizes_equal_opencv(height, width):
    assert_equal_to_opencv(noise(height, width))


@pytest.mark.skipif("IMAGEQUEUE_TEST_DATA" not in os.environ, reason="IMAGEQUEUE_TEST_DATA names no folder with data")
def test_imagenet_pictures_equal_opencv():
    files = sorted((Path(os.environ["IMAGEQUEUE_TEST_DATA"]) / "images").glob("*.JPEG"))
    assert len(files) == 200
    for file in files:
        assert_equal_to_opencv(oracle.decode(file.read_bytes()))


def test_a_whole_factor_whose_reciprocal_is_not_exact_equals_opencv():
    assert_equal_to_opencv(noise(49 * 60, 49 * 60), short=60, crop=50)


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
@pytest.mark.parametrize(("height", "width"), [(375, 500), (512, 512), (768, 900), (100, 90)])
def test_flat_pictures_equal_opencv(level, height, width):
    assert_equal_to_opencv(np.full((height, width, 3), level, np.uint8))


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket"])
def test_photographs_equal_opencv(name):
    assert_equal_to_opencv(np.ascontiguousarray(getattr(photographs, name)()[:, :, ::-1]))


@pytest.mark.parametrize(("height", "width"), [(375, 500), (512, 600), (256, 300), (100, 120)])
def test_views_that_are_not_contiguous_equal_opencv(height, width):
    assert_equal_to_opencv(noise(width, height).transpose(1, 0, 2))
    assert_equal_to_opencv(noise(height, width)[::-1])
    assert_equal_to_opencv(noise(height, width)[:, ::-1])
    assert_equal_to_opencv(noise(height, width)[:, :, ::-1])
    assert_equal_to_opencv(noise(height, width + 7)[:, 4:-3])


@pytest.mark.parametrize("way", WAYS)
def test_no_byte_outside_of_the_picture_matters(way):
    # At sizes that take each kernel.
    for height, width in [
        (257, 257),
        (300, 260),
        (375, 500),
        (700, 600),
        (900, 1300),
        (512, 512),
        (768, 770),
        (90, 80),
    ]:
        inner = noise(height, width)
        crops = []
        for around in (0, 255):
            outer = np.full((height + 2, width + 40, 3), around, np.uint8)
            outer[1:-1, 20:-20] = inner
            rows = resize.Window(height, *_kept(height, height, width))
            columns = resize.Window(width, *_kept(width, height, width))
            crops.append(WAYS[way](outer[1:-1, 20:-20], rows, columns))
        assert (crops[0] == crops[1]).all()


def _kept(side, height, width):
    """(dst, first, size) of the side's outputs that a crop of 224 keeps."""
    scaled = resized_size(height, width, 256)[0 if side == height else 1]
    return scaled, (scaled - 224) // 2, 224


side = st.integers(1, 700) | st.integers(200, 520) | st.integers(1, 30) | st.integers(700, 1500)
multiple = st.builds(lambda n, off: max(1, 256 * n + off), st.integers(1, 4), st.integers(-1, 1))
thin = st.tuples(st.integers(1, 20), st.integers(1, 4000)) | st.tuples(st.integers(1, 4000), st.integers(1, 20))


@pytest.mark.parametrize("part", range(5))  # each well within a test's time on a busy machine
@settings(max_examples=400, deadline=None)
@given(size=st.tuples(side | multiple, side | multiple))
def test_random_sizes_equal_opencv(part, size):
    assert_equal_to_opencv(noise(*size))


@settings(max_examples=100, deadline=None)
@given(thin)
def test_random_thin_sizes_equal_opencv(size):
    assert_equal_to_opencv(noise(*size))


@settings(max_examples=400, deadline=None)
@given(st.data(), st.integers(1, 400), st.integers(1, 400), st.integers(1, 300))
def test_other_nets_sizes_equal_opencv(data, height, width, short):
    assert_equal_to_opencv(noise(height, width), short, data.draw(st.integers(1, short)))


def test_the_answer_never_shares_memory_with_the_picture():
    for height, width in [(256, 256), (512, 512), (300, 400), (100, 100)]:
        pixels = noise(height, width)
        assert not np.shares_memory(resize_and_crop(pixels, 256, 224), pixels)


@pytest.mark.parametrize(
    ("height", "width", "scaled"),
    [(375, 500, (256, 341)), (500, 375, (341, 256)), (512, 701, (256, 350)), (300, 300, (256, 256))],
)
def test_the_shorter_side_becomes_256_and_the_longer_is_truncated(height, width, scaled):
    assert resized_size(height, width, 256) == scaled
