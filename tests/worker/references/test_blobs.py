"""`blob:` references: bytes that a producer has uploaded into Redis."""

import hashlib
import threading
import time

import pytest
import redis

from imagequeue import Producer
from imagequeue.connection import connect
from imagequeue.contract import ErrorCode, blob_key
from imagequeue_worker.embedded_redis import EmbeddedRedis
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references import ImageSources, References

DATA = bytes(range(256)) * 20


@pytest.fixture
def fetch(redis_url, connection):
    return References(ImageSources(redis=lambda: connect(redis_url, resend=False))).fetch


def code_of(fetch, ref):
    with pytest.raises(ImageError) as caught:
        fetch(ref)
    return caught.value.code


@pytest.mark.parametrize("data", [DATA, b"", b"\x00"])
def test_what_a_producer_uploads_is_read(fetch, redis_url, data):
    with Producer(redis_url) as producer:
        ref = producer.upload(data)
    assert fetch(ref) == fetch(ref.upper().replace("BLOB", "blob")) == data


def test_what_has_expired_is_not_found(fetch, redis_url):
    with Producer(redis_url) as producer:
        ref = producer.upload(DATA, expires_in=0.05)
        while producer._link.call(lambda client: client.exists(blob_key(ref[5:]))):
            time.sleep(0.01)
    assert code_of(fetch, ref) is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("ref", ["blob:", "blob:abc", "blob:" + "g" * 64, "blob://" + "a" * 64, "blob:" + "a" * 65])
def test_what_is_no_checksum_is_unsupported(fetch, ref):
    assert code_of(fetch, ref) is ErrorCode.UNSUPPORTED_REFERENCE


def test_other_bytes_than_were_uploaded_are_corrupt(fetch, connection):
    sha256 = hashlib.sha256(DATA).hexdigest()
    connection.set(blob_key(sha256), DATA[:-1])
    assert code_of(fetch, f"blob:{sha256}") is ErrorCode.CORRUPT


def test_a_key_of_another_type_is_a_failed_fetch(fetch, connection):
    connection.hset(blob_key("a" * 64), "field", "value")
    assert code_of(fetch, "blob:" + "a" * 64) is ErrorCode.FETCH_FAILED


def test_the_limit_holds_before_anything_is_read(redis_url, connection):
    sha256 = hashlib.sha256(DATA).hexdigest()
    connection.set(blob_key(sha256), DATA)
    small = References(ImageSources(image_bytes_max=100, redis=lambda: connect(redis_url, resend=False)))
    assert code_of(small.fetch, f"blob:{sha256}") is ErrorCode.TOO_LARGE


def test_a_worker_without_redis_says_so():
    with pytest.raises(ImageError, match="workers of a queue only"):
        References(ImageSources()).fetch("blob:" + "a" * 64)


def test_a_redis_that_comes_back_is_waited_for(tmp_path):
    sha256 = hashlib.sha256(DATA).hexdigest()
    with EmbeddedRedis(tmp_path, durable=True) as server:
        ours = References(ImageSources(redis=lambda: connect(server.url, resend=False), fetch_seconds=60.0))
        with connect(server.url, resend=False) as client:
            client.set(blob_key(sha256), DATA)
        assert ours.fetch(f"blob:{sha256}") == DATA
        server.stop()
        got = []
        waiting = threading.Thread(target=lambda: got.append(ours.fetch(f"blob:{sha256}")))
        waiting.start()
        server.start()
        waiting.join()
        assert got == [DATA]


def test_a_redis_that_stays_away_is_a_timeout():
    def away():
        return redis.Redis(port=1)

    ours = References(ImageSources(redis=away, fetch_seconds=0.3))
    assert code_of(ours.fetch, "blob:" + "a" * 64) is ErrorCode.FETCH_TIMEOUT
