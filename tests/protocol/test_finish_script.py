"""finish.lua: fence before gate; images are published once, by their owner; jobs are closed or left alone."""

from __future__ import annotations

import pytest
import redis
from rq import Worker
from rq.job import Job
from rq.serializers import JSONSerializer

from imagequeue import Producer, contract
from imagequeue.contract import ErrorCode, Status
from imagequeue_worker.jobs import FinishedJob
from imagequeue_worker.protocol import Finished, Protocol
from queue_state import (
    COLLECTION,
    QUEUE,
    answer,
    answer_errors,
    answer_failed,
    end_leases,
    error,
    everything,
    field,
    ok,
    pending,
    ref_of,
    results,
    submit,
)

# --- publishing ---------------------------------------------------------------------------------------------


def test_finished_images_have_results(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a", "b")
    worker.finish([answer(job) for job in worker.take(64).jobs])
    assert {id_: result.status for id_, result in results(connection).items()} == {"a": "ok", "b": "ok"}


def test_finished_images_are_not_pending(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a", "b")
    worker.finish([answer(job) for job in worker.take(64).jobs])
    assert pending(connection) == set()


def test_every_image_is_told_published(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a", "b")
    (reply,) = worker.finish([answer(job) for job in worker.take(64).jobs])
    assert reply == Finished(Finished.DONE, (True, True))


def test_errors_and_successes_are_counted_apart(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a", "b", "c")
    (job,) = worker.take(64).jobs
    worker.finish([FinishedJob(job, [ok(job, "a"), error(job, "b"), ok(job, "c")], job.request())])
    totals = connection.hgetall(contract.totals_key(COLLECTION))
    assert totals == {b"accepted": b"3", b"ok": b"2", b"error": b"1"}


def test_a_result_names_its_job_and_attempt(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    worker.finish([answer(job)])
    result = results(connection)["a"]
    assert (result.job, result.attempt, result.ref) == (job.lease.job, 1, ref_of("a"))


def test_a_result_is_stamped_with_redis_time(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    worker.finish([answer(job)])
    seconds, microseconds = connection.time()
    assert job.taken_at <= results(connection)["a"].finished_at <= seconds + microseconds / 1e6


def test_the_producer_sees_the_result(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a")
    worker.finish([answer(job) for job in worker.take(64).jobs])
    assert producer.wait(["a"], timeout=0)["a"].classes[0].index == 281


def test_jobs_of_several_collections_are_finished_together(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a", collection="one")
    submit(producer, "a", collection="two")
    worker.finish([answer(job) for job in worker.take(64).jobs])
    assert [list(results(connection, name)) for name in ("one", "two")] == [["a"], ["a"]]


def test_a_job_without_images_is_closed(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    connection.hset(contract.job_key("foreign"), mapping={"status": "queued", "data": "[]"})
    connection.rpush(contract.queue_key(QUEUE), "foreign")
    worker.finish([answer_failed(job) for job in worker.take(64).jobs])
    assert field(connection, "foreign", "status") == "failed"


# --- resent, and lost ---------------------------------------------------------------------------------------


def test_a_finish_that_is_sent_again_is_told_done_before(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    worker.finish([answer(job)])
    assert worker.finish([answer(job)]) == [Finished(Finished.DONE_BEFORE, ())]


def test_a_finish_that_is_sent_again_changes_nothing(
    producer: Producer, worker: Protocol, registered: Worker, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    worker.finish([answer(job)])
    before = everything(connection)
    worker.finish([answer(job)])
    assert everything(connection) == before


def test_a_finish_in_two_halves_is_told_which_half_was_done(producer: Producer, worker: Protocol) -> None:
    submit(producer, "a", "b", chunk=1)
    one, two = worker.take(64).jobs
    worker.finish([answer(one)])
    assert [reply.code for reply in worker.finish([answer(one), answer(two)])] == ["2", "1"]


def test_a_lost_lease_is_told(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    end_leases(connection, job.lease)
    worker.reclaim(losses_max=10)
    assert worker.finish([answer(job)]) == [Finished(Finished.LOST, ())]


def test_nothing_is_written_for_a_lost_lease(
    producer: Producer, worker: Protocol, other: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    end_leases(connection, job.lease)
    other.reclaim(losses_max=10)
    other.take(64)
    before = everything(connection)
    worker.finish([answer(job)])
    assert everything(connection) == before


def test_a_lost_lease_does_not_disturb_its_neighbours(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a", "b", "c", chunk=1)
    jobs = worker.take(64).jobs
    end_leases(connection, jobs[1].lease)
    worker.reclaim(losses_max=10)
    assert [reply.code for reply in worker.finish([answer(job) for job in jobs])] == ["1", "0", "1"]


def test_a_canceled_job_is_fenced_out(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    Job.fetch(job.lease.job, connection=connection, serializer=JSONSerializer).cancel()
    assert worker.finish([answer(job)])[0].code == Finished.LOST


# --- ownership ----------------------------------------------------------------------------------------------


@pytest.fixture
def moved(producer: Producer, worker: Protocol, connection: redis.Redis) -> FinishedJob:
    """The answer of a job of a, b and c; b was given to another job meanwhile."""
    submit(producer, "a", "b", "c")
    (job,) = worker.take(64).jobs
    connection.hset(contract.pending_key(COLLECTION), "b", f"{QUEUE}|iq-other")
    return answer(job)


def test_an_image_that_is_not_owned_is_not_published(
    moved: FinishedJob, worker: Protocol, connection: redis.Redis
) -> None:
    worker.finish([moved])
    assert (set(results(connection)), pending(connection)) == ({"a", "c"}, {"b"})


def test_it_is_told_which_images_were_not_published(moved: FinishedJob, worker: Protocol) -> None:
    assert worker.finish([moved]) == [Finished(Finished.DONE, (True, False, True))]


def test_a_job_that_lost_an_image_is_finished_all_the_same(
    moved: FinishedJob, worker: Protocol, connection: redis.Redis
) -> None:
    worker.finish([moved])
    assert field(connection, moved.taken.lease.job, "status") == "finished"


def test_an_outcome_that_comes_twice_is_published_once(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    worker.finish([FinishedJob(job, [ok(job, "a"), error(job, "a")], job.request())])
    assert results(connection)["a"].status == Status.OK


# --- dead letters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(set(ErrorCode) - contract.NOT_REQUEUED))
def test_an_error_that_can_be_requeued_leaves_a_dead_letter(
    producer: Producer, worker: Protocol, connection: redis.Redis, code: ErrorCode
) -> None:
    submit(producer, "a", "b", top_k=7, model="m")
    worker.finish([answer_errors(job, code) for job in worker.take(64).jobs])
    letter = contract.decode_request(connection.hget(contract.dead_key(COLLECTION), "a"))
    assert letter == contract.Request(images=(contract.Image("a", ref_of("a")),), top_k=7, model="m")


@pytest.mark.parametrize("code", sorted(contract.NOT_REQUEUED))
def test_an_error_that_was_wished_for_leaves_none(
    producer: Producer, worker: Protocol, connection: redis.Redis, code: ErrorCode
) -> None:
    submit(producer, "a")
    worker.finish([answer_errors(job, code) for job in worker.take(64).jobs])
    assert not connection.exists(contract.dead_key(COLLECTION))


def test_a_success_leaves_no_dead_letter(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    worker.finish([answer(job) for job in worker.take(64).jobs])
    assert not connection.exists(contract.dead_key(COLLECTION))
