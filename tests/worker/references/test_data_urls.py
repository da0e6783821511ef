"""`data:` references: the bytes are in the reference."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references import ImageSources, References

fetch = References(ImageSources()).fetch


@given(st.binary(max_size=300))
def test_base64_gives_the_bytes(data):
    text = base64.b64encode(data).decode()
    assert fetch(f"data:image/png;base64,{text}") == data
    assert fetch(f"DATA:;charset=utf-8;BASE64,{text.rstrip('=')}") == data


def test_blanks_in_base64_are_skipped_and_percent_signs_read():
    assert fetch("data:;base64,aGVs%0Abg8%3D") == fetch("data:;base64,aGVs\n bg8=") == b"heln\x0f"


def test_without_base64_the_text_is_percent_decoded():
    assert fetch("data:,a%20b+c%FF,d") == b"a b+c\xff,d"


@pytest.mark.parametrize("ref", ["data:", "data:;base64", "data:;base64,a", "data:;base64,a_b-", "data:;base64,aa=a"])
def test_what_is_broken_is_corrupt(ref):
    with pytest.raises(ImageError) as caught:
        fetch(ref)
    assert caught.value.code is ErrorCode.CORRUPT


def test_the_limit_holds():
    with pytest.raises(ImageError, match="--max-image-bytes") as caught:
        References(ImageSources(image_bytes_max=10)).fetch("data:," + "x" * 11)
    assert caught.value.code is ErrorCode.TOO_LARGE
