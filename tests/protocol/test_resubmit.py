"""Resubmitting runs images afresh that have a result; each run is an acceptance of its own."""

from __future__ import annotations

import pytest
import redis

from imagequeue import Image, Producer, contract
from imagequeue.contract import ErrorCode, Status
from imagequeue.orders import Order
from imagequeue.scripts import script_text
from imagequeue.submitting import arguments_of, keys_of
from imagequeue_worker.protocol import Protocol
from queue_state import (
    answer_errors,
    damaged,
    drain,
    everything,
    job_of,
    pending,
    queued,
    ref_of,
    results,
    submit,
)


def resubmit(connection: redis.Redis, *ids: str, job: str, limit: int = 10**9) -> list:
    """Call the script as the producer does."""
    chunk, order = {id_: Image(id_, ref_of(id_)) for id_ in ids}, Order(resubmit=True)
    script = connection.register_script(script_text("resubmit"))
    keys = keys_of(chunk, job, order, dead=True)
    return script(keys=keys, args=[*arguments_of(chunk, job, order, limit), *chunk])


def test_an_image_with_a_result_is_pending_again(operator: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(operator, "a")
    drain(worker)
    assert operator.submit(ref_of("a"), id="a", resubmit=True).accepted
    assert (pending(connection), results(connection)) == ({"a"}, {})


def test_its_new_result_is_another(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a")
    drain(worker)
    first = operator.result("a")
    submit(operator, "a", resubmit=True)
    drain(worker)
    second = operator.result("a")
    assert second.finished_at > first.finished_at
    assert second.entry != first.entry


def test_it_counts_as_accepted_once_more(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a")
    drain(worker)
    submit(operator, "a", resubmit=True)
    assert (operator.progress().accepted, operator.progress().pending, operator.progress().ok) == (2, 1, 1)


def test_a_pending_image_is_known_and_left_alone(operator: Producer, connection: redis.Redis) -> None:
    submit(operator, "a")
    owner = job_of(connection, "a")
    assert not operator.submit(ref_of("a"), id="a", resubmit=True).accepted
    assert (job_of(connection, "a"), len(queued(connection))) == (owner, 1)


def test_a_new_image_is_accepted_as_by_submit(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a", resubmit=True)
    drain(worker)
    assert operator.result("a").status is Status.OK


def test_its_dead_letter_goes_with_the_result(operator: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(operator, "a")
    worker.finish([answer_errors(job, ErrorCode.NOT_FOUND) for job in worker.take(1).jobs])
    assert [letter.id for letter in operator.dead_letters()] == ["a"]
    submit(operator, "a", resubmit=True)
    assert connection.hkeys(contract.dead_key("default")) == []


def test_a_call_sent_again_gets_the_same_answer_and_changes_nothing(
    operator: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(operator, "a")
    drain(worker)
    first = resubmit(connection, "a", "b", job="iq-again")
    before = everything(connection)
    assert resubmit(connection, "a", "b", job="iq-again") == first == [b"accepted", b"11"]
    assert everything(connection) == before


def test_a_call_sent_again_after_its_images_are_done_runs_nothing_again(
    operator: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(operator, "a")
    drain(worker)
    resubmit(connection, "a", job="iq-again")
    drain(worker)
    assert resubmit(connection, "a", job="iq-again") == [b"accepted", b"1"]
    assert (pending(connection), queued(connection)) == (set(), [])


def test_a_full_queue_refuses_and_the_results_stay(
    operator: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(operator, "a", "b")
    drain(worker)
    submit(operator, "c")
    before = everything(connection)
    assert resubmit(connection, "a", "b", job="iq-again", limit=2) == [b"full", 1]
    assert everything(connection) == before


def test_a_reader_that_waits_gets_the_new_result(operator: Producer, worker: Protocol) -> None:
    submit(operator, "a")
    drain(worker)
    old = operator.result("a")
    submit(operator, "a", resubmit=True)
    assert operator.result("a") is None
    drain(worker)
    assert operator.wait(["a"], timeout=60)["a"].entry != old.entry


WRITTEN = ["pending:default", "results:default", "totals:default", "dead:default", "waiting", "collections"]


@pytest.mark.parametrize("key", WRITTEN)
def test_a_key_of_another_type_leaves_everything_as_it_was(
    operator: Producer, worker: Protocol, connection: redis.Redis, key: str
) -> None:
    submit(operator, "a")
    drain(worker)
    with damaged(connection, f"{contract.KEY_PREFIX}:{key}"):
        before = everything(connection)
        with pytest.raises(redis.ResponseError):
            resubmit(connection, "a", job="iq-again")
        assert everything(connection) == before
