"""Producer.submit, submit_many and submit_chunks against a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import redis

from imagequeue import BlobMissing, ContractError, Image, Producer, QueueFull, RedisRefused, contract
from imagequeue.contract import IMAGES_PER_JOB_MAX
from imagequeue.errors import ConfigurationError, RedisUnavailable
from imagequeue.orders import CHUNK_BYTES_MAX
from imagequeue.scripts import script_text
from producer_hand import Settle, wait_for_command


def requests(client: redis.Redis, queue: str = "classify") -> list[contract.Request]:
    """What the jobs of a queue carry, in its order."""
    jobs = client.lrange(contract.queue_key(queue), 0, -1)
    return [contract.decode_job(client.hget(contract.job_key(job.decode()), "data")) for job in jobs]


def test_a_string_is_sent_as_it_is(producer: Producer, connection: redis.Redis) -> None:
    producer.submit("relative/cat.jpg")
    assert requests(connection)[0].images[0].ref == "relative/cat.jpg"


def test_a_path_becomes_absolute(producer: Producer, connection: redis.Redis, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    producer.submit(Path("cat.jpg"))
    assert requests(connection)[0].images[0].ref == str(tmp_path / "cat.jpg")


def test_a_file_name_that_is_not_unicode_becomes_a_url(producer: Producer, connection: redis.Redis) -> None:
    producer.submit(Path("/pictures/caf\udce9.jpg"))
    assert requests(connection)[0].images[0].ref == "file:///pictures/caf%E9.jpg"


def test_an_image_brings_its_own_id(producer: Producer) -> None:
    assert producer.submit(Image("cat", "/cat.jpg")).id == "cat"


def test_an_id_can_be_given(producer: Producer) -> None:
    assert producer.submit("/cat.jpg", id="cat").id == "cat"


def test_the_default_id_is_the_same_for_the_same_reference(producer: Producer) -> None:
    assert producer.submit("/cat.jpg").id == producer.submit("/cat.jpg").id


def test_a_new_image_is_accepted_with_its_job(producer: Producer, connection: redis.Redis) -> None:
    receipt = producer.submit("/cat.jpg")
    owner = connection.hget(contract.pending_key("default"), receipt.id)
    assert (receipt.accepted, f"classify|{receipt.job}".encode()) == (True, owner)


def test_a_known_image_is_not_accepted_again(producer: Producer) -> None:
    producer.submit("/cat.jpg")
    receipt = producer.submit("/cat.jpg")
    assert (receipt.accepted, receipt.job) == (False, None)


def test_a_request_carries_what_was_asked_for(producer: Producer, connection: redis.Redis) -> None:
    producer.submit("/a", id="a", collection="c", model="m", top_k=7, expires_in=1.5, priority="high")
    expected = contract.Request(images=(Image("a", "/a"),), collection="c", model="m", top_k=7, expires_in=1.5)
    assert requests(connection, "classify-high") == [expected]


def test_many_images_go_in_jobs_of_16(producer: Producer, connection: redis.Redis) -> None:
    producer.submit_many(f"/{n}" for n in range(33))
    assert [len(request.images) for request in requests(connection)] == [16, 16, 1]


def test_another_chunk_can_be_asked_for(producer: Producer, connection: redis.Redis) -> None:
    producer.submit_many((f"/{n}" for n in range(66)), chunk=64)
    assert [len(request.images) for request in requests(connection)] == [64, 2]


def test_a_chunk_of_large_references_is_cut_by_bytes(producer: Producer, connection: redis.Redis) -> None:
    large = "data:" + "x" * (contract.REF_BYTES_MAX - 10)
    producer.submit_many(f"{large}{n}" for n in range(6))
    jobs = [
        connection.hstrlen(contract.job_key(job.decode()), "data")
        for job in connection.lrange("rq:queue:classify", 0, -1)
    ]
    assert len(jobs) == 2
    assert max(jobs) < CHUNK_BYTES_MAX + contract.REF_BYTES_MAX


def test_many_are_counted_and_named_in_order(producer: Producer) -> None:
    producer.submit("/b", id="b")
    submission = producer.submit_many([Image("c", "/c"), Image("b", "/b"), Image("a", "/a")])
    assert (submission.ids, submission.accepted, submission.known) == (("c", "b", "a"), 2, 1)


@pytest.mark.parametrize("chunk", [1, 2, 64])
def test_an_image_named_twice_is_accepted_once(producer: Producer, connection: redis.Redis, chunk: int) -> None:
    submission = producer.submit_many(["/a", "/b", "/a", "/a"], chunk=chunk)
    assert (len(submission.ids), submission.accepted, submission.known) == (2, 2, 2)
    assert producer.progress().accepted == 2


def test_of_two_references_under_one_id_the_first_counts(producer: Producer, connection: redis.Redis) -> None:
    producer.submit_many([Image("a", "/first"), Image("a", "/second")])
    assert requests(connection)[0].images == (Image("a", "/first"),)


def test_no_images_are_no_job(producer: Producer, connection: redis.Redis) -> None:
    assert producer.submit_many([]).ids == ()
    assert connection.dbsize() == 0


def test_chunks_are_submitted_as_they_are_read(producer: Producer) -> None:
    endless = (f"/{n}" for n in count())
    parts = producer.submit_chunks(endless)
    assert [next(parts).accepted, next(parts).accepted] == [16, 16]
    assert producer.progress().accepted == 32


def test_a_full_queue_is_refused_when_asked_to(redis_url: str, connection: redis.Redis) -> None:
    with Producer(redis_url, depth_limit=2) as producer:
        producer.submit_many(["/a", "/b"])
        with pytest.raises(QueueFull, match="limit 2"):
            producer.submit("/c", on_full="raise")


def test_a_full_queue_is_refused_when_the_time_is_over(redis_url: str, connection: redis.Redis) -> None:
    with Producer(redis_url, depth_limit=1) as producer:
        producer.submit("/a")
        with pytest.raises(QueueFull):
            producer.submit("/b", timeout=0)


def test_a_full_queue_is_waited_for(redis_url: str, connection: redis.Redis, settle: Settle) -> None:
    with Producer(redis_url, depth_limit=1) as producer:
        producer.submit("/a", id="a")
        receipts = []
        with connection.monitor() as monitor:
            thread = threading.Thread(target=lambda: receipts.append(producer.submit("/b")))
            thread.start()
            wait_for_command(monitor, "EVALSHA")  # it was refused once
            settle("a")
        thread.join()
        assert receipts[0].accepted


def test_a_refusal_tells_how_much_is_in(redis_url: str, connection: redis.Redis) -> None:
    with Producer(redis_url, depth_limit=100) as producer:
        with pytest.raises(QueueFull) as caught:
            producer.submit_many((f"/{n}" for n in range(200)), on_full="raise", chunk=64)
        assert "64 images of this call are accepted" in caught.value.__notes__[0]


@pytest.fixture
def out_of_memory(connection: redis.Redis) -> Iterator[None]:
    before = connection.config_get("maxmemory")["maxmemory"]
    connection.script_load(script_text("submit"))
    connection.config_set("maxmemory", 1)
    yield
    connection.config_set("maxmemory", before)


@pytest.mark.usefixtures("out_of_memory")
def test_a_server_without_memory_is_a_full_queue(producer: Producer) -> None:
    with pytest.raises(QueueFull, match="memory"):
        producer.submit("/a", on_full="raise")


def test_an_uploaded_image_can_be_submitted(producer: Producer, connection: redis.Redis) -> None:
    ref = producer.upload(b"picture")
    producer.submit(ref)
    assert connection.get(contract.blob_key(ref.removeprefix("blob:"))) == b"picture"


def test_an_uploaded_image_expires(producer: Producer, connection: redis.Redis) -> None:
    ref = producer.upload(b"picture", expires_in=60)
    assert 50 < connection.ttl(contract.blob_key(ref.removeprefix("blob:"))) <= 60


def test_a_blob_that_is_not_there_is_refused(producer: Producer) -> None:
    with pytest.raises(BlobMissing, match="0000"):
        producer.submit("blob:" + 64 * "0")


def test_a_blob_without_a_checksum_is_refused(producer: Producer) -> None:
    with pytest.raises(ContractError, match="hexadecimal"):
        producer.submit("blob:cat")


@pytest.mark.parametrize("ref", ["blob:cat", "/\udcff.jpg"])
def test_what_comes_before_a_reference_that_cannot_be_sent_is_accepted(producer: Producer, ref: str) -> None:
    with pytest.raises(ContractError) as caught:
        producer.submit_many(["/a", "/b", ref, "/c"], chunk=1)
    assert producer.progress().accepted == 2
    assert caught.value.__notes__ == ["2 images of this call are accepted; sending all of it again is safe"]


def test_a_key_of_another_type_is_a_refusal(producer: Producer, connection: redis.Redis) -> None:
    connection.set(contract.pending_key("default"), "something else")
    with pytest.raises(RedisRefused, match="holds a string"):
        producer.submit("/a")


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"collection": "a:b"}, ContractError),
        ({"priority": "urgent"}, ConfigurationError),
        ({"top_k": 0}, ContractError),
        ({"top_k": 1001}, ContractError),
        ({"expires_in": 0}, ContractError),
        ({"expires_in": float("inf")}, ContractError),
        ({"expires_in": float("nan")}, ContractError),
        ({"on_full": "drop"}, ConfigurationError),
        ({"timeout": -1}, ConfigurationError),
        ({"id": "a\nb"}, ContractError),
    ],
)
def test_an_argument_that_cannot_be_is_refused_before_anything_is_sent(
    producer: Producer, connection: redis.Redis, settings: dict, error: type[Exception]
) -> None:
    with pytest.raises(error):
        producer.submit("/a", **settings)
    assert connection.dbsize() == 0


@pytest.mark.parametrize("chunk", [0, IMAGES_PER_JOB_MAX + 1])
def test_a_chunk_that_no_job_holds_is_refused(producer: Producer, chunk: int) -> None:
    with pytest.raises(ConfigurationError, match="1 to 64"):
        producer.submit_many(["/a"], chunk=chunk)


@pytest.mark.parametrize(
    "settings", [{"redis_url": "http://x"}, {"depth_limit": 0}, {"patience": -1}, {"patience": float("nan")}]
)
def test_a_setting_that_cannot_be_is_refused(settings: dict) -> None:
    with pytest.raises(ConfigurationError):
        Producer(**settings)


def test_the_environment_names_redis(redis_url: str, connection: redis.Redis, monkeypatch) -> None:
    monkeypatch.setenv("IMAGEQUEUE_REDIS_URL", redis_url)
    with Producer() as producer:
        assert producer.submit("/a").accepted


def test_redis_that_is_not_there_is_said_so_with_a_remedy(tmp_path: Path) -> None:
    producer = Producer(f"unix://{tmp_path}/nothing.sock", patience=0)
    with pytest.raises(RedisUnavailable, match="--redis-url"):
        producer.submit("/a")
