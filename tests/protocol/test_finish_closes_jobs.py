"""finish.lua: how a job ends in RQ, what is left of it, and what damage may not do."""

from __future__ import annotations

import msgspec
import pytest
import redis
from rq import Queue, Worker
from rq.job import Job
from rq.serializers import JSONSerializer

from imagequeue import Producer, contract
from imagequeue.connection import connect
from imagequeue.contract import ErrorCode
from imagequeue_worker.embedded_redis import EmbeddedRedis
from imagequeue_worker.jobs import FinishedJob
from imagequeue_worker.protocol import Finished, Protocol
from queue_state import (
    COLLECTION,
    LEASE_SECONDS,
    QUEUE,
    RESULT_TTL,
    RQ,
    answer,
    answer_errors,
    answer_failed,
    check_invariants,
    damaged,
    end_leases,
    error,
    everything,
    field,
    fields_expire,
    ids_of,
    job_of,
    lease_score,
    member,
    ok,
    pending,
    results,
    submit,
)

# --- how long things live -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [contract.results_key(COLLECTION), contract.dead_key(COLLECTION)])
def test_results_and_dead_letters_expire_by_themselves(
    producer: Producer, worker: Protocol, connection: redis.Redis, key: str
) -> None:
    if not fields_expire(connection):
        pytest.skip("this server has no hash field expiry")
    submit(producer, "a")
    worker.finish([answer_errors(job, ErrorCode.CORRUPT) for job in worker.take(64).jobs])
    (left,) = connection.httl(key, "a")
    assert RESULT_TTL - 60 < left <= RESULT_TTL


def test_a_server_without_field_expiry_keeps_results_all_the_same(
    server_without_field_expiry: EmbeddedRedis,
) -> None:
    url = server_without_field_expiry.url
    with connect(url, resend=False) as connection, Producer(url) as producer:
        worker = Protocol(connection, "w1", [QUEUE], lease_seconds=LEASE_SECONDS, result_ttl=RESULT_TTL)
        submit(producer, "a")
        worker.finish([answer(job) for job in worker.take(64).jobs])
        assert list(results(connection)) == ["a"]


def test_results_may_be_kept_for_centuries(producer: Producer, connection: redis.Redis) -> None:
    worker = Protocol(connection, "w1", [QUEUE], lease_seconds=LEASE_SECONDS, result_ttl=10**10)
    submit(producer, "a")
    worker.finish([answer(job) for job in worker.take(64).jobs])
    assert list(results(connection)) == ["a"]


def finish_with_ttl(
    producer: Producer, worker: Protocol, connection: redis.Redis, name: str, ttl: int, *, failed: bool
) -> str:
    """Finish a job whose hash has this result_ttl or failure_ttl; its id."""
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    connection.hset(contract.job_key(job.lease.job), name, ttl)
    worker.finish([answer_failed(job) if failed else answer(job)])
    return job.lease.job


ENDINGS = pytest.mark.parametrize(
    ("name", "failed", "registry"), [("result_ttl", False, "finished"), ("failure_ttl", True, "failed")]
)


@ENDINGS
def test_a_job_lives_on_as_long_as_its_ttl(
    producer: Producer, worker: Protocol, connection: redis.Redis, name: str, failed: bool, registry: str
) -> None:
    job = finish_with_ttl(producer, worker, connection, name, 100, failed=failed)
    lives = [connection.ttl(contract.job_key(job)), connection.ttl(f"{RQ}:results:{job}")]
    now = connection.time()[0]
    lives.append(connection.zscore(f"{RQ}:{registry}:{QUEUE}", job) - now)
    assert lives == pytest.approx([100, 100, 100], abs=5)


@ENDINGS
def test_a_job_with_a_ttl_of_zero_is_deleted(
    producer: Producer, worker: Protocol, connection: redis.Redis, name: str, failed: bool, registry: str
) -> None:
    job = finish_with_ttl(producer, worker, connection, name, 0, failed=failed)
    assert [key for key in connection.scan_iter(f"{RQ}:*") if job.encode() in key] == []
    assert connection.zscore(f"{RQ}:{registry}:{QUEUE}", job) is None


@ENDINGS
def test_a_job_with_a_ttl_of_minus_one_lives_for_ever(
    producer: Producer, worker: Protocol, connection: redis.Redis, name: str, failed: bool, registry: str
) -> None:
    job = finish_with_ttl(producer, worker, connection, name, -1, failed=failed)
    lives = [connection.ttl(contract.job_key(job)), connection.ttl(f"{RQ}:results:{job}")]
    lives.append(connection.zscore(f"{RQ}:{registry}:{QUEUE}", job))
    assert lives == [-1, -1, float("inf")]


