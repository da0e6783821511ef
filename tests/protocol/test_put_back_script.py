"""put_back.lua: jobs that were not begun return to the front of their queues, as if never taken."""

from __future__ import annotations

import pytest
import redis

from imagequeue import Producer
from imagequeue_worker.protocol import Protocol
from queue_state import (
    QUEUE,
    RQ,
    damaged,
    end_leases,
    everything,
    field,
    ids_of,
    member,
    queued,
    submit,
)


def test_jobs_return_to_the_front_in_their_old_order(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, *"abcd", chunk=1)
    before = queued(connection)
    worker.put_back([job.lease for job in worker.take(3).jobs])
    assert queued(connection) == before


def test_jobs_return_to_the_queues_they_came_from(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "high", priority="high")
    submit(producer, "low", priority="low")
    before = queued(connection, "classify-high"), queued(connection, "classify-low")
    leases = [job.lease for _ in range(2) for job in worker.take(64).jobs]
    worker.put_back(leases)
    assert (queued(connection, "classify-high"), queued(connection, "classify-low")) == before


def test_it_was_no_attempt(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a")
    worker.put_back([job.lease for job in worker.take(64).jobs])
    (job,) = worker.take(64).jobs
    assert (job.attempt, job.losses) == (1, 0)


def test_the_number_of_jobs_put_back_is_told(producer: Producer, worker: Protocol) -> None:
    submit(producer, *"abc", chunk=1)
    assert worker.put_back([job.lease for job in worker.take(64).jobs]) == 3


def test_nothing_of_the_lease_is_left(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    worker.put_back([job.lease])
    left = [f"{RQ}:wip:{QUEUE}", f"{RQ}:worker:w1:executions", f"{RQ}:execution:{member(job.lease)}"]
    assert connection.exists(*left, f"{RQ}:executions:{job.lease.job}") == 0


def test_the_job_is_queued_again(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    worker.put_back([job.lease])
    names = ("status", "worker_name", "started_at")
    assert [field(connection, job.lease.job, name) for name in names] == ["queued", "", ""]


def test_a_lost_lease_is_not_touched(
    producer: Producer, worker: Protocol, other: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    end_leases(connection, job.lease)
    other.reclaim(losses_max=10)
    other.take(64)
    before = everything(connection)
    assert (worker.put_back([job.lease]), everything(connection)) == (0, before)


def test_a_lost_lease_does_not_keep_the_others(
    producer: Producer, worker: Protocol, other: Protocol, connection: redis.Redis
) -> None:
    submit(producer, *"abc", chunk=1)
    jobs = worker.take(64).jobs
    end_leases(connection, jobs[1].lease)
    other.reclaim(losses_max=10)
    other.take(1)
    worker.put_back([job.lease for job in jobs])
    assert ids_of(other.take(64).jobs) == [["a"], ["c"]]


def test_putting_back_twice_puts_back_once(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    worker.put_back([job.lease])
    assert (worker.put_back([job.lease]), queued(connection)) == (0, [job.lease.job])


def test_a_take_whose_answer_was_lost_is_given_back(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, *"abc", chunk=1)
    worker.take(64)
    assert worker.put_back(worker.held_in_redis()) == 3


@pytest.mark.parametrize(
    ("key", "count"),
    [("{rq}:queue:{queue}", 1), ("{rq}:wip:{queue}", 1), ("{rq}:job:{job}", 2), ("{rq}:worker:w1:executions", 3)],
)
def test_a_key_of_another_type_keeps_only_its_own_jobs_from_going_back(
    producer: Producer, worker: Protocol, connection: redis.Redis, key: str, count: int
) -> None:
    submit(producer, "a", "b", chunk=1)
    jobs = worker.take(64).jobs
    submit(producer, "low", priority="low")
    jobs += worker.take(64).jobs
    with damaged(connection, key.format(rq=RQ, queue=QUEUE, job=jobs[1].lease.job)):
        assert worker.put_back([job.lease for job in jobs]) == count
    assert len(queued(connection, "classify-low")) == 1
    assert connection.zcard(f"{RQ}:wip:{QUEUE}") == 3 - count
