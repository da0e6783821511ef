"""publish.lua: some images of a job get their results at once, under its lease, and the job goes on."""

from __future__ import annotations

import pytest
import redis

from imagequeue import contract
from imagequeue_worker.jobs import TakenJob
from imagequeue_worker.protocol import Finished, Protocol
from queue_state import (
    COLLECTION,
    RQ,
    answer,
    check_invariants,
    damaged,
    end_leases,
    everything,
    lease_score,
    pending,
    results,
    rows,
)


def publish(worker: Protocol, job: TakenJob, cells: list) -> list[bool] | None:
    return worker.publish(job.lease, COLLECTION, cells)


def test_what_is_published_has_a_result_and_the_rest_is_pending(
    job: TakenJob, worker: Protocol, connection: redis.Redis
) -> None:
    assert publish(worker, job, rows(job)[:4]) == [True]
    assert (set(results(connection)), pending(connection)) == ({"a"}, {"b"})


def test_the_lease_stays(job: TakenJob, worker: Protocol, connection: redis.Redis) -> None:
    publish(worker, job, rows(job))
    assert lease_score(connection, job.lease) is not None


def test_finish_publishes_the_rest_and_closes_the_job(job: TakenJob, worker: Protocol, connection: redis.Redis) -> None:
    publish(worker, job, rows(job)[:4])
    assert worker.finish([answer(job)]) == [Finished(Finished.DONE, (False, True))]
    assert set(results(connection)) == {"a", "b"}


def test_without_the_lease_nothing_is_published(
    job: TakenJob, worker: Protocol, other: Protocol, connection: redis.Redis
) -> None:
    end_leases(connection, job.lease)
    other.reclaim(losses_max=10)
    before = everything(connection)
    assert (publish(worker, job, rows(job)), everything(connection)) == (None, before)


def test_publishing_twice_gives_one_result(job: TakenJob, worker: Protocol, connection: redis.Redis) -> None:
    publish(worker, job, rows(job))
    assert publish(worker, job, rows(job)) == [False, False]
    check_invariants(connection)


def test_an_image_twice_in_one_call_gives_one_result(job: TakenJob, worker: Protocol, connection: redis.Redis) -> None:
    assert publish(worker, job, rows(job)[:4] * 2) == [True, False]
    check_invariants(connection)


@pytest.mark.parametrize("key", [contract.results_key(COLLECTION), contract.WAITING_KEY, f"{RQ}:wip:classify"])
def test_a_key_of_another_type_leaves_every_image_pending(
    job: TakenJob, worker: Protocol, connection: redis.Redis, key: str
) -> None:
    with damaged(connection, key):
        before = everything(connection)
        with pytest.raises(redis.ResponseError):
            publish(worker, job, rows(job))
        assert everything(connection) == before
