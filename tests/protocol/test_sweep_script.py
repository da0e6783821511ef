"""sweep.lua: what has aged goes, and only that."""

from __future__ import annotations

import pytest
import redis
from prometheus_client import CollectorRegistry

from imagequeue import Producer, contract
from imagequeue.connection import connect
from imagequeue_worker.embedded_redis import EmbeddedRedis
from imagequeue_worker.housekeeping import Housekeeping
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.protocol import Protocol
from queue_state import (
    COLLECTION,
    LEASE_SECONDS,
    QUEUE,
    RESULT_TTL,
    answer,
    damaged,
    everything,
    fields_expire,
    results,
    submit,
)


def test_young_results_stay(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a", "b", chunk=1)
    worker.finish([answer(job) for job in worker.take(1).jobs])
    before = everything(connection)
    assert (worker.sweep(), everything(connection)) == (0, before)


def test_completions_that_have_aged_go(connection: redis.Redis, worker: Protocol) -> None:
    old = f"{(connection.time()[0] - RESULT_TTL - 60) * 1000}-0"
    connection.sadd(contract.COLLECTIONS_KEY, COLLECTION)
    connection.xadd(contract.completed_key(COLLECTION), {"id": "a", "status": "ok"}, id=old)
    worker.sweep()
    assert connection.xlen(contract.completed_key(COLLECTION)) == 0


def test_a_collection_without_images_is_listed_no_longer(connection: redis.Redis, worker: Protocol) -> None:
    connection.sadd(contract.COLLECTIONS_KEY, *(f"empty-{n}" for n in range(500)))
    worker.sweep()
    assert connection.scard(contract.COLLECTIONS_KEY) == 0


def test_rqs_registries_lose_the_jobs_that_have_expired(connection: redis.Redis, worker: Protocol) -> None:
    now = connection.time()[0]
    scores = {"expired": now - 1, "young": now + 60, "kept for ever": "+inf"}
    for kind in ("finished", "failed"):
        connection.zadd(f"rq:{kind}:{QUEUE}", scores)
    assert worker.forget_ended_jobs() == 2
    assert connection.zrange(f"rq:finished:{QUEUE}", 0, -1) == [b"young", b"kept for ever"]
    assert connection.zrange(f"rq:failed:{QUEUE}", 0, -1) == [b"young", b"kept for ever"]


def test_rates_of_workers_long_gone_go(connection: redis.Redis, worker: Protocol) -> None:
    now = connection.time()[0]
    connection.hset(contract.RATES_KEY, mapping={"gone": f"1 {now - 7200}", "here": f"2 {now}"})
    worker.sweep()
    assert set(connection.hkeys(contract.RATES_KEY)) == {b"here"}


def test_the_last_rate_stays_when_no_worker_is_left(connection: redis.Redis, worker: Protocol) -> None:
    now = connection.time()[0]
    connection.hset(contract.RATES_KEY, mapping={"older": f"1 {now - 9000}", "newer": f"2 {now - 7200}"})
    worker.sweep()
    assert set(connection.hkeys(contract.RATES_KEY)) == {b"newer"}


def test_results_that_are_kept_for_centuries_stay(producer: Producer, connection: redis.Redis) -> None:
    worker = Protocol(connection, "w1", [QUEUE], lease_seconds=LEASE_SECONDS, result_ttl=10**10)
    submit(producer, "a")
    worker.finish([answer(job) for job in worker.take(64).jobs])
    worker.sweep()
    assert list(results(connection)) == ["a"]


def test_a_result_from_before_the_server_could_expire_fields_goes_with_its_completion(
    connection: redis.Redis, worker: Protocol
) -> None:
    age(connection, "aged", entry_of_result=True)
    assert (worker.sweep(), connection.exists(contract.results_key(COLLECTION))) == (1, 0)


def test_a_result_that_expires_by_itself_is_left_to_do_so(connection: redis.Redis, worker: Protocol) -> None:
    if not fields_expire(connection):
        pytest.skip("this server cannot")
    age(connection, "aged", entry_of_result=True)
    connection.hexpire(contract.results_key(COLLECTION), 3600, "aged")  # by a worker that keeps results for longer
    assert (worker.sweep(), connection.hkeys(contract.results_key(COLLECTION))) == (0, [b"aged"])
    assert connection.xlen(contract.completed_key(COLLECTION)) == 0


def test_without_field_expiry_a_result_goes_with_its_completion(
    server_without_field_expiry: EmbeddedRedis,
) -> None:
    url = server_without_field_expiry.url
    with connect(url, resend=False) as connection, Producer(url) as producer:
        worker = Protocol(connection, "w1", [QUEUE], lease_seconds=LEASE_SECONDS, result_ttl=RESULT_TTL)
        age(connection, "aged", entry_of_result=True)
        submit(producer, "young")
        worker.finish([answer(job) for job in worker.take(64).jobs])
        assert (worker.sweep(), connection.hkeys(contract.results_key(COLLECTION))) == (1, [b"young"])


def test_without_field_expiry_a_result_that_was_asked_for_again_stays(
    server_without_field_expiry: EmbeddedRedis,
) -> None:
    with connect(server_without_field_expiry.url, resend=False) as connection:
        worker = Protocol(connection, "w1", [QUEUE], lease_seconds=LEASE_SECONDS, result_ttl=RESULT_TTL)
        age(connection, "again", entry_of_result=False)
        assert (worker.sweep(), connection.hkeys(contract.results_key(COLLECTION))) == (0, [b"again"])


def test_a_damaged_collection_or_rate_does_not_keep_the_others_from_ageing(
    connection: redis.Redis, worker: Protocol
) -> None:
    age(connection, "aged", entry_of_result=True)
    connection.sadd(contract.COLLECTIONS_KEY, "odd")
    with damaged(connection, contract.results_key("odd")), damaged(connection, contract.RATES_KEY):
        worker.sweep()
    assert connection.xlen(contract.completed_key(COLLECTION)) == 0


def test_without_field_expiry_a_round_of_housekeeping_removes_all_that_has_aged(
    server_without_field_expiry: EmbeddedRedis,
) -> None:
    with connect(server_without_field_expiry.url, resend=False) as connection:
        worker = Protocol(connection, "w1", [QUEUE], lease_seconds=LEASE_SECONDS, result_ttl=RESULT_TTL)
        old = (connection.time()[0] - RESULT_TTL - 60) * 1000
        with connection.pipeline(transaction=False) as pipeline:
            pipeline.sadd(contract.COLLECTIONS_KEY, COLLECTION)
            for number in range(2500):
                pipeline.xadd(contract.completed_key(COLLECTION), {"id": number}, id=f"{old}-{number}")
                pipeline.hset(contract.results_key(COLLECTION), str(number), f'{{"entry":"{old}-{number}"}}')
            pipeline.execute()
        housekeeping = Housekeeping(worker, Metrics(CollectorRegistry()))
        for _ in range(20):
            housekeeping.step(0.0)
        assert connection.hlen(contract.results_key(COLLECTION)) == 0


def age(connection: redis.Redis, id_: str, *, entry_of_result: bool) -> None:
    """A result whose completion, or an earlier completion of the same image, has aged."""
    old = f"{(connection.time()[0] - RESULT_TTL - 60) * 1000}-0"
    connection.sadd(contract.COLLECTIONS_KEY, COLLECTION)
    connection.xadd(contract.completed_key(COLLECTION), {"id": id_, "status": "ok"}, id=old)
    entry = old if entry_of_result else f"{connection.time()[0] * 1000}-0"
    connection.hset(contract.results_key(COLLECTION), id_, f'{{"entry":"{entry}"}}')
