"""Cancelling ends images that have no result yet, once, wherever they are; what is done stays done."""

from __future__ import annotations

import pytest
import redis

from imagequeue import Image, Producer, contract
from imagequeue.bridge import run
from imagequeue.cancelling import IDS_PER_CALL, RESULT_SECONDS, Canceller
from imagequeue.contract import ErrorCode
from imagequeue_worker.protocol import Finished, Protocol
from imagequeue_worker.settings import Settings
from queue_state import (
    answer,
    code_of,
    damaged,
    drain,
    everything,
    fields_expire,
    job_of,
    pending,
    ref_of,
    results,
    submit,
)


def test_a_waiting_image_ends_as_cancelled(operator: Producer, connection: redis.Redis) -> None:
    submit(operator, "a", "b")
    assert operator.cancel(["a"]) == 1
    assert code_of(connection, "a") == ErrorCode.CANCELLED
    assert pending(connection) == {"b"}


def test_a_cancelled_result_names_its_picture(operator: Producer) -> None:
    submit(operator, "a")
    operator.cancel(["a"])
    result = operator.result("a")
    assert result is not None
    assert (result.ref, result.submitted_at > 0) == (ref_of("a"), True)


def test_waiting_for_a_cancelled_image_ends(operator: Producer) -> None:
    submit(operator, "a")
    operator.cancel(["a"])
    assert operator.wait(["a"], timeout=60)["a"].error.code == ErrorCode.CANCELLED


def test_an_image_with_a_result_keeps_it(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a")
    drain(worker)
    before = operator.result("a")
    assert operator.cancel(["a"]) == 0
    assert operator.result("a") == before


def test_an_id_that_nobody_submitted_is_not_cancelled(operator: Producer) -> None:
    assert operator.cancel(["nobody"]) == 0


def test_an_id_that_is_named_twice_is_one_image(operator: Producer, connection: redis.Redis) -> None:
    submit(operator, "a")
    assert run(Canceller(operator._link).cancel(["a", "a"], "default")) == 1  # as HSCAN may name it
    assert connection.xlen(contract.completed_key("default")) == 1


def test_what_a_worker_is_classifying_is_cancelled_and_its_answer_dropped(
    operator: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(operator, "a", "b")
    (job,) = worker.take(64).jobs
    operator.cancel(["a"])
    (reply,) = worker.finish([answer(job)])
    assert (reply.code, reply.published) == (Finished.DONE, (False, True))
    assert (code_of(connection, "a"), code_of(connection, "b")) == (ErrorCode.CANCELLED, None)


def test_a_job_whose_images_are_all_cancelled_is_taken_and_finished(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a", "b")
    operator.cancel(["a", "b"])
    (job,) = worker.take(64).jobs
    assert job.ids == ()
    assert worker.finish([answer(job)])[0].code == Finished.DONE


def test_a_cancelled_image_is_no_dead_letter(operator: Producer) -> None:
    submit(operator, "a")
    operator.cancel(["a"])
    assert list(operator.dead_letters()) == []


def test_a_cancelled_image_may_be_submitted_afresh(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a")
    operator.cancel(["a"])
    assert operator.submit(ref_of("a"), id="a", resubmit=True).accepted
    drain(worker)
    assert operator.result("a").status == contract.Status.OK


def test_a_job_is_cancelled_alone(operator: Producer, connection: redis.Redis) -> None:
    submit(operator, "a", "b", "c", chunk=2)
    assert operator.cancel_job(job_of(connection, "a")) == 2
    assert pending(connection) == {"c"}


def test_a_job_that_has_ended_has_nothing_to_cancel(
    operator: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(operator, "a")
    job = job_of(connection, "a")
    drain(worker)
    assert operator.cancel_job(job) == operator.cancel_job("iq-nobody") == 0


def test_a_job_does_not_cancel_what_is_another_jobs_by_now(
    operator: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(operator, "a")
    first = job_of(connection, "a")
    drain(worker)
    submit(operator, "a", resubmit=True)
    assert operator.cancel_job(first) == 0
    assert pending(connection) == {"a"}


def test_a_collection_is_cancelled_whole_and_alone(operator: Producer, connection: redis.Redis) -> None:
    many = [Image(f"i{n}", f"/{n}.jpg") for n in range(2 * IDS_PER_CALL + 1)]
    operator.submit_many(many, collection="holidays", chunk=64)
    submit(operator, "a")
    assert operator.cancel_collection("holidays") == len(many)
    assert operator.progress("holidays").error == len(many)
    assert pending(connection) == {"a"}


def test_references_of_many_megabytes_are_cancelled_in_several_calls(operator: Producer) -> None:
    large = "data:," + "x" * 1_000_000
    operator.submit_many([Image(f"i{n}", f"{large}{n}") for n in range(40)], chunk=4)
    assert operator.cancel([f"i{n}" for n in range(40)]) == 40


def test_a_job_whose_data_cannot_be_read_is_cancelled_all_the_same(operator: Producer, connection: redis.Redis) -> None:
    submit(operator, "a")
    connection.hset(contract.job_key(job_of(connection, "a")), "data", b"\xff")
    assert operator.cancel(["a"]) == 1
    assert operator.result("a").ref == ""


def test_an_image_whose_job_is_gone_is_cancelled(operator: Producer, connection: redis.Redis) -> None:
    submit(operator, "a")
    connection.delete(contract.job_key(job_of(connection, "a")))
    assert operator.cancel(["a"]) == 1


def test_a_result_lives_as_long_as_asked_for(operator: Producer, connection: redis.Redis) -> None:
    if not fields_expire(connection):
        pytest.skip("hash fields do not expire here: the sweep ages them")
    submit(operator, "a")
    operator.cancel(["a"], result_ttl=100)
    (left,) = connection.execute_command("HTTL", contract.results_key("default"), "FIELDS", 1, "a")
    assert 90 < left <= 100


def test_results_live_as_long_as_the_workers() -> None:
    assert Settings().result_ttl == RESULT_SECONDS


@pytest.mark.parametrize("key", ["pending", "results", "completed", "totals", "dead"])
def test_a_key_of_another_type_leaves_everything_as_it_was(
    operator: Producer, connection: redis.Redis, key: str
) -> None:
    submit(operator, "a")
    with damaged(connection, f"{contract.KEY_PREFIX}:{key}:default"):
        before = everything(connection)
        with pytest.raises(Exception, match=r"nothing was written|WRONGTYPE"):
            operator.cancel(["a"])
        assert everything(connection) == before


def test_every_image_counts_once(operator: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(operator, "a", "b", "c")
    operator.cancel(["a"])
    drain(worker)
    progress = operator.progress()
    assert (progress.accepted, progress.pending, progress.ok, progress.error) == (3, 0, 2, 1)
    assert len(results(connection)) == 3
