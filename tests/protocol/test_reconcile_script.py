"""reconcile.lua and recount.lua: whatever has become of a job, its pending images get their way or their end."""

from __future__ import annotations

import pytest
import redis
from rq.job import Job
from rq.serializers import JSONSerializer

from imagequeue import Producer, contract
from imagequeue.contract import job_key, pending_key, queue_key
from imagequeue_worker.protocol import Mended, Protocol
from queue_state import (
    COLLECTION,
    QUEUE,
    RQ,
    check_invariants,
    code_of,
    damaged,
    drain,
    everything,
    field,
    ids_of,
    job_of,
    pending,
    queued,
    ref_of,
    results,
    submit,
)


def reconcile(worker: Protocol) -> list[Mended]:
    """A whole round."""
    return [mended for collection, ids in worker.pending() for mended in worker.reconcile(collection, ids)]


def whats(mended: list[Mended]) -> list[tuple[str, int]]:
    return [(one.what, one.images) for one in mended]


# --- what is well is left alone -------------------------------------------------------------------------------


def test_queued_leased_and_scheduled_jobs_are_left_alone(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, *"abc", chunk=1)
    worker.take(1)
    scheduled = job_of(connection, "b")
    connection.lrem(queue_key(QUEUE), 0, scheduled)
    connection.hset(job_key(scheduled), "status", "scheduled")
    connection.zadd(f"{RQ}:scheduled:{QUEUE}", {scheduled: 9e9})
    before = everything(connection)
    assert (reconcile(worker), everything(connection)) == ([], before)


