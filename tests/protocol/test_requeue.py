"""Dead letters: read, run again, forgotten; only those that were read, and never twice."""

from __future__ import annotations

import pytest
import redis

from imagequeue import Image, Producer, contract
from imagequeue.bridge import iterate, run
from imagequeue.contract import ErrorCode, Request, Status
from imagequeue.dead_letters import discard_letters, read_letters
from imagequeue.errors import ConfigurationError
from imagequeue.orders import Order
from imagequeue.requeueing import Requeued, requeue_letters
from imagequeue_worker.protocol import Protocol
from queue_state import answer_errors, drain, field, job_of, pending, queued, ref_of, submit


def fail(worker: Protocol, code: ErrorCode = ErrorCode.FETCH_FAILED) -> None:
    """All that waits ends in this error."""
    while jobs := worker.take(64).jobs:
        worker.finish([answer_errors(job, code) for job in jobs])


def requeued(accepted: int, left: int = 0) -> Requeued:
    return Requeued(accepted, left, "default")


# --- reading ------------------------------------------------------------------------------------------------


def test_an_error_is_a_dead_letter_with_its_last_error(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a")
    fail(worker)
    (letter,) = operator.dead_letters()
    assert (letter.id, letter.ref, letter.code, letter.attempt) == ("a", ref_of("a"), "fetch_failed", 1)
    assert (letter.message, letter.collection) == ("nothing is there", "default")


def test_a_classified_image_is_none(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a")
    drain(worker)
    assert list(operator.dead_letters()) == []


def test_dead_letters_are_chosen_by_code(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a")
    fail(worker, ErrorCode.CORRUPT)
    submit(operator, "b")
    fail(worker, ErrorCode.FETCH_FAILED)
    assert [letter.id for letter in operator.dead_letters(code="fetch_failed")] == ["b"]


def test_dead_letters_are_chosen_by_id(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a", "b", "c")
    fail(worker)
    assert [letter.id for letter in operator.dead_letters(["c", "nobody", "a"])] == ["c", "a"]


def test_a_code_that_does_not_exist_is_an_error(operator: Producer) -> None:
    with pytest.raises(ConfigurationError, match="not_fund"):
        operator.dead_letters(code="not_fund")


def test_many_dead_letters_are_all_read(operator: Producer, worker: Protocol) -> None:
    ids = [f"i{n}" for n in range(700)]
    submit(operator, *ids)
    fail(worker)
    assert sorted(letter.id for letter in operator.dead_letters()) == sorted(ids)


# --- requeue ------------------------------------------------------------------------------------------------


def test_a_requeued_image_runs_again(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a")
    fail(worker)
    assert operator.requeue() == requeued(1)
    drain(worker)
    assert operator.result("a").status is Status.OK
    assert list(operator.dead_letters()) == []


def test_only_the_named_code_is_requeued(operator: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(operator, "a")
    fail(worker, ErrorCode.CORRUPT)
    submit(operator, "b")
    fail(worker, ErrorCode.FETCH_FAILED)
    assert operator.requeue(code="fetch_failed") == requeued(1)
    assert pending(connection) == {"b"}


def test_only_the_named_ids_are_requeued(operator: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(operator, "a", "b")
    fail(worker)
    assert operator.requeue(["b", "nobody"]) == requeued(1)
    assert pending(connection) == {"b"}


def test_what_was_asked_for_is_asked_for_again(operator: Producer, worker: Protocol, connection: redis.Redis) -> None:
    wishes = {"model": "m", "top_k": 3, "expires_in": 50.0}
    submit(operator, "a", **wishes)
    submit(operator, "b")
    fail(worker)
    assert operator.requeue() == requeued(2)
    request = contract.decode_job(connection.hget(contract.job_key(job_of(connection, "a")), "data"))
    assert {name: getattr(request, name) for name in wishes} == wishes
    assert job_of(connection, "b") != job_of(connection, "a"), "they ask for different things"


def test_letters_that_ask_for_the_same_share_jobs(operator: Producer, worker: Protocol, connection) -> None:
    submit(operator, *[f"i{n}" for n in range(40)])
    fail(worker)
    operator.requeue(priority="high")
    images = [field(connection, job, "images") for job in queued(connection, "classify-high")]
    assert images == ["16", "16", "8"]


def test_a_letter_that_was_requeued_meanwhile_is_left_alone(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a", "b")
    fail(worker)
    letters = list(iterate(read_letters(operator._link, "default", None, None)))
    # Given one that ran again and died again since it was read
    operator.requeue(["a"])
    fail(worker)
    assert run(requeue_letters(operator._core._submitter, letters, Order())) == requeued(1, left=1)
    assert [letter.id for letter in operator.dead_letters()] == ["a"]


def test_a_letter_of_a_pending_image_is_left_alone(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a")
    fail(worker)
    letters = list(iterate(read_letters(operator._link, "default", None, None)))
    operator.requeue()
    assert run(requeue_letters(operator._core._submitter, letters, Order())) == requeued(0, left=1)


@pytest.mark.parametrize("text", [b"{", b'{"version":2}', contract.encode_request(Request(images=(Image("b", "/b"),)))])
def test_a_letter_that_cannot_be_read_is_left_alone(
    operator: Producer, worker: Protocol, connection: redis.Redis, text: bytes
) -> None:
    submit(operator, "a")
    fail(worker)
    connection.hset(contract.dead_key("default"), "a", text)
    assert operator.requeue() == requeued(0, left=1)
    assert operator.result("a").status is Status.ERROR


def test_lost_uploads_do_not_hold_the_others_back(
    operator: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    lost, kept = operator.upload(b"lost"), operator.upload(b"kept")
    operator.submit_many([Image("lost", lost), Image("kept", kept), Image("path", "/p.jpg")])
    fail(worker)
    connection.delete(contract.blob_key(lost.removeprefix("blob:")))
    assert operator.requeue() == requeued(2, left=1)
    assert pending(connection) == {"kept", "path"}


def test_a_reference_that_cannot_be_sent_does_not_hold_the_others_back(
    operator: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(operator, "a", "b")
    fail(worker)
    hostile = contract.encode_request(Request(images=(Image("a", "blob:cat"),)))  # of a producer in another language
    connection.hset(contract.dead_key("default"), "a", hostile)
    assert operator.requeue() == requeued(1, left=1)
    assert pending(connection) == {"b"}


# --- discard ------------------------------------------------------------------------------------------------


def test_a_discarded_letter_leaves_its_result(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a")
    fail(worker)
    assert operator.discard() == 1
    assert list(operator.dead_letters()) == []
    assert operator.result("a").error.code == "fetch_failed"
    assert operator.requeue() == requeued(0)


def test_only_what_is_named_is_discarded(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a", "b")
    fail(worker, ErrorCode.CORRUPT)
    submit(operator, "c")
    fail(worker, ErrorCode.FETCH_FAILED)
    assert operator.discard(["a", "c"], code="corrupt") == 1
    assert sorted(letter.id for letter in operator.dead_letters()) == ["b", "c"]


def test_many_letters_are_discarded(operator: Producer, worker: Protocol) -> None:
    submit(operator, *[f"i{n}" for n in range(2100)])
    fail(worker)
    assert operator.discard() == 2100


def test_a_letter_that_came_after_the_reading_is_not_discarded(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a")
    fail(worker)
    letters = list(iterate(read_letters(operator._link, "default", None, None)))
    operator.requeue()
    fail(worker)
    assert run(discard_letters(operator._link, "default", letters)) == 0
    assert [letter.id for letter in operator.dead_letters()] == ["a"]