def test_a_leased_job_does_not_expire(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    connection.expire(contract.job_key(job_of(connection, "a")), 100)  # it had ended once, and was requeued
    (job,) = worker.take(64).jobs
    assert connection.ttl(contract.job_key(job.lease.job)) == -1


@pytest.mark.parametrize(("failed", "registry"), [(False, "finished"), (True, "failed")])
def test_registries_keep_no_job_that_has_expired(
    producer: Producer, worker: Protocol, connection: redis.Redis, failed: bool, registry: str
) -> None:
    key = f"{RQ}:{registry}:{QUEUE}"
    connection.zadd(key, {"long-gone": 1.0, "for-ever": "+inf"})
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    worker.finish([answer_failed(job) if failed else answer(job)])
    assert set(connection.zrange(key, 0, -1)) == {b"for-ever", job.lease.job.encode()}


# --- the lease is given up ----------------------------------------------------------------------------------


def test_nothing_of_the_lease_is_left(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a", "b", chunk=1)
    jobs = worker.take(64).jobs
    worker.finish([answer(job) for job in jobs])
    left = [f"{RQ}:wip:{QUEUE}", f"{RQ}:worker:w1:executions"]
    left += [f"{RQ}:execution:{member(job.lease)}" for job in jobs]
    left += [f"{RQ}:executions:{job.lease.job}" for job in jobs]
    assert connection.exists(*left) == 0


def test_a_worker_that_rq_does_not_know_is_not_made_known(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    worker.finish([answer(job) for job in worker.take(64).jobs])
    assert not connection.exists(f"{RQ}:worker:w1")


# --- dependents ---------------------------------------------------------------------------------------------


@pytest.fixture
def awaited(producer: Producer, worker: Protocol, connection: redis.Redis) -> FinishedJob:
    """The answer of a leased job that another job waits for."""
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    Queue("other", connection=connection, serializer=JSONSerializer).enqueue(
        "stock_task.classify",
        depends_on=Job.fetch(job.lease.job, connection=connection, serializer=JSONSerializer),
    )
    return answer(job)


def test_a_job_with_dependents_is_told(awaited: FinishedJob, worker: Protocol) -> None:
    assert worker.finish([awaited]) == [Finished(Finished.HAS_DEPENDENTS, (True,))]


def test_its_images_are_published_at_once(awaited: FinishedJob, worker: Protocol, connection: redis.Redis) -> None:
    worker.finish([awaited])
    assert list(results(connection)) == ["a"]


def test_its_lease_is_kept(awaited: FinishedJob, worker: Protocol, connection: redis.Redis) -> None:
    worker.finish([awaited])
    assert lease_score(connection, awaited.taken.lease) is not None


def test_it_is_closed_when_its_dependents_have_been_queued(
    awaited: FinishedJob, worker: Protocol, connection: redis.Redis
) -> None:
    worker.finish([awaited])
    awaited.dependents_queued = True
    assert worker.finish([awaited]) == [Finished(Finished.DONE, (False,))]
    assert field(connection, awaited.taken.lease.job, "status") == "finished"


def test_rq_queues_the_dependents_of_a_job_that_is_still_leased(
    awaited: FinishedJob, worker: Protocol, connection: redis.Redis
) -> None:
    worker.finish([awaited])
    job = Job.fetch(awaited.taken.lease.job, connection=connection, serializer=JSONSerializer)
    Queue(QUEUE, connection=connection, serializer=JSONSerializer).enqueue_dependents(job)
    assert Queue("other", connection=connection, serializer=JSONSerializer).count == 1


def test_a_worker_that_dies_between_the_two_leaves_a_job_that_is_finished_by_the_next(
    awaited: FinishedJob, worker: Protocol, other: Protocol, connection: redis.Redis
) -> None:
    worker.finish([awaited])
    end_leases(connection, awaited.taken.lease)
    other.reclaim(losses_max=10)
    (again,) = other.take(64).jobs
    assert other.finish([answer(again)]) == [Finished(Finished.HAS_DEPENDENTS, ())]


# --- damaged keys -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "{rq}:wip:{queue}",
        "{rq}:job:{job}",
        contract.pending_key(COLLECTION),
        contract.results_key(COLLECTION),
        contract.completed_key(COLLECTION),
        contract.totals_key(COLLECTION),
        contract.dead_key(COLLECTION),
        contract.WAITING_KEY,
    ],
)
def test_a_key_of_another_type_leaves_every_job_leased_and_pending(
    producer: Producer, worker: Protocol, connection: redis.Redis, key: str
) -> None:
    submit(producer, "a", "b", "c", chunk=1)
    jobs = worker.take(64).jobs
    named = key.format(rq=RQ, queue=QUEUE, job=jobs[1].lease.job)
    with damaged(connection, named):
        before = everything(connection)
        with pytest.raises(redis.ResponseError):
            worker.finish([answer(job) for job in jobs])
        assert everything(connection) == before


@pytest.mark.parametrize(
    "key", ["{rq}:results:{job}", "{rq}:finished:{queue}", "{rq}:worker:w1", "{rq}:worker:w1:executions"]
)
def test_a_damaged_key_that_only_rqs_tools_read_keeps_no_job_from_its_end(
    producer: Producer, worker: Protocol, connection: redis.Redis, key: str
) -> None:
    submit(producer, "a", "b", chunk=1)
    jobs = worker.take(64).jobs
    with damaged(connection, key.format(rq=RQ, queue=QUEUE, job=jobs[1].lease.job)):
        assert [reply.code for reply in worker.finish([answer(job) for job in jobs])] == [Finished.DONE] * 2
    assert connection.zcard(f"{RQ}:wip:{QUEUE}") == 0
    assert set(results(connection)) == {"a", "b"}


@pytest.mark.parametrize(("key", "name"), [(contract.totals_key(COLLECTION), "ok"), (contract.WAITING_KEY, QUEUE)])
def test_a_count_that_is_no_number_leaves_every_job_leased_and_pending(
    producer: Producer, worker: Protocol, connection: redis.Redis, key: str, name: str
) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    was = connection.hget(key, name)
    connection.hset(key, name, "many")
    with pytest.raises(redis.ResponseError):
        worker.finish([answer(job)])
    connection.hset(key, name, was or 0)
    assert (list(results(connection)), pending(connection)) == ([], {"a"})


def test_its_neighbours_are_finished_when_it_is_sent_alone(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a", "b", chunk=1)
    one, two = worker.take(64).jobs
    with damaged(connection, contract.job_key(one.lease.job)):
        assert worker.finish([answer(two)])[0].code == Finished.DONE
    assert pending(connection) == {"a"}


# --- what RQ sees -------------------------------------------------------------------------------------------


def test_a_failed_jobs_reason_is_readable(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    worker.finish([answer_failed(job, "malformed_request: ünreadable")])
    seen = Job.fetch(job.lease.job, connection=connection, serializer=JSONSerializer).latest_result()
    assert seen is not None
    assert (seen.type, seen.exc_string) == (seen.Type.FAILED, "malformed_request: ünreadable")


def test_successes_and_failures_are_added_to_the_workers_counts(
    producer: Producer, worker: Protocol, registered: Worker
) -> None:
    submit(producer, "a", "b", "c", chunk=1)
    one, two, three = worker.take(64).jobs
    worker.finish([answer(one), answer_failed(two), answer(three)])
    registered.refresh()
    assert (registered.successful_job_count, registered.failed_job_count) == (2, 1)


def test_a_return_value_is_json(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a", "b")
    (job,) = worker.take(64).jobs
    worker.finish([FinishedJob(job, [ok(job, "a"), error(job, "b")], job.request())])
    fetched = Job.fetch(job.lease.job, connection=connection, serializer=JSONSerializer)
    assert fetched.return_value() == {"ok": 1, "error": 1}


def test_a_full_take_of_single_images_is_finished_in_one_call(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    ids = [f"id-{n}" for n in range(1024)]
    submit(producer, *ids, chunk=1)
    jobs = worker.take(1024).jobs
    assert {reply.code for reply in worker.finish([answer(job) for job in jobs])} == {Finished.DONE}
    assert (len(jobs), pending(connection)) == (1024, set())


def test_messages_of_any_kind_are_published_as_they_are(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    text = 'quote " brace } bracket ] newline \n nul \x00 ünïcode 📷'
    failure = contract.Failure("internal", text)
    outcome = msgspec.structs.replace(error(job, "a"), error=failure)
    worker.finish([FinishedJob(job, [outcome], job.request())])
    assert results(connection)["a"].error == failure


def test_a_job_is_finished_once_whatever_comes_between(
    producer: Producer, worker: Protocol, other: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (first,) = worker.take(64).jobs
    end_leases(connection, first.lease)
    other.reclaim(losses_max=10)
    (second,) = other.take(64).jobs
    codes = [worker.finish([answer(first)])[0].code, other.finish([answer(second)])[0].code]
    codes.append(worker.finish([answer(first)])[0].code)
    assert codes == ["0", "1", "0"]
    check_invariants(connection)
    assert ids_of(worker.take(64).jobs) == []
