"""A small slice of tests/fuzz/images.py, which runs for as long as wanted."""

import importlib.util
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "fuzz" / "images.py"


@pytest.mark.filterwarnings("ignore")
def test_mutants_give_pictures_or_image_errors():
    spec = importlib.util.spec_from_file_location("fuzz_images", FUZZ)
    fuzz_images = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz_images)
    ended = fuzz_images.fuzz(seed=12345, count=1500)
    assert ended.total() == 1500
    assert {"ok", "corrupt", "too_large", "unsupported_format"} >= set(ended) >= {"ok", "corrupt"}
