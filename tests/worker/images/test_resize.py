"""Resize and crop, against OpenCV's INTER_AREA: every case of PIXELS.md section 2."""

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data as photographs

from imagequeue_worker.images.resize import resize_and_crop, resized_size

_NOISE = np.random.default_rng(7).integers(0, 256, 1 << 22, dtype=np.uint8)


def noise(height, width):
    return np.resize(_NOISE, (height, width, 3))


def assert_equal_to_opencv(pixels, resize=256, crop=224):
    mine = resize_and_crop(pixels, resize, crop)
    assert (mine.shape, mine.dtype) == ((crop, crop, 3), np.uint8)
    assert oracle.differing_bytes(mine, oracle.crop(pixels, resize, crop)) == 0


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


def test_a_whole_factor_whose_reciprocal_is_not_exact_equals_opencv():
    assert_equal_to_opencv(noise(49 * 60, 49 * 60), resize=60, crop=50)


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
@pytest.mark.parametrize(("height", "width"), [(375, 500), (512, 512), (768, 900), (100, 90)])
def test_flat_pictures_equal_opencv(level, height, width):
    assert_equal_to_opencv(np.full((height, width, 3), level, np.uint8))


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket"])
def test_photographs_equal_opencv(name):
    assert_equal_to_opencv(np.ascontiguousarray(getattr(photographs, name)()[:, :, ::-1]))


def test_a_view_that_is_not_contiguous_equals_opencv():
    assert_equal_to_opencv(noise(500, 375).transpose(1, 0, 2)[:, ::-1])


side = st.integers(1, 700) | st.integers(200, 520) | st.integers(1, 30) | st.integers(700, 1500)
multiple = st.builds(lambda n, off: max(1, 256 * n + off), st.integers(1, 4), st.integers(-1, 1))
thin = st.tuples(st.integers(1, 20), st.integers(1, 4000)) | st.tuples(st.integers(1, 4000), st.integers(1, 20))


@settings(max_examples=600, deadline=None)
@given(st.tuples(side | multiple, side | multiple) | thin)
def test_random_sizes_equal_opencv(size):
    assert_equal_to_opencv(noise(*size))


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 400), st.integers(1, 400), st.integers(1, 300))
def test_other_nets_sizes_equal_opencv(data, height, width, resize):
    assert_equal_to_opencv(noise(height, width), resize, data.draw(st.integers(1, resize)))


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
