"""`s3:` references against moto's S3 server on loopback; other stores are made in the same way."""

import pytest

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references import ImageSources, References
from s3_server import s3_bucket

OBJECTS = {"a.jpg": b"a picture" * 1000, "folder/b c%20?#+.jpg": b"odd", "empty.jpg": b""}


@pytest.fixture(scope="module")
def s3():
    with s3_bucket("pictures", OBJECTS):
        yield References(ImageSources(fetch_seconds=60.0))


def code_of(ours, ref):
    with pytest.raises(ImageError) as caught:
        ours.fetch(ref)
    return caught.value.code


@pytest.mark.parametrize("scheme", ["s3", "S3", "s3a"])
@pytest.mark.parametrize("key", OBJECTS)
def test_objects_are_read_by_their_very_keys(s3, scheme, key):
    assert s3.fetch(f"{scheme}://pictures/{key}") == OBJECTS[key]


@pytest.mark.parametrize("ref", ["s3://pictures/none.jpg", "s3://nobucket/a.jpg"])
def test_what_is_not_there_is_not_found(s3, ref):
    assert code_of(s3, ref) is ErrorCode.NOT_FOUND


@pytest.mark.parametrize(
    "ref", ["s3://", "s3://pictures", "s3://pictures/", "s3:///a.jpg", "s3://../a", "s3://pic tures/a"]
)
def test_what_names_no_object_is_an_error(s3, ref):
    assert code_of(s3, ref) in (ErrorCode.NOT_FOUND, ErrorCode.FETCH_FAILED, ErrorCode.UNSUPPORTED_REFERENCE)


@pytest.mark.parametrize("ref", ["s3::file:///etc/passwd", "s3://x::file:///etc/passwd", "s3://pictures/a::b"])
def test_chains_are_refused(s3, ref):
    assert code_of(s3, ref) is ErrorCode.UNSUPPORTED_REFERENCE


def test_the_limit_holds_and_no_more_is_asked_for(s3):
    size = len(OBJECTS["a.jpg"])
    assert References(ImageSources(image_bytes_max=size, fetch_seconds=60.0)).fetch("s3://pictures/a.jpg")
    small = References(ImageSources(image_bytes_max=size - 1, fetch_seconds=60.0))
    assert code_of(small, "s3://pictures/a.jpg") is ErrorCode.TOO_LARGE


def test_time_is_bounded(s3):
    hurried = References(ImageSources(fetch_seconds=0.0001))
    assert code_of(hurried, "s3://pictures/a.jpg") is ErrorCode.FETCH_TIMEOUT


@pytest.mark.parametrize(("ref", "extra"), [("gs://b/k", "gs"), ("az://b/k", "az"), ("abfs://b/k", "az")])
def test_a_store_whose_package_is_not_installed_says_which_extra_brings_it(ref, extra):
    pytest.importorskip("fsspec")
    for module in ("gcsfs", "adlfs"):
        try:
            __import__(module)
        except ImportError:
            continue
        pytest.skip(f"{module} is installed")
    with pytest.raises(ImageError, match=rf"imagequeue\[{extra}\]") as caught:
        References(ImageSources()).fetch(ref)
    assert caught.value.code is ErrorCode.UNSUPPORTED_REFERENCE


def test_a_store_that_is_set_up_wrongly_is_forbidden_and_no_defect(s3, monkeypatch):
    from fsspec.config import conf

    monkeypatch.setitem(conf, "s3", {"key": "a", "username": "b"})  # as FSSPEC_S3_KEY and FSSPEC_S3_USERNAME do
    with pytest.raises(ImageError, match="not both") as caught:
        References(ImageSources()).fetch("s3://pictures/a.jpg")
    assert caught.value.code is ErrorCode.FORBIDDEN
