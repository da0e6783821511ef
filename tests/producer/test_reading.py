"""Results by id, of a whole collection, as they come; and progress."""

from __future__ import annotations

import threading

import pytest
import redis

from imagequeue import ContractError, Image, Producer, Progress, Status, WaitTimeout, contract
from imagequeue.errors import ConfigurationError
from producer_hand import Settle, wait_for_command


def submit(producer: Producer, *ids: str, collection: str = "default") -> None:
    producer.submit_many([Image(id_, f"/{id_}.jpg") for id_ in ids], collection=collection)


class Waiter(threading.Thread):
    """`producer.wait` in a thread, blocked in the completion stream when the constructor returns."""

    def __init__(self, producer: Producer, connection: redis.Redis, *ids: str) -> None:
        super().__init__()
        self.found: dict[str, contract.Result] = {}
        self._wait = lambda: producer.wait(ids, timeout=60)
        with connection.monitor() as monitor:
            self.start()
            wait_for_command(monitor, "XREAD")

    def run(self) -> None:
        self.found = self._wait()


def test_a_result_that_is_there_is_returned_at_once(producer: Producer, settle: Settle) -> None:
    submit(producer, "a")
    settle("a")
    assert producer.wait(["a"], timeout=0)["a"].classes[0].label == "tabby, tabby cat"


def test_a_result_that_comes_while_waiting_is_returned(
    producer: Producer, connection: redis.Redis, settle: Settle
) -> None:
    submit(producer, "a")
    waiter = Waiter(producer, connection, "a")
    settle("a")
    waiter.join()
    assert list(waiter.found) == ["a"]


def test_results_before_and_while_waiting_are_both_returned(
    producer: Producer, connection: redis.Redis, settle: Settle
) -> None:
    submit(producer, "a", "b")
    settle("b")
    waiter = Waiter(producer, connection, "a", "b")
    settle("a")
    waiter.join()
    assert list(waiter.found) == ["a", "b"]


def test_an_error_is_a_result(producer: Producer, settle: Settle) -> None:
    submit(producer, "a")
    settle("a", Status.ERROR)
    assert producer.wait(["a"])["a"].error == contract.Failure("not_found", "nothing is there")


def test_images_of_others_do_not_end_the_wait(producer: Producer, connection: redis.Redis, settle: Settle) -> None:
    submit(producer, "a", "b")
    waiter = Waiter(producer, connection, "a")
    settle("b")
    settle("a")
    waiter.join()
    assert list(waiter.found) == ["a"]


def test_a_waiter_that_missed_trimmed_entries_reads_the_hash(
    producer: Producer, connection: redis.Redis, settle: Settle
) -> None:
    # Given a result whose entry was trimmed in the same instant, so that no reader of the stream sees it
    submit(producer, "before", "a", "b")
    settle("before")
    waiter = Waiter(producer, connection, "a", "b")
    key, text = contract.results_key("default"), connection.hget(contract.results_key("default"), "before")
    transaction = connection.pipeline(transaction=True)
    transaction.hset(key, "a", text.replace(b'"id":"before"', b'"id":"a"'))
    transaction.xadd(contract.completed_key("default"), {"id": "a", "status": "ok"})
    transaction.xtrim(contract.completed_key("default"), maxlen=0, approximate=False)
    transaction.execute()
    # When the next result comes
    settle("b")
    waiter.join()
    # Then both are there
    assert sorted(waiter.found) == ["a", "b"]


def test_the_time_to_wait_ends_with_what_is_there(producer: Producer, settle: Settle) -> None:
    submit(producer, "a", "b")
    settle("b")
    with pytest.raises(WaitTimeout) as caught:
        producer.wait(["a", "b"], timeout=0.01)
    assert (caught.value.missing, list(caught.value.results)) == (("a",), ["b"])


def test_a_wait_that_timed_out_is_a_timeout_error_of_python(producer: Producer) -> None:
    with pytest.raises(TimeoutError):
        producer.wait(["a"], timeout=0)


