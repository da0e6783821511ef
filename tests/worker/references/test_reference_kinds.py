"""The registry: how a reference names its kind, and how a kind joins."""

import subprocess
import sys

import pytest

from failing_kind import FailsOnDemand
from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references import ImageSources, References, known_kinds, register, registry


@pytest.fixture
def kinds(monkeypatch):
    """The registry's table, restored after the test."""
    monkeypatch.setattr(registry, "_kinds", dict(registry._kinds))


@pytest.fixture
def fetch(tmp_path):
    return References(ImageSources(image_roots=(tmp_path,))).fetch


@pytest.mark.parametrize("ref", ["ftp://host/a.jpg", "zip://a", "gopher://x", "simplecache://x", "c++://x"])
def test_an_unknown_kind_is_unsupported_and_the_message_lists_the_known_ones(fetch, ref):
    with pytest.raises(ImageError, match=r"is no kind .* file:") as caught:
        fetch(ref)
    assert caught.value.code is ErrorCode.UNSUPPORTED_REFERENCE


@pytest.mark.parametrize(
    "ref", ["blob:0123", "data:nothing", "BLOB:x", "tar:a.tar", "lmdb:/a", "http:a.jpg", "s3:a::b"]
)
def test_known_kinds_are_never_paths_though_files_were_called_so(fetch, tmp_path, ref):
    (tmp_path / ref.replace("/", "")).write_bytes(b"a file")
    with pytest.raises(ImageError) as caught:
        fetch(ref)
    assert caught.value.code in (ErrorCode.UNSUPPORTED_REFERENCE, ErrorCode.CORRUPT)


@pytest.mark.parametrize("ref", ["C:/a.jpg", "a:b.jpg", "x://a.jpg", "12:30.jpg", "notes:today.jpg", "a b://c", ":x"])
def test_other_colons_belong_to_paths(fetch, ref):
    with pytest.raises(ImageError) as caught:
        fetch(ref)
    assert caught.value.code is ErrorCode.NOT_FOUND


def test_a_registered_kind_gets_the_whole_reference_and_may_fail(kinds, tmp_path):
    register("test", FailsOnDemand)
    fetch = References(ImageSources(image_roots=(tmp_path,))).fetch
    assert fetch("test:bytes=4") == bytes(4)
    assert fetch("TEST://bytes=2") == bytes(2)
    with pytest.raises(ImageError, match="on demand") as caught:
        fetch("test:fail=fetch_timeout")
    assert caught.value.code is ErrorCode.FETCH_TIMEOUT


def test_a_kind_is_known_to_objects_made_after_it_joined(kinds):
    before = References(ImageSources())
    register("test", FailsOnDemand)
    assert "test" in known_kinds()
    with pytest.raises(ImageError) as caught:
        before.fetch("test://bytes=1")
    assert caught.value.code is ErrorCode.UNSUPPORTED_REFERENCE


def test_a_kind_is_given_the_settings(kinds):
    given = []

    def kind(sources):
        given.append(sources)
        return lambda _: b""

    register("test", kind)
    References(ImageSources(image_bytes_max=7))
    assert given[0].image_bytes_max == 7


@pytest.mark.parametrize("scheme", ["", "x", "1a", "a:b", "a//", "ä1"])
def test_a_scheme_that_no_reference_could_name_is_refused(kinds, scheme):
    with pytest.raises(ValueError, match="scheme is"):
        register(scheme, FailsOnDemand)


def test_this_worker_knows_the_contracts_kinds():
    assert {"file", "http", "https", "blob", "data", "lmdb", "tar", "s3", "gs", "az"} <= set(known_kinds())


def test_making_them_imports_no_client_of_any():
    script = (
        "import sys, imagequeue_worker.batch_worker\n"
        "from imagequeue_worker.references import References, ImageSources\n"
        "References(ImageSources())\n"
        "print(*[name for name in ('urllib3', 'fsspec', 's3fs', 'lmdb', 'aiohttp') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
