"""take.lua: which jobs a worker gets, in which order, and what becomes of those that it cannot use."""

from __future__ import annotations

import pytest
import redis

from imagequeue import Producer, contract
from imagequeue_worker.protocol import Protocol
from queue_state import (
    COLLECTION,
    LEASE_SECONDS,
    QUEUE,
    answer,
    end_leases,
    field,
    ids_of,
    job_of,
    lease_score,
    put_in_front,
    queued,
    ref_of,
    rows,
    submit,
)

# --- order and size -----------------------------------------------------------------------------------------


def test_the_most_urgent_queue_with_work_comes_first(producer: Producer, worker: Protocol) -> None:
    submit(producer, "low", priority="low")
    submit(producer, "normal")
    submit(producer, "high", priority="high")
    taken = [worker.take(64).jobs[0].lease.queue for _ in range(3)]
    assert taken == ["classify-high", "classify", "classify-low"]


def test_one_take_has_jobs_of_one_queue(producer: Producer, worker: Protocol) -> None:
    submit(producer, "high", priority="high")
    submit(producer, "normal")
    assert ids_of(worker.take(64).jobs) == [["high"]]


def test_jobs_come_in_the_order_of_their_submission(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a", "b", "c", chunk=1)
    assert ids_of(worker.take(64).jobs) == [["a"], ["b"], ["c"]]


def test_images_of_a_job_come_in_the_order_of_the_request(producer: Producer, worker: Protocol) -> None:
    submit(producer, "c", "a", "b")
    assert ids_of(worker.take(64).jobs) == [["c", "a", "b"]]


def test_one_job_is_taken_however_large_it_is(producer: Producer, worker: Protocol) -> None:
    submit(producer, *"abcdefgh")
    assert ids_of(worker.take(1).jobs) == [list("abcdefgh")]


@pytest.mark.parametrize(("wanted", "jobs"), [(3, 1), (4, 2), (5, 2), (6, 3), (64, 3)])
def test_a_take_does_not_exceed_the_images_wanted(producer: Producer, worker: Protocol, wanted: int, jobs: int) -> None:
    submit(producer, *"abcdef", chunk=2)
    assert len(worker.take(wanted).jobs) == jobs


def test_later_jobs_stay_in_their_order(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, *"abcd", chunk=1)
    before = queued(connection)
    worker.take(2)
    assert queued(connection) == before[2:]


def test_a_job_that_does_not_fit_is_not_overtaken(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a", chunk=1)
    submit(producer, "b", "c", "d")
    submit(producer, "e")
    assert ids_of(worker.take(3).jobs) == [["a"]]


def test_two_workers_never_get_the_same_job(producer: Producer, worker: Protocol, other: Protocol) -> None:
    submit(producer, *"abcd", chunk=1)
    assert ids_of(worker.take(2).jobs) + ids_of(other.take(64).jobs) == [["a"], ["b"], ["c"], ["d"]]


def test_an_empty_queue_gives_nothing(producer: Producer, worker: Protocol) -> None:
    assert worker.take(64).jobs == []


# --- what is told of a job ----------------------------------------------------------------------------------


def test_a_job_carries_its_request(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a", top_k=3, model="m")
    request = worker.take(64).jobs[0].request()
    assert (request.images[0].ref, request.top_k, request.model) == (ref_of("a"), 3, "m")


def test_ids_come_as_they_were_submitted(producer: Producer, worker: Protocol) -> None:
    ids = ["with space", "ünïcode-📷", "a|b", "x" * 512]
    submit(producer, *ids)
    assert ids_of(worker.take(64).jobs) == [ids]


def test_times_are_those_of_redis(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    job = worker.take(64).jobs[0]
    assert f"{job.submitted_at:.6f}" == field(connection, job.lease.job, "submitted_at")


def test_a_first_attempt_is_the_first(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a")
    assert worker.take(64).jobs[0].attempt == 1


def test_attempts_are_counted(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    for _ in range(2):
        end_leases(connection, worker.take(64).jobs[0].lease)
        worker.reclaim(losses_max=10)
    job = worker.take(64).jobs[0]
    assert (job.attempt, job.losses) == (3, 2)


def test_every_take_names_its_executions_anew(producer: Producer, worker: Protocol) -> None:
    submit(producer, *"abcd", chunk=1)
    jobs = worker.take(2).jobs + worker.take(2).jobs
    assert len({job.lease.execution for job in jobs}) == 4


def test_a_lease_lasts_for_the_lease_and_rqs_grace(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    job = worker.take(64).jobs[0]
    assert lease_score(connection, job.lease) == pytest.approx(job.taken_at + LEASE_SECONDS + 60, abs=0.001)


def test_redis_tells_which_leases_a_worker_holds(producer: Producer, worker: Protocol, other: Protocol) -> None:
    submit(producer, *"abc", chunk=1)
    leases = [job.lease for job in worker.take(2).jobs]
    other.take(1)
    assert sorted(worker.held_in_redis(), key=str) == sorted(leases, key=str)


@pytest.mark.parametrize(
    "name", ["success_callback_name", "failure_callback_name", "stopped_callback_name", "webhooks"]
)
def test_a_job_with_a_callback_or_webhook_is_forbidden(
    producer: Producer, worker: Protocol, connection: redis.Redis, name: str
) -> None:
    submit(producer, "a")
    connection.hset(contract.job_key(job_of(connection, "a")), name, "os.system")
    assert worker.take(64).jobs[0].forbidden


def test_a_job_whose_callbacks_are_empty_is_not_forbidden(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    connection.hset(contract.job_key(job_of(connection, "a")), "success_callback_name", "")
    assert not worker.take(64).jobs[0].forbidden


# --- which images -------------------------------------------------------------------------------------------


def test_ids_that_are_settled_are_not_returned(producer: Producer, worker: Protocol, other: Protocol) -> None:
    submit(producer, "a", "b")
    job = worker.take(64).jobs[0]
    worker.settle(QUEUE, job.lease.job, COLLECTION, rows(job)[:4])
    worker.put_back([job.lease])
    assert ids_of(other.take(64).jobs) == [["b"]]


def test_ids_that_were_known_belong_to_the_earlier_job(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a", "b")
    submit(producer, "b", "c")
    assert ids_of(worker.take(64).jobs) == [["a", "b"], ["c"]]


def test_a_job_that_owns_nothing_any_more_is_there_to_be_finished(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a")
    job = worker.take(64).jobs[0]
    worker.settle(QUEUE, job.lease.job, COLLECTION, rows(job))
    worker.put_back([job.lease])
    again = worker.take(64).jobs
    assert [(job.ids, worker.finish([answer(job)])[0].code) for job in again] == [((), "1")]


def test_a_foreign_job_comes_without_images(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    connection.hset(contract.job_key("foreign"), mapping={"status": "queued", "data": '["os.system"]'})
    connection.rpush(contract.queue_key(QUEUE), "foreign")
    (job,) = worker.take(64).jobs
    assert (job.lease.job, job.ids, job.collection) == ("foreign", (), "")


# --- what is skipped ----------------------------------------------------------------------------------------


def test_a_doubled_id_is_taken_once(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    put_in_front(connection, job_of(connection, "a"))
    assert ids_of(worker.take(64).jobs) == [["a"]]


def test_a_doubled_id_is_removed_from_the_list(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    put_in_front(connection, job_of(connection, "a"))
    worker.take(64)
    assert queued(connection) == []


def test_a_double_that_is_met_later_is_removed(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    connection.rpush(contract.queue_key(QUEUE), job_of(connection, "a"))
    worker.take(1)
    assert (worker.take(64).jobs, queued(connection)) == ([], [])


def test_an_id_without_a_hash_is_skipped_and_removed(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    put_in_front(connection, "gone")
    assert (ids_of(worker.take(64).jobs), queued(connection)) == ([["a"]], [])


def test_an_id_with_a_key_of_another_type_is_skipped_and_removed(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    connection.set(contract.job_key("odd"), "no hash")
    put_in_front(connection, "odd")
    assert (ids_of(worker.take(64).jobs), queued(connection)) == ([["a"]], [])


@pytest.mark.parametrize("status", ["started", "finished", "failed", "canceled", "scheduled", "deferred"])
def test_a_job_that_is_not_queued_is_skipped_and_removed(
    producer: Producer, worker: Protocol, connection: redis.Redis, status: str
) -> None:
    connection.hset(contract.job_key("elsewhere"), "status", status)
    put_in_front(connection, "elsewhere")
    assert (worker.take(64).jobs, queued(connection)) == ([], [])


def test_a_skipped_id_is_not_touched(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    connection.hset(contract.job_key("done"), "status", "finished")
    put_in_front(connection, "done")
    worker.take(64)
    assert connection.hgetall(contract.job_key("done")) == {b"status": b"finished"}


def test_work_behind_thousands_of_stale_ids_is_found(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    connection.rpush(contract.queue_key(QUEUE), *(f"stale-{n}" for n in range(5000)))
    submit(producer, "a")
    assert ids_of(worker.take(1).jobs) == [["a"]]


def test_an_urgent_queue_of_stale_ids_does_not_hide_the_next(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    connection.rpush(contract.queue_key("classify-high"), "stale")
    submit(producer, "a")
    assert (ids_of(worker.take(1).jobs), queued(connection, "classify-high")) == ([["a"]], [])