def test_a_deferred_job_is_rqs_to_move_on(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    job = job_of(connection, "a")
    connection.delete(queue_key(QUEUE))
    connection.hset(job_key(job), "status", "deferred")
    connection.zadd(f"{RQ}:deferred:{QUEUE}", {job: 1})
    assert reconcile(worker) == []


def test_ids_that_are_not_pending_any_more_are_left_alone(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    drain(worker)
    before = everything(connection)
    assert (worker.reconcile(COLLECTION, ["a", "never"]), everything(connection)) == ([], before)


# --- withdrawn ------------------------------------------------------------------------------------------------


def test_a_job_that_is_gone_was_withdrawn(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a", "b")
    connection.delete(job_key(job_of(connection, "a")), queue_key(QUEUE))
    assert whats(reconcile(worker)) == [("cancelled", 2)]
    assert {code_of(connection, id_) for id_ in "ab"} == {"cancelled"}


def test_a_job_that_rq_cancelled_was_withdrawn(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    Job.fetch(job_of(connection, "a"), connection=connection, serializer=JSONSerializer).cancel()
    assert whats(reconcile(worker)) == [("cancelled", 1)]
    assert results(connection)["a"].ref == ref_of("a")
    assert not connection.hexists(contract.dead_key(COLLECTION), "a")


# --- ended without a result -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["failed", "stopped", "finished", "deferred", "of no kind", ""])
def test_a_job_that_ended_otherwise_is_lost(
    producer: Producer, worker: Protocol, connection: redis.Redis, status: str
) -> None:
    submit(producer, "a")
    connection.hset(job_key(job_of(connection, "a")), "status", status)
    assert whats(reconcile(worker)) == [("worker_lost", 1)]
    dead = contract.decode_request(connection.hget(contract.dead_key(COLLECTION), "a"))
    assert [image.ref for image in dead.images] == [ref_of("a")]


def test_a_job_without_a_status_is_lost(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    connection.hdel(job_key(job_of(connection, "a")), "status")
    assert whats(reconcile(worker)) == [("worker_lost", 1)]


def test_a_job_key_of_another_type_is_lost(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    job = job_of(connection, "a")
    connection.delete(job_key(job))
    connection.set(job_key(job), "of another type")
    assert whats(reconcile(worker)) == [("worker_lost", 1)]
    assert code_of(connection, "a") == "worker_lost"


@pytest.mark.parametrize("owner", ["nonsense", "|", f"{QUEUE}|", f"{QUEUE}|../../x", "|iq-x", ""])
def test_an_owner_that_is_none_is_no_owner(
    producer: Producer, worker: Protocol, connection: redis.Redis, owner: str
) -> None:
    submit(producer, "a")
    connection.hset(pending_key(COLLECTION), "a", owner)
    connection.delete(queue_key(QUEUE))
    reconcile(worker)
    worker.recount()
    assert code_of(connection, "a") in {"worker_lost", "cancelled"}


# --- queued again ---------------------------------------------------------------------------------------------


def test_a_started_job_without_lease_is_queued_again_as_a_suspect(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    worker.take(64)
    connection.delete(f"{RQ}:wip:{QUEUE}")
    assert whats(reconcile(worker)) == [("requeued", 1)]
    (job,) = worker.take(64).jobs
    assert (job.ids, job.losses) == (("a",), 1)
    drain(worker)


def test_a_scheduled_job_without_entry_is_queued_again(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    connection.delete(queue_key(QUEUE))
    connection.hset(job_key(job_of(connection, "a")), "status", "scheduled")
    assert whats(reconcile(worker)) == [("requeued", 1)]
    assert ids_of(worker.take(64).jobs) == [["a"]]


def test_a_queued_job_whose_list_is_empty_is_pushed_again(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    connection.delete(queue_key(QUEUE))
    assert whats(reconcile(worker)) == [("requeued", 1)]
    assert ids_of(worker.take(64).jobs) == [["a"]]


def test_a_queued_job_that_its_list_has_moved_past_is_pushed_again_once(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, *"abc", chunk=1)
    lost = job_of(connection, "a")
    connection.lrem(queue_key(QUEUE), 0, lost)
    connection.hset(job_key(lost), "queued_at", connection.time()[0] - 120)
    assert whats(reconcile(worker)) == [("requeued", 1)]
    assert queued(connection)[-1] == lost
    assert reconcile(worker) == []


def test_a_backlog_behind_reclaimed_jobs_is_not_pushed_again(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, *"abcdef", chunk=1)
    for id_ in "bcdef":
        connection.hset(job_key(job_of(connection, id_)), "queued_at", connection.time()[0] - 3600)
    assert reconcile(worker) == []


def test_a_double_that_was_pushed_is_skipped_by_take(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    connection.rpush(queue_key(QUEUE), job_of(connection, "a"))
    assert ids_of(worker.take(64).jobs) == [["a"]]
    assert worker.take(64).jobs == []


def test_a_whole_list_that_was_lost_comes_back_round_by_round(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, *(str(number) for number in range(3000)), chunk=64)
    connection.delete(queue_key(QUEUE))
    for _ in range(10):
        reconcile(worker)
        drain(worker)
    assert pending(connection) == set()


def test_a_damaged_collection_does_not_keep_the_others_from_being_seen(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a", collection="a")
    submit(producer, "b", collection="b")
    connection.delete(queue_key(QUEUE))
    with damaged(connection, pending_key("a")):
        assert whats(reconcile(worker)) == [("requeued", 1)]
    check_invariants(connection)


@pytest.mark.parametrize("key", ["queue", "wip", "scheduled", "deferred"])
def test_a_damaged_queue_does_not_keep_the_images_of_others_from_being_seen(
    producer: Producer, worker: Protocol, connection: redis.Redis, key: str
) -> None:
    submit(producer, "a")
    submit(producer, "low", priority="low")
    connection.delete(queue_key(QUEUE), queue_key("classify-low"))
    with damaged(connection, f"rq:{key}:{QUEUE}"):
        assert [(one.queue, one.what) for one in reconcile(worker)] == [("classify-low", "requeued")]
    assert [(one.queue, one.what) for one in reconcile(worker)] == [(QUEUE, "requeued")]
    check_invariants(connection)


# --- the counts of what waits ---------------------------------------------------------------------------------


def test_counts_that_are_right_are_left_alone(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a", "b")
    before = everything(connection)
    assert (worker.recount(), everything(connection)) == (0, before)


@pytest.mark.parametrize("wrong", [{QUEUE: 7}, {QUEUE: -1}, {"classify-low": 3}, {QUEUE: "many"}, {"": -1}], ids=str)
def test_counts_that_are_wrong_are_set_right(
    producer: Producer, worker: Protocol, connection: redis.Redis, wrong: dict[str, str]
) -> None:
    submit(producer, "a", "b")
    connection.hset(contract.WAITING_KEY, mapping=wrong)
    assert worker.recount() > 0
    check_invariants(connection)
    assert worker.recount() == 0


@pytest.mark.parametrize("value", ["a string", None])
def test_counts_of_another_type_are_made_anew(
    producer: Producer, worker: Protocol, connection: redis.Redis, value: str | None
) -> None:
    submit(producer, "a", "b")
    connection.delete(contract.WAITING_KEY)
    if value:
        connection.set(contract.WAITING_KEY, value)
    worker.recount()
    assert connection.hgetall(contract.WAITING_KEY) == {QUEUE.encode(): b"2"}


def test_only_one_worker_has_its_turn(worker: Protocol, other: Protocol) -> None:
    assert [worker.claim("reconcile", 10), other.claim("reconcile", 10), worker.claim("sweep", 10)] == [
        True, False, True,
    ]  # fmt: skip


def test_a_field_of_the_job_is_not_needed(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    job = job_of(connection, "a")
    connection.hdel(job_key(job), "queued_at", "data", "attempts", "submitted_at", "losses")
    connection.delete(queue_key(QUEUE))
    assert whats(reconcile(worker)) == [("requeued", 1)]
    assert field(connection, job, "queued_at") is not None