def test_waiting_for_nothing_returns_nothing(producer: Producer) -> None:
    assert producer.wait([]) == {}


def test_an_id_asked_for_twice_is_returned_once(producer: Producer, settle: Settle) -> None:
    submit(producer, "a")
    settle("a")
    assert [result.id for result in producer.as_completed(["a", "a"])] == ["a"]


def test_thousands_of_ids_are_waited_for(producer: Producer, connection: redis.Redis, settle: Settle) -> None:
    ids = [str(n) for n in range(2500)]
    submit(producer, *ids)
    settle("2499")
    text = connection.hget(contract.results_key("default"), "2499")
    connection.hset(
        contract.results_key("default"),
        mapping={id_: text.replace(b'"id":"2499"', b'"id":"%d"' % int(id_)) for id_ in ids},
    )
    assert list(producer.wait(ids, timeout=0)) == ids


def test_completions_come_in_their_order(producer: Producer, connection: redis.Redis, settle: Settle) -> None:
    submit(producer, "a", "b", "c")
    settle("c")
    completed = producer.as_completed(["a", "b", "c"], timeout=60)
    assert next(completed).id == "c"
    settle("b")
    assert next(completed).id == "b"
    settle("a")
    assert [result.id for result in completed] == ["a"]


def test_another_collection_is_waited_for_apart(producer: Producer, settle: Settle) -> None:
    submit(producer, "a", collection="holidays")
    settle("a", collection="holidays")
    with pytest.raises(WaitTimeout):
        producer.wait(["a"], timeout=0)
    assert producer.wait(["a"], collection="holidays", timeout=0)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_time_that_cannot_be_waited_for_is_refused(producer: Producer, timeout: float) -> None:
    with pytest.raises(ConfigurationError):
        producer.wait(["a"], timeout=timeout)


def test_results_of_some_ids_come_in_their_order(producer: Producer, settle: Settle) -> None:
    submit(producer, "a", "b", "c")
    settle("a")
    settle("b")
    assert [result.id for result in producer.results(["b", "c", "a"])] == ["b", "a"]


@pytest.mark.parametrize("count", [3, 1500])
def test_results_of_a_collection_are_all_there_once(
    producer: Producer, connection: redis.Redis, settle: Settle, count: int
) -> None:
    submit(producer, "x")
    settle("x")
    text = connection.hget(contract.results_key("default"), "x")
    ids = {str(n) for n in range(count)}
    connection.hset(
        contract.results_key("default"),
        mapping={id_: text.replace(b'"id":"x"', b'"id":"%s"' % id_.encode()) for id_ in ids},
    )
    assert sorted(result.id for result in producer.results()) == sorted(ids | {"x"})


def test_a_collection_without_results_is_empty(producer: Producer) -> None:
    assert list(producer.results()) == []


def test_a_result_that_cannot_be_read_is_a_contract_error(producer: Producer, connection: redis.Redis) -> None:
    connection.hset(contract.results_key("default"), "a", "no result")
    with pytest.raises(ContractError):
        list(producer.results())


def test_the_result_of_one_image_is_none_until_it_is_there(producer: Producer, settle: Settle) -> None:
    submit(producer, "a")
    before = producer.result("a")
    settle("a")
    after = producer.result("a")
    assert before is None
    assert after is not None


def test_results_cannot_be_changed(producer: Producer, settle: Settle) -> None:
    submit(producer, "a")
    settle("a")
    with pytest.raises(AttributeError):
        producer.wait(["a"])["a"].status = Status.ERROR


def test_progress_counts_every_state(producer: Producer, settle: Settle) -> None:
    submit(producer, "a", "b", "c", "d")
    settle("a")
    settle("b")
    settle("c", Status.ERROR)
    assert producer.progress() == Progress(accepted=4, pending=1, ok=2, error=1)


def test_progress_of_an_unknown_collection_is_zero(producer: Producer) -> None:
    assert producer.progress("holidays") == Progress(accepted=0, pending=0, ok=0, error=0)
