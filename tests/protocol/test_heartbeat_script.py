"""heartbeat.lua: leases are renewed, never revived; RQ and the fleet see that a worker lives."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import redis
from rq import Worker
from rq.utils import utcparse

from imagequeue import Producer, contract
from imagequeue_worker.jobs import Lease
from imagequeue_worker.protocol import Protocol
from queue_state import (
    LEASE_SECONDS,
    QUEUE,
    RQ,
    answer,
    damaged,
    end_leases,
    everything,
    lease_score,
    member,
    submit,
)

TTL = 60


def beat(worker: Protocol, *leases: Lease, rate: float | None = None) -> tuple[bool, list[Lease]]:
    return worker.heartbeat(leases, worker_ttl=TTL, rate=rate)


def now(connection: redis.Redis) -> float:
    seconds, microseconds = connection.time()
    return seconds + microseconds / 1e6


def test_a_lease_is_renewed(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    end_leases(connection, job.lease)
    beat(worker, job.lease)
    assert lease_score(connection, job.lease) == pytest.approx(now(connection) + LEASE_SECONDS + 60, abs=5)


def test_the_execution_lives_as_long_as_the_lease(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    keys = [f"{RQ}:execution:{member(job.lease)}", f"{RQ}:executions:{job.lease.job}"]
    for key in keys:
        connection.expire(key, 5)
    beat(worker, job.lease)
    assert [connection.ttl(key) for key in keys] == pytest.approx([LEASE_SECONDS + 60] * 2, abs=5)


def test_the_execution_says_when_it_was_last_heard_of(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    key = f"{RQ}:execution:{member(job.lease)}"
    connection.hset(key, "last_heartbeat", "1.0")
    beat(worker, job.lease)
    assert float(connection.hget(key, "last_heartbeat")) == pytest.approx(now(connection), abs=5)


def test_held_leases_are_not_lost(producer: Producer, worker: Protocol) -> None:
    submit(producer, *"abc", chunk=1)
    assert beat(worker, *(job.lease for job in worker.take(64).jobs))[1] == []


def test_lost_leases_are_told(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, *"abc", chunk=1)
    leases = [job.lease for job in worker.take(64).jobs]
    end_leases(connection, leases[1])
    worker.reclaim(losses_max=10)
    assert beat(worker, *leases)[1] == [leases[1]]


def test_a_lost_lease_does_not_come_back(
    producer: Producer, worker: Protocol, other: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    end_leases(connection, job.lease)
    other.reclaim(losses_max=10)
    before = everything(connection)
    beat(worker, job.lease)
    assert everything(connection) == before


def test_a_lost_lease_does_not_touch_the_one_that_followed(
    producer: Producer, worker: Protocol, other: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    end_leases(connection, job.lease)
    other.reclaim(losses_max=10)
    other.take(64)
    before = everything(connection)
    beat(worker, job.lease)
    assert everything(connection) == before


def test_a_finished_job_is_no_held_lease(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    worker.finish([answer(job)])
    assert beat(worker, job.lease)[1] == [job.lease]


def test_a_renewed_lease_is_not_reclaimed(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    end_leases(connection, job.lease)
    beat(worker, job.lease)
    assert worker.reclaim(losses_max=10) == []


# --- the worker ---------------------------------------------------------------------------------------------


def test_a_worker_that_rq_knows_is_told_so(worker: Protocol, registered: Worker) -> None:
    assert beat(worker)[0]


def test_a_worker_that_rq_does_not_know_is_told_so(worker: Protocol) -> None:
    assert not beat(worker)[0]


def test_a_worker_that_rq_does_not_know_is_not_made_known(worker: Protocol, connection: redis.Redis) -> None:
    beat(worker)
    assert everything(connection) == {}


def test_a_worker_that_rq_does_not_know_keeps_its_leases(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    end_leases(connection, job.lease)
    beat(worker, job.lease)
    assert lease_score(connection, job.lease) == pytest.approx(now(connection) + LEASE_SECONDS + 60, abs=5)


def test_a_worker_without_leases_is_idle(worker: Protocol, registered: Worker) -> None:
    beat(worker)
    registered.refresh()
    assert registered.get_state() == "idle"


def test_a_worker_with_leases_is_busy(producer: Producer, worker: Protocol, registered: Worker) -> None:
    submit(producer, "a")
    beat(worker, worker.take(64).jobs[0].lease)
    registered.refresh()
    assert registered.get_state() == "busy"


def test_the_workers_keys_live_on(
    producer: Producer, worker: Protocol, registered: Worker, connection: redis.Redis
) -> None:
    submit(producer, "a")
    lease = worker.take(64).jobs[0].lease
    connection.expire(f"{RQ}:worker:w1", 5)
    beat(worker, lease)
    keys = [f"{RQ}:worker:w1", f"{RQ}:worker:w1:executions"]
    assert [connection.ttl(key) for key in keys] == pytest.approx([TTL + 60] * 2, abs=5)


def test_the_worker_says_when_it_was_last_heard_of(
    worker: Protocol, registered: Worker, connection: redis.Redis
) -> None:
    connection.hset(f"{RQ}:worker:w1", "last_heartbeat", "2001-01-01T00:00:00.000000Z")
    beat(worker)
    heard = utcparse(connection.hget(f"{RQ}:worker:w1", "last_heartbeat").decode())
    assert abs((datetime.fromtimestamp(now(connection), UTC) - heard).total_seconds()) < 5


def test_the_measured_rate_is_written(worker: Protocol, connection: redis.Redis) -> None:
    beat(worker, rate=12.3456)
    rate, at = connection.hget(contract.RATES_KEY, "w1").split()
    assert (float(rate), float(at)) == (12.346, pytest.approx(now(connection), abs=5))


def test_a_worker_that_has_measured_nothing_writes_no_rate(worker: Protocol, connection: redis.Redis) -> None:
    beat(worker)
    assert not connection.exists(contract.RATES_KEY)


@pytest.mark.parametrize("key", [f"{RQ}:worker:w1", contract.RATES_KEY, f"{RQ}:wip:{QUEUE}"])
def test_a_key_of_another_type_keeps_no_other_lease_from_being_renewed(
    producer: Producer, worker: Protocol, connection: redis.Redis, key: str
) -> None:
    submit(producer, "a")
    lease = worker.take(64).jobs[0].lease
    submit(producer, "low", priority="low")
    other = worker.take(64).jobs[0].lease
    end_leases(connection, lease, other)
    with damaged(connection, key):
        _, lost = beat(worker, lease, other, rate=1.0)
    assert lost == ([lease] if key == f"{RQ}:wip:{QUEUE}" else [])
    assert lease_score(connection, other) == pytest.approx(now(connection) + LEASE_SECONDS + 60, abs=5)


@pytest.mark.parametrize("key", ["{rq}:job:{job}", "{rq}:executions:{job}", "{rq}:execution:{member}"])
def test_a_damaged_job_does_not_keep_the_other_leases_from_being_renewed(
    producer: Producer, worker: Protocol, connection: redis.Redis, key: str
) -> None:
    submit(producer, *"abc", chunk=1)
    leases = [job.lease for job in worker.take(64).jobs]
    end_leases(connection, *leases)
    with damaged(connection, key.format(rq=RQ, job=leases[0].job, member=member(leases[0]))):
        beat(worker, *leases)
    scores = [lease_score(connection, lease) for lease in leases[1:]]
    assert scores == pytest.approx([now(connection) + LEASE_SECONDS + 60] * 2, abs=5)
