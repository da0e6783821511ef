"""A finished collection is removed whole; one with pending images not at all."""

from __future__ import annotations

import pytest
import redis

from imagequeue import CollectionBusy, Producer, contract
from imagequeue.contract import ErrorCode
from imagequeue.reading import Progress
from imagequeue_worker.protocol import Protocol
from queue_state import answer, answer_errors, drain, everything, submit


def keys_of(connection: redis.Redis, collection: str) -> list[bytes]:
    return [key for key in connection.scan_iter() if key.endswith(f":{collection}".encode())]


def test_nothing_of_a_dropped_collection_is_left(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a", collection="holidays")
    drain(worker)
    submit(producer, "b", collection="holidays")
    worker.finish([answer_errors(job, ErrorCode.CORRUPT) for job in worker.take(1).jobs])
    assert producer.drop("holidays") == 2
    assert keys_of(connection, "holidays") == []
    assert connection.smembers(contract.COLLECTIONS_KEY) == set()


def test_other_collections_stay(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a", collection="holidays")
    submit(producer, "a")
    drain(worker)
    producer.drop("holidays")
    assert producer.progress() == Progress(accepted=1, pending=0, ok=1, error=0)
    assert producer.result("a") is not None


def test_pending_images_keep_a_collection(producer: Producer, connection: redis.Redis) -> None:
    submit(producer, "a", collection="holidays")
    before = everything(connection)
    with pytest.raises(CollectionBusy, match="1 pending"):
        producer.drop("holidays")
    assert everything(connection) == before


def test_a_dropped_collection_begins_anew(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a", collection="holidays")
    drain(worker)
    producer.drop("holidays")
    submit(producer, "a", collection="holidays")
    drain(worker)
    assert producer.progress("holidays") == Progress(accepted=1, pending=0, ok=1, error=0)


def test_what_a_slow_worker_says_after_a_drop_is_dropped(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a", collection="holidays")
    (job,) = worker.take(1).jobs
    producer.cancel_collection("holidays")
    producer.drop("holidays")
    worker.finish([answer(job)])
    assert keys_of(connection, "holidays") == []


def test_dropping_what_is_not_there_is_no_error(producer: Producer) -> None:
    assert producer.drop("nobody") == 0
