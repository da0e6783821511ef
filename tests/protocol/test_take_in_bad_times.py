"""take.lua: paused queues, scheduled jobs, images whose time is up, and damaged keys."""

from __future__ import annotations

import pytest
import redis
from rq.suspension import resume, suspend

from imagequeue import Producer, contract
from imagequeue_worker.protocol import Protocol
from queue_state import (
    COLLECTION,
    QUEUE,
    RQ,
    answer,
    check_invariants,
    code_of,
    damaged,
    everything,
    field,
    ids_of,
    job_of,
    put_in_front,
    queued,
    results,
    rows,
    submit,
)

# --- paused and suspended -----------------------------------------------------------------------------------


def test_a_paused_queue_is_left_alone(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    connection.sadd(contract.PAUSED_KEY, QUEUE)
    before = everything(connection)
    assert (worker.take(64).jobs, everything(connection)) == ([], before)


def test_a_paused_queue_does_not_hold_the_others(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "high", priority="high")
    submit(producer, "normal")
    connection.sadd(contract.PAUSED_KEY, "classify-high")
    assert ids_of(worker.take(64).jobs) == [["normal"]]


def test_rqs_suspend_holds_all(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    suspend(connection)
    before = everything(connection)
    assert (worker.take(64).jobs, everything(connection)) == ([], before)


def test_rqs_resume_lets_go(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    suspend(connection)
    resume(connection)
    assert ids_of(worker.take(64).jobs) == [["a"]]


def test_empty_and_open_queues_are_there_to_be_watched(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    connection.sadd(contract.PAUSED_KEY, "classify-low")
    assert worker.take(64).watch == ["classify-high", "classify"]


def test_a_queue_that_is_emptied_is_there_to_be_watched(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a", "b", chunk=1)
    assert worker.take(1).watch == ["classify-high"]  # b waits
    assert worker.take(1).watch == list(contract.QUEUES)


def test_behind_a_queue_that_is_emptied_work_is_not_watched(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a")
    submit(producer, "low", priority="low")
    taken = worker.take(1)
    assert (ids_of(taken.jobs), taken.watch) == ([["a"]], ["classify-high", "classify"])


def test_what_is_due_behind_a_queue_that_is_emptied_is_told(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    now = connection.time()[0]
    connection.zadd("rq:scheduled:classify-low", {"later": now + 60})
    taken = worker.take(1)
    assert taken.next_due_ms is not None
    assert 0 < taken.next_due_ms <= 60_000


def test_nothing_is_watched_while_suspended(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    suspend(connection)
    assert worker.take(64).watch == []


# --- scheduled jobs -----------------------------------------------------------------------------------------


def schedule(connection: redis.Redis, id_: str, at: float) -> str:
    """Move a queued job into RQ's schedule."""
    job = job_of(connection, id_)
    connection.lrem(contract.queue_key(QUEUE), 0, job)
    connection.hset(contract.job_key(job), "status", "scheduled")
    connection.zadd(f"{RQ}:scheduled:{QUEUE}", {job: at})
    return job


def test_a_scheduled_job_that_is_due_is_taken(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    schedule(connection, "a", at=1.0)
    assert ids_of(worker.take(64).jobs) == [["a"]]


def test_a_job_waits_from_when_it_was_due(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    job = schedule(connection, "a", at=1.0)
    connection.hset(contract.job_key(job), "queued_at", "1.0")
    worker.take(64)
    assert float(field(connection, job, "queued_at") or 0) == pytest.approx(connection.time()[0], abs=5)


def test_a_due_entry_leaves_the_schedule(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    schedule(connection, "a", at=1.0)
    worker.take(64)
    assert connection.zcard(f"{RQ}:scheduled:{QUEUE}") == 0


def test_a_scheduled_job_that_is_not_due_stays(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    job = schedule(connection, "a", at=connection.time()[0] + 3600)
    worker.take(64)
    assert field(connection, job, "status") == "scheduled"


def test_the_time_until_the_next_scheduled_job_is_told(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    schedule(connection, "a", at=connection.time()[0] + 3600)
    due = worker.take(64).next_due_ms
    assert due is not None
    assert 3_500_000 < due <= 3_600_000


def test_nothing_is_due_when_nothing_is_scheduled(producer: Producer, worker: Protocol) -> None:
    assert worker.take(64).next_due_ms is None


def test_a_due_entry_whose_job_is_elsewhere_is_dropped(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    connection.zadd(f"{RQ}:scheduled:{QUEUE}", {"gone": 1.0})
    worker.take(64)
    assert (connection.zcard(f"{RQ}:scheduled:{QUEUE}"), queued(connection)) == (0, [])


# --- expiry -------------------------------------------------------------------------------------------------


def expire(connection: redis.Redis, id_: str) -> None:
    """The time of an image's job is up."""
    connection.hset(contract.job_key(job_of(connection, id_)), "expires_at", "1.0")


def test_expired_images_end_as_expired(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a", "b")
    expire(connection, "a")
    worker.take(64)
    assert [code_of(connection, id_) for id_ in "ab"] == ["expired", "expired"]


def test_an_expired_result_has_the_reference(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    producer.submit('/päth/"quoted"\\back.jpg', id="a")
    expire(connection, "a")
    worker.take(64)
    assert results(connection)["a"].ref == '/päth/"quoted"\\back.jpg'


def test_expired_images_are_no_work(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    expire(connection, "a")
    assert ids_of(worker.take(64).jobs) == [[]]


def test_an_expired_job_can_be_finished(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    expire(connection, "a")
    (job,) = worker.take(64).jobs
    assert worker.finish([answer(job)])[0].code == "1"


def test_only_images_that_a_job_still_owns_expire_with_it(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a", "b")
    job = worker.take(64).jobs[0]
    worker.settle(QUEUE, job.lease.job, COLLECTION, rows(job)[:4])
    expire(connection, "b")
    worker.put_back([job.lease])
    worker.take(64)
    assert [code_of(connection, id_) for id_ in "ab"] == [None, "expired"]


def test_an_expired_image_is_no_dead_letter(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    expire(connection, "a")
    worker.take(64)
    assert not connection.exists(contract.dead_key(COLLECTION))


def test_images_whose_time_is_not_up_are_work(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a", expires_in=3600)
    assert ids_of(worker.take(64).jobs) == [["a"]]


def test_an_id_that_a_damaged_hash_lists_twice_expires_once(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    connection.hset(contract.job_key(job_of(connection, "a")), "ids", "a\na")
    expire(connection, "a")
    worker.take(64)
    check_invariants(connection)


# --- damaged keys -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        f"{RQ}:worker:w1:executions",
        contract.WAITING_KEY,
        contract.PAUSED_KEY,
    ],
)
def test_a_key_of_another_type_leaves_every_job_in_its_list(
    producer: Producer, worker: Protocol, connection: redis.Redis, key: str
) -> None:
    submit(producer, *"abc", chunk=1)
    with damaged(connection, key):
        before = everything(connection)
        with pytest.raises(redis.ResponseError):
            worker.take(64)
        assert everything(connection) == before


@pytest.mark.parametrize("key", [f"{RQ}:wip:{QUEUE}", contract.queue_key(QUEUE)])
def test_a_damaged_queue_is_passed_over_and_named_and_stops_no_other(
    producer: Producer, worker: Protocol, connection: redis.Redis, key: str
) -> None:
    submit(producer, "a")
    submit(producer, "low", priority="low")
    with damaged(connection, key):
        taken = worker.take(64)
        assert (ids_of(taken.jobs), taken.damaged) == ([["low"]], (QUEUE,))
        assert taken.watch == ["classify-high", "classify-low"]
        worker.finish([answer(job) for job in taken.jobs])
    taken = worker.take(64)
    assert (ids_of(taken.jobs), taken.damaged) == ([["a"]], ())
    worker.finish([answer(job) for job in taken.jobs])
    check_invariants(connection)


@pytest.mark.parametrize(
    "key", [contract.pending_key(COLLECTION), contract.results_key(COLLECTION), contract.completed_key(COLLECTION)]
)
def test_a_damaged_collection_stops_its_own_jobs_only(
    producer: Producer, worker: Protocol, connection: redis.Redis, key: str
) -> None:
    submit(producer, "a")
    producer.submit("/b", id="b", collection="other")
    with damaged(connection, key):
        jobs = worker.take(64).jobs
    assert [(job.collection, job.ids) for job in jobs] == [("", ()), ("other", ("b",))]


@pytest.mark.parametrize("value", ["", "abc", "-5", "0", "nan", "inf", "1e400", "0.5"])
def test_a_damaged_image_count_does_not_keep_a_job_from_being_taken(
    producer: Producer, worker: Protocol, connection: redis.Redis, value: str
) -> None:
    submit(producer, "a")
    connection.hset(contract.job_key(job_of(connection, "a")), "images", value)
    assert ids_of(worker.take(64).jobs) == [["a"]]


@pytest.mark.parametrize("value", ["", "abc", "-5", "nan", "inf", "1.5"])
def test_a_job_with_a_damaged_attempt_count_can_be_put_back(
    producer: Producer, worker: Protocol, connection: redis.Redis, value: str
) -> None:
    submit(producer, "a")
    connection.hset(contract.job_key(job_of(connection, "a")), "attempts", value)
    worker.put_back([job.lease for job in worker.take(64).jobs])
    assert ids_of(worker.take(64).jobs) == [["a"]]


@pytest.mark.parametrize("value", ["", "abc", "nan", "inf", "-inf"])
@pytest.mark.parametrize("name", ["submitted_at", "attempts", "losses"])
def test_a_damaged_number_gives_a_readable_result(
    producer: Producer, worker: Protocol, connection: redis.Redis, name: str, value: str
) -> None:
    submit(producer, "a")
    connection.hset(contract.job_key(job_of(connection, "a")), name, value)
    worker.finish([answer(job) for job in worker.take(64).jobs])
    assert results(connection)["a"].status == "ok"


@pytest.mark.parametrize("value", ["", "abc", "nan", "inf", "-inf"])
@pytest.mark.parametrize("name", ["submitted_at", "attempts", "losses"])
def test_a_damaged_number_gives_a_readable_expired_result(
    producer: Producer, worker: Protocol, connection: redis.Redis, name: str, value: str
) -> None:
    submit(producer, "a")
    expire(connection, "a")
    connection.hset(contract.job_key(job_of(connection, "a")), name, value)
    worker.take(64)
    assert code_of(connection, "a") == "expired"


@pytest.mark.parametrize("name", ["collection", "ids"])
def test_a_field_that_is_no_text_does_not_keep_the_neighbours_from_their_worker(
    producer: Producer, worker: Protocol, connection: redis.Redis, name: str
) -> None:
    connection.hset(
        contract.job_key("odd"),
        mapping={"status": "queued", "collection": COLLECTION, "ids": "x", "data": "{}"} | {name: b"\xff"},
    )
    put_in_front(connection, "odd")
    connection.hset(contract.pending_key(COLLECTION), b"\xff", f"{QUEUE}|odd")  # the odd job owns it
    submit(producer, "a")
    try:
        assert ["a"] in ids_of(worker.take(64).jobs)
    finally:
        connection.hdel(contract.pending_key(COLLECTION), b"\xff")


def test_a_job_id_that_is_no_text_does_not_keep_the_neighbours_from_their_worker(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    connection.hset(f"{RQ}:job:".encode() + b"\xff", "status", "queued")
    connection.lpush(contract.queue_key(QUEUE), b"\xff")
    submit(producer, "a")
    assert ["a"] in ids_of(worker.take(64).jobs)


def test_a_job_with_thousands_of_ids_does_not_keep_the_neighbours_from_their_worker(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    ids = "\n".join(f"id-{n}" for n in range(9000))
    connection.hset(contract.job_key("odd"), mapping={"status": "queued", "collection": COLLECTION, "ids": ids})
    put_in_front(connection, "odd")
    submit(producer, "a")
    assert ["a"] in ids_of(worker.take(64).jobs)
