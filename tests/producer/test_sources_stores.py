"""Prefixes of S3 as sources, against moto's server on loopback."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from imagequeue import SourceError
from imagequeue.sources.columns import Columns
from imagequeue.sources.items import Listed
from imagequeue.sources.kinds import Kind, source_of
from imagequeue.sources.stores import Store, _names
from s3_server import s3_bucket

NAMES = ["a/1.jpg", "a/2 ü#%.jpg", "a/b/3.png", "a/notes.txt", "b/4.jpg", *(f"many/{n:04}.jpg" for n in range(1200))]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket("listed", dict.fromkeys(NAMES, b"")):
        yield "listed"


def read(url: str, after: str = "") -> list[Listed]:
    found = source_of(url, Kind.AUTO, Columns(), None, io.BytesIO()).read(after)
    return [one for one in found if isinstance(one, Listed)]


def test_a_prefix_lists_its_pictures_in_order(bucket: str) -> None:
    names = [one.image.ref for one in read(f"s3://{bucket}/a/")]
    assert names == [f"s3://listed/{name}" for name in NAMES[:3]]


def test_a_bucket_is_a_prefix_of_more_than_a_page_and_is_read_on_from_anywhere(bucket: str) -> None:
    whole = read(f"s3://{bucket}")
    assert len(whole) == len(NAMES) - 1
    for place in (0, 2, 700, 1100, len(whole) - 1):
        assert read(f"s3://{bucket}", whole[place].cursor) == whole[place + 1 :]


def test_a_bucket_that_is_not_there_says_so(bucket: str) -> None:
    with pytest.raises(SourceError, match="s3://nobucket/a/ broke off"):
        read("s3://nobucket/a/")


def test_other_stores_are_sorted_and_read_on() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("/m/b.jpg", "/m/a.jpg", "/m/c/d.jpg"):
        memory.pipe(name, b"")
    assert list(_names(memory, "/m/", "/m/a.jpg")) == ["/m/b.jpg", "/m/c/d.jpg"]


def test_a_store_without_its_extra_names_it() -> None:
    with pytest.raises(SourceError, match=r"imagequeue\[gs\]"):
        list(Store("gs://bucket/a/").read(""))
