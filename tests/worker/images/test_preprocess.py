"""The one function that the pipeline calls."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import oracle
import picture_files as made
import pytest
from skimage import data as photographs

from imagequeue_worker.images import ZOO, Preprocessing, preprocess

JPEG = made.encode(made.Image.fromarray(photographs.chelsea()), "JPEG")


def test_the_default_is_the_zoos_net():
    pixels = preprocess(JPEG)
    assert (pixels.shape, pixels.dtype, pixels.flags.c_contiguous) == ((224, 224, 3), np.uint8, True)
    assert (ZOO.resize, ZOO.crop, ZOO.channel_order) == (256, 224, "BGR")
    assert (pixels == oracle.crop(oracle.decode(JPEG))).all()


def test_a_net_may_want_rgb():
    rgb = preprocess(JPEG, Preprocessing(channel_order="RGB"))
    assert (rgb == preprocess(JPEG)[:, :, ::-1]).all()
    assert rgb.flags.c_contiguous


def test_a_net_may_want_other_sizes():
    small = preprocess(JPEG, Preprocessing(resize=146, crop=128))
    assert (small == oracle.crop(oracle.decode(JPEG), 146, 128)).all()


@pytest.mark.parametrize(
    "wrong",
    [{"crop": 300}, {"crop": 0}, {"channel_order": "GBR"}, {"std": (0.1, 0.0, 0.1)}],
    ids=["crop above resize", "no crop", "channel order", "std"],
)
def test_a_preprocessing_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Preprocessing(**wrong)


def test_threads_get_what_one_thread_gets():
    files = [made.encode(made.COFFEE.resize((w, 300)), kind) for w in range(300, 340) for kind in ("JPEG", "PNG")]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(preprocess, files))
    assert all((a == preprocess(data)).all() for a, data in zip(together, files, strict=True))
