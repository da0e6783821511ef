"""retry.lua: an image leaves its job for one of its own, which is due later; so many times, and in its own time."""

from __future__ import annotations

import json

import pytest
import redis
from rq.job import Job
from rq.serializers import JSONSerializer

from imagequeue import Image, Producer, contract
from imagequeue.contract import Request, encode_job
from imagequeue_worker.jobs import TakenJob
from imagequeue_worker.protocol import Protocol, Retry
from queue_state import (
    COLLECTION,
    QUEUE,
    RQ,
    answer,
    check_invariants,
    damaged,
    end_leases,
    everything,
    field,
    ids_of,
    job_of,
    pending,
    ref_of,
    results,
    submit,
)

ERROR = b'{"code":"fetch_timeout","message":"too slow"}'


@pytest.fixture
def job(producer: Producer, worker: Protocol) -> TakenJob:
    """A job of a and b that `worker` holds."""
    submit(producer, "a", "b")
    return worker.take(64).jobs[0]


def again(id_: str, *, pause: float = 0.0, job: str = "") -> Retry:
    data = encode_job(Request(images=(Image(id_, ref_of(id_)),)))
    return Retry(id_, job or contract.new_job_id(), pause, data, ERROR)


def retry(worker: Protocol, job: TakenJob, *retries: Retry, retries_max: int = 3) -> list[bool]:
    return worker.retry(job.lease, COLLECTION, retries, retries_max=retries_max, pause_max_seconds=300.0)


def due_in(connection: redis.Redis, id_: str) -> float:
    """Seconds until an image's job is due."""
    due = connection.zscore(f"{RQ}:scheduled:{QUEUE}", job_of(connection, id_))
    seconds, microseconds = connection.time()
    return due - seconds - microseconds / 1e6


def test_the_image_belongs_to_a_job_of_its_own(job: TakenJob, worker: Protocol, connection: redis.Redis) -> None:
    assert retry(worker, job, again("a", job="iq-new")) == [True]
    assert job_of(connection, "a") == "iq-new"
    assert job_of(connection, "b") == job.lease.job


def test_it_is_neither_published_nor_forgotten(job: TakenJob, worker: Protocol, connection: redis.Redis) -> None:
    retry(worker, job, again("a"))
    assert (pending(connection), results(connection)) == ({"a", "b"}, {})
    check_invariants(connection)


def test_the_old_job_can_no_longer_publish_it(job: TakenJob, worker: Protocol, connection: redis.Redis) -> None:
    retry(worker, job, again("a"))
    worker.finish([answer(job)])
    assert (pending(connection), set(results(connection))) == ({"a"}, {"b"})


def test_when_it_is_due_it_is_taken_and_finished(job: TakenJob, worker: Protocol, connection: redis.Redis) -> None:
    retry(worker, job, again("a"))
    worker.finish([answer(job)])
    (second,) = worker.take(64).jobs
    assert second.ids == ("a",)
    assert [image.ref for image in second.request().images] == [ref_of("a")]
    worker.finish([answer(second)])
    assert set(results(connection)) == {"a", "b"}


def test_it_is_not_taken_before(job: TakenJob, worker: Protocol) -> None:
    retry(worker, job, again("a", pause=60))
    taken = worker.take(64)
    assert taken.jobs == []
    assert taken.next_due_ms is not None


def test_pauses_double_up_to_the_longest(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    pauses = []
    for _ in range(12):
        (job,) = worker.take(64).jobs
        retry(worker, job, again("a", pause=1.0), retries_max=99)
        pauses.append(round(due_in(connection, "a")))
        worker.finish([answer(job)])
        connection.zadd(f"{RQ}:scheduled:{QUEUE}", {job_of(connection, "a"): 1.0})
    assert pauses[:4] == [pytest.approx(pause, abs=1) for pause in (1, 2, 4, 8)]
    assert max(pauses) <= 300


def test_attempts_losses_and_the_last_error_are_kept(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    end_leases(connection, *(job.lease for job in worker.take(64).jobs))
    worker.reclaim(losses_max=10)
    (job,) = worker.take(64).jobs
    retry(worker, job, again("a"))
    new = job_of(connection, "a")
    assert json.loads(field(connection, new, "last_error") or "")["code"] == "fetch_timeout"
    assert field(connection, new, "retries") == "1"
    worker.finish([answer(job)])
    (second,) = worker.take(64).jobs
    assert (second.attempt, second.losses, second.submitted_at) == (3, 1, job.submitted_at)


def test_after_its_tries_the_error_stands(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a")
    answers = []
    for _ in range(4):
        (job,) = worker.take(64).jobs
        answers += retry(worker, job, again("a"), retries_max=3)
        worker.finish([answer(job)])
    assert answers == [True, True, True, False]


def test_an_image_that_would_expire_before_is_not_tried_again(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a", expires_in=30)
    (job,) = worker.take(64).jobs
    assert retry(worker, job, again("a", pause=60)) == [False]
    assert retry(worker, job, again("a", pause=1)) == [True]


def test_a_later_try_expires_when_the_first_would_have(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a", expires_in=300)
    (job,) = worker.take(64).jobs
    retry(worker, job, again("a"))
    expires_at = field(connection, job_of(connection, "a"), "expires_at")
    assert expires_at == field(connection, job.lease.job, "expires_at") is not None


def test_a_call_that_is_sent_again_gets_the_same_answer(
    job: TakenJob, worker: Protocol, connection: redis.Redis
) -> None:
    one = again("a", pause=60)
    assert retry(worker, job, one) == [True]
    before = everything(connection)
    assert (retry(worker, job, one), everything(connection)) == ([True], before)


def test_an_image_of_another_owner_is_left_alone(job: TakenJob, worker: Protocol, connection: redis.Redis) -> None:
    connection.hset(contract.pending_key(COLLECTION), "a", f"{QUEUE}|iq-other")
    assert retry(worker, job, again("a"), again("b")) == [False, True]
    assert job_of(connection, "a") == "iq-other"


def test_without_the_lease_nothing_moves(
    job: TakenJob, worker: Protocol, other: Protocol, connection: redis.Redis
) -> None:
    end_leases(connection, job.lease)
    other.reclaim(losses_max=10)
    before = everything(connection)
    assert (retry(worker, job, again("a")), everything(connection)) == ([False], before)


def test_rq_reads_the_new_job(job: TakenJob, worker: Protocol, connection: redis.Redis) -> None:
    retry(worker, job, again("a", pause=60))
    fetched = Job.fetch(job_of(connection, "a"), connection=connection, serializer=JSONSerializer)
    assert (fetched.get_status(), fetched.origin, fetched.func_name) == ("scheduled", QUEUE, contract.TASK)
    assert fetched.description == "classify 1 image of default, retry 1"


def test_a_paused_queue_keeps_what_is_due(job: TakenJob, worker: Protocol, connection: redis.Redis) -> None:
    retry(worker, job, again("a"))
    connection.sadd(contract.PAUSED_KEY, QUEUE)
    assert ids_of(worker.take(64).jobs) == []


@pytest.mark.parametrize("key", [contract.pending_key(COLLECTION), f"{RQ}:scheduled:{QUEUE}", f"{RQ}:wip:{QUEUE}"])
def test_a_key_of_another_type_leaves_all_as_it_was(
    job: TakenJob, worker: Protocol, connection: redis.Redis, key: str
) -> None:
    with damaged(connection, key):
        before = everything(connection)
        with pytest.raises(redis.ResponseError):
            retry(worker, job, again("a"))
        assert everything(connection) == before
