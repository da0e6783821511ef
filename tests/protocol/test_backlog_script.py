"""backlog.lua: what the queues still have to do, and how fast the fleet does it."""

from __future__ import annotations

import pytest
import redis

from imagequeue import Producer, contract
from imagequeue_worker.backlog import QueueBacklog, read_backlog
from imagequeue_worker.protocol import Protocol
from queue_state import QUEUE, RQ, answer, damaged, everything, field, job_of, submit


def backlog(connection: redis.Redis, queue: str = QUEUE) -> QueueBacklog:
    return read_backlog(connection, [queue]).queues[0]


def test_an_empty_queue_has_nothing_to_do(connection: redis.Redis) -> None:
    assert backlog(connection) == QueueBacklog(QUEUE, 0, 0, None)


def test_images_that_wait_are_counted(producer: Producer, connection: redis.Redis) -> None:
    submit(producer, *"abcde", chunk=2)
    assert backlog(connection).images_waiting == 5


def test_leased_images_are_counted(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, *"abcde", chunk=2)
    worker.take(4)
    found = backlog(connection)
    assert (found.images_waiting, found.images_leased, found.images) == (5, 4, 1)


def test_finished_images_are_not_counted(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, *"abc", chunk=1)
    worker.finish([answer(job) for job in worker.take(2).jobs])
    found = backlog(connection)
    assert (found.images_waiting, found.images_leased) == (1, 0)


def test_queues_come_in_the_order_asked_for(producer: Producer, connection: redis.Redis) -> None:
    submit(producer, "a", priority="low")
    submit(producer, "b", "c", priority="high")
    found = read_backlog(connection, ["classify-low", "classify-high"]).queues
    assert [(one.queue, one.images_waiting) for one in found] == [("classify-low", 1), ("classify-high", 2)]


def test_the_oldest_job_that_waits_is_told(producer: Producer, connection: redis.Redis) -> None:
    submit(producer, *"abc", chunk=1)
    oldest = backlog(connection).oldest_submitted_at
    assert f"{oldest:.6f}" == field(connection, job_of(connection, "a"), "submitted_at")


def test_a_leased_job_may_be_the_oldest(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a", "b", chunk=1)
    worker.take(1)
    oldest = backlog(connection).oldest_submitted_at
    assert f"{oldest:.6f}" == field(connection, job_of(connection, "a"), "submitted_at")


def test_reading_changes_nothing(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a", "b", chunk=1)
    worker.take(1)
    before = everything(connection)
    backlog(connection)
    assert everything(connection) == before


def test_foreign_executions_and_damaged_jobs_are_no_obstacle(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    connection.set(contract.job_key("odd"), "no hash")
    connection.lpush(contract.queue_key(QUEUE), "odd")
    connection.zadd(f"{RQ}:wip:{QUEUE}", {"no-execution": 1.0, "gone:iq1": 1.0})
    assert backlog(connection).images_waiting == 1


@pytest.mark.parametrize("key", [contract.queue_key(QUEUE), f"{RQ}:wip:{QUEUE}", contract.RATES_KEY])
def test_a_damaged_key_does_not_hide_the_rest(
    producer: Producer, worker: Protocol, connection: redis.Redis, key: str
) -> None:
    submit(producer, "a")
    with damaged(connection, key):
        assert backlog(connection).images_waiting == 1


# --- rates --------------------------------------------------------------------------------------------------


def note_rate(connection: redis.Redis, worker: str, rate: str, age_seconds: float) -> None:
    connection.hset(contract.RATES_KEY, worker, f"{rate} {connection.time()[0] - age_seconds}")


@pytest.mark.parametrize(
    ("noted", "rate"),
    [
        ({}, 0.0),
        ({"w1": ("10", 1)}, 10.0),
        ({"w1": ("10", 1), "w2": ("20.5", 2)}, 30.5),
        ({"w1": ("10", 1), "gone": ("500", 3600)}, 10.0),
        ({"older": ("10", 7200), "newer": ("20", 3600)}, 20.0),
        ({"w1": ("10", 1), "odd": ("fast", 1)}, 10.0),
    ],
    ids=["never-measured", "one", "fleet", "gone", "none-alive", "damaged"],
)
def test_the_fleets_rate(connection: redis.Redis, noted: dict[str, tuple[str, float]], rate: float) -> None:
    for worker, (value, age) in noted.items():
        note_rate(connection, worker, value, age)
    assert read_backlog(connection, [QUEUE]).images_per_second == rate


def test_time_is_that_of_redis(connection: redis.Redis) -> None:
    assert read_backlog(connection, [QUEUE]).now == pytest.approx(connection.time()[0], abs=5)
