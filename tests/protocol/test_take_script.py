"""take.lua: which jobs a worker gets, in which order, and what becomes of those that it cannot use."""

from __future__ import annotations

import pytest
import redis
from rq.suspension import resume, suspend

from imagequeue import Producer, contract
from imagequeue_worker.protocol import Protocol
from queue_state import (
    COLLECTION,
    LEASE_SECONDS,
    QUEUE,
    RQ,
    answer,
    check_invariants,
    code_of,
    damaged,
    end_leases,
    everything,
    field,
    ids_of,
    job_of,
    lease_score,
    queued,
    ref_of,
    results,
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


def put_in_front(connection: redis.Redis, job: str) -> None:
    connection.lpush(contract.queue_key(QUEUE), job)


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
        f"{RQ}:wip:{QUEUE}",
        f"{RQ}:worker:w1:executions",
        contract.pending_key(COLLECTION),
        contract.results_key(COLLECTION),
        contract.completed_key(COLLECTION),
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
