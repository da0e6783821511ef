"""settle.lua: a job that a stock worker runs publishes through the same gate; ownership alone decides."""

from __future__ import annotations

import pytest
import redis

from imagequeue import contract
from imagequeue_worker.jobs import TakenJob
from imagequeue_worker.protocol import Protocol
from queue_state import (
    COLLECTION,
    QUEUE,
    check_invariants,
    damaged,
    everything,
    pending,
    results,
    rows,
)


def settle(worker: Protocol, job: TakenJob, cells: list | None = None) -> list[bool]:
    return worker.settle(QUEUE, job.lease.job, COLLECTION, rows(job) if cells is None else cells)


def test_owned_images_are_published(job: TakenJob, other: Protocol, connection: redis.Redis) -> None:
    assert settle(other, job) == [True, True]
    assert (set(results(connection)), pending(connection)) == ({"a", "b"}, set())


def test_no_lease_is_asked_for(job: TakenJob, worker: Protocol, other: Protocol, connection: redis.Redis) -> None:
    worker.put_back([job.lease])
    assert settle(other, job) == [True, True]


def test_settling_twice_gives_one_result(job: TakenJob, other: Protocol, connection: redis.Redis) -> None:
    settle(other, job)
    before = everything(connection)
    assert (settle(other, job), everything(connection)) == ([False, False], before)


def test_an_image_twice_in_one_call_gives_one_result(job: TakenJob, other: Protocol, connection: redis.Redis) -> None:
    assert settle(other, job, rows(job)[:4] * 2) == [True, False]
    check_invariants(connection)


def test_a_part_of_a_job_may_be_settled(job: TakenJob, other: Protocol, connection: redis.Redis) -> None:
    settle(other, job, rows(job)[4:])
    assert (set(results(connection)), pending(connection)) == ({"b"}, {"a"})


def test_images_of_another_owner_are_left_alone(job: TakenJob, other: Protocol, connection: redis.Redis) -> None:
    connection.hset(contract.pending_key(COLLECTION), "a", f"{QUEUE}|iq-other")
    assert (settle(other, job), pending(connection)) == ([False, True], {"a"})


def test_another_job_settles_nothing(job: TakenJob, other: Protocol, connection: redis.Redis) -> None:
    before = everything(connection)
    assert other.settle(QUEUE, "iq-other", COLLECTION, rows(job)) == [False, False]
    assert everything(connection) == before


def test_the_same_job_id_in_another_queue_settles_nothing(job: TakenJob, other: Protocol) -> None:
    assert other.settle("classify-low", job.lease.job, COLLECTION, rows(job)) == [False, False]


def test_another_collection_settles_nothing(job: TakenJob, other: Protocol) -> None:
    assert other.settle(QUEUE, job.lease.job, "elsewhere", rows(job)) == [False, False]


def test_no_images_settle_nothing(job: TakenJob, other: Protocol, connection: redis.Redis) -> None:
    before = everything(connection)
    assert (settle(other, job, []), everything(connection)) == ([], before)


@pytest.mark.parametrize(
    "key",
    [
        contract.pending_key(COLLECTION),
        contract.results_key(COLLECTION),
        contract.completed_key(COLLECTION),
        contract.totals_key(COLLECTION),
        contract.dead_key(COLLECTION),
        contract.WAITING_KEY,
    ],
)
def test_a_key_of_another_type_leaves_every_image_pending(
    job: TakenJob, other: Protocol, connection: redis.Redis, key: str
) -> None:
    with damaged(connection, key):
        before = everything(connection)
        with pytest.raises(redis.ResponseError):
            settle(other, job)
        assert everything(connection) == before
