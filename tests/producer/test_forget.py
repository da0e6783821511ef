"""`Producer.forget`: what goes from Redis, and what stays."""

from __future__ import annotations

import pytest
import redis

from imagequeue import ConfigurationError, Image, Producer, Progress, RedisRefused, contract
from producer_hand import Settle

RESULTS, COMPLETED = contract.results_key("default"), contract.completed_key("default")


@pytest.fixture
def three(producer: Producer, settle: Settle) -> list[contract.Result]:
    """Three results, in the order of their publication."""
    producer.submit_many([Image(id_, f"/{id_}") for id_ in "abc"])
    for id_ in "abc":
        settle(id_)
    return list(producer.results(["a", "b", "c"]))


def test_results_go_and_stay_counted(producer: Producer, three: list[contract.Result]) -> None:
    assert producer.forget(three[:2], three[1].entry) == 2
    assert [result.id for result in producer.results()] == ["c"]
    assert producer.progress() == Progress(accepted=3, pending=0, ok=3, error=0)


def test_the_completion_entries_before_go_and_a_reader_goes_on_from_there(
    producer: Producer, connection: redis.Redis, three: list[contract.Result]
) -> None:
    producer.forget(three[:2], three[1].entry)
    assert [entry.decode() for entry, _ in connection.xrange(COMPLETED)] == [result.entry for result in three[1:]]
    assert list(producer.stream(from_id=three[1].entry, timeout=0)) == [three[2]]


def test_a_result_that_has_been_replaced_stays(
    producer: Producer, settle: Settle, three: list[contract.Result]
) -> None:
    producer.submit("/a", id="a", resubmit=True)
    settle("a")
    assert producer.forget(three[:1], three[0].entry) == 0
    assert producer.result("a") is not None


def test_forgetting_twice_is_forgetting_once(producer: Producer, three: list[contract.Result]) -> None:
    assert [producer.forget(three, three[2].entry) for _ in range(2)] == [3, 0]


def test_what_was_forgotten_can_be_submitted_once_more(producer: Producer, three: list[contract.Result]) -> None:
    producer.forget(three, three[2].entry)
    assert producer.submit("/a", id="a").accepted


def test_keys_of_another_type_are_left_alone(
    producer: Producer, connection: redis.Redis, three: list[contract.Result]
) -> None:
    connection.delete(COMPLETED)
    connection.set(COMPLETED, "text")
    with pytest.raises(RedisRefused, match="not a stream; nothing was written"):
        producer.forget(three, three[2].entry)
    assert connection.hlen(RESULTS) == 3


def test_an_entry_that_is_none_is_refused(producer: Producer, three: list[contract.Result]) -> None:
    with pytest.raises(ConfigurationError):
        producer.forget(three, "yesterday")


def test_more_results_than_one_call_takes_go(producer: Producer, connection: redis.Redis, settle: Settle) -> None:
    ids = [f"{number}" for number in range(1_100)]
    producer.submit_many([Image(id_, f"/{id_}") for id_ in ids])
    for id_ in ids:
        settle(id_)
    results = list(producer.results(ids))
    assert producer.forget(results, results[-1].entry) == len(ids)
    assert (connection.hlen(RESULTS), connection.xlen(COMPLETED)) == (0, 1)
