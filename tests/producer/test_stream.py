"""Producer.stream: results as they are published, resumed, of streams that were trimmed or begun anew."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import redis

from imagequeue import AsyncProducer, ContractError, Image, Producer, Result, contract
from imagequeue.connection import connect
from imagequeue.errors import ConfigurationError
from imagequeue_worker.embedded_redis import EmbeddedRedis
from producer_hand import Settle, settler, wait_for_command

COMPLETED = contract.completed_key("default")
RESULTS = contract.results_key("default")
T = TypeVar("T")

Stream = Callable[..., Iterator[Result]]


@pytest.fixture(params=["in a thread", "in an event loop"])
def stream(request: pytest.FixtureRequest, redis_url: str, producer: Producer) -> Iterator[Stream]:
    """`stream(from_id, timeout=…)` of either producer, as an iterator."""
    if request.param == "in a thread":
        yield lambda *arguments, **options: producer.stream("default", *arguments, **options)
        return
    with asyncio.Runner() as runner:
        ours = AsyncProducer(redis_url)

        def of_loop(*arguments: object, **options: object) -> Iterator[Result]:
            results = ours.stream("default", *arguments, **options)
            return drive(runner, results)

        yield of_loop
        runner.run(ours.close())


def drive(runner: asyncio.Runner, items: AsyncIterator[T]) -> Iterator[T]:
    async def step() -> T:
        return await anext(items)

    while True:
        try:
            yield runner.run(step())
        except StopAsyncIteration:
            return


def submit(producer: Producer, *ids: str, **options: object) -> None:
    producer.submit_many([Image(id_, f"/pictures/{id_}.jpg") for id_ in ids], **options)


def finish(producer: Producer, settle: Settle, *ids: str) -> None:
    submit(producer, *ids)
    for id_ in ids:
        settle(id_)


def ids_of(results: Iterator[Result]) -> list[str]:
    return [result.id for result in results]


def test_all_that_is_there_comes_in_the_order_of_its_publication(
    stream: Stream, producer: Producer, settle: Settle
) -> None:
    submit(producer, *"abcd")
    for id_ in "cadb":
        settle(id_)
    assert ids_of(stream("0", timeout=0)) == list("cadb")


def test_it_goes_on_with_what_is_published_meanwhile(stream: Stream, producer: Producer, settle: Settle) -> None:
    finish(producer, settle, "a")
    results = stream("0", timeout=60)
    assert next(results).id == "a"
    finish(producer, settle, "b", "c")
    assert [next(results).id, next(results).id] == ["b", "c"]
    finish(producer, settle, "d")
    assert next(results).id == "d"


def test_a_reader_that_waits_is_woken(producer: Producer, connection: redis.Redis, settle: Settle) -> None:
    submit(producer, "a")
    found: list[Result] = []
    with connection.monitor() as monitor:
        thread = threading.Thread(target=lambda: found.append(next(producer.stream())))
        thread.start()
        wait_for_command(monitor, "XREAD")
    settle("a")
    thread.join()
    assert ids_of(iter(found)) == ["a"]


def test_without_an_entry_only_new_results_come(stream: Stream, producer: Producer, settle: Settle) -> None:
    finish(producer, settle, "old")
    assert ids_of(stream(timeout=0)) == []


def test_it_resumes_after_the_entry_of_a_result(stream: Stream, producer: Producer, settle: Settle) -> None:
    finish(producer, settle, *"abc")
    second = list(stream("0", timeout=0))[1]
    assert ids_of(stream(second.entry, timeout=0)) == ["c"]


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_what_the_stream_has_forgotten_comes_from_the_results(
    stream: Stream, producer: Producer, connection: redis.Redis, settle: Settle, kept: int
) -> None:
    finish(producer, settle, *"abcdef")
    first = next(stream("0", timeout=0))
    connection.xtrim(COMPLETED, maxlen=kept, approximate=False)
    assert ids_of(stream(first.entry, timeout=0)) == list("bcdef")
    assert ids_of(stream("0", timeout=0)) == list("abcdef")


def test_a_stream_that_is_trimmed_under_its_reader_is_read_on(
    stream: Stream, producer: Producer, connection: redis.Redis, settle: Settle
) -> None:
    finish(producer, settle, *"ab")
    results = stream("0", timeout=60)
    assert [next(results).id, next(results).id] == ["a", "b"]
    finish(producer, settle, *"cd")
    connection.xtrim(COMPLETED, maxlen=1, approximate=False)
    finish(producer, settle, *"e")
    assert [next(results).id for _ in range(3)] == list("cde")


def test_an_idle_stream_that_ages_away_is_no_loss(
    stream: Stream, producer: Producer, connection: redis.Redis, settle: Settle
) -> None:
    finish(producer, settle, "a")
    results = stream("0", timeout=60)
    assert next(results).id == "a"
    connection.xtrim(COMPLETED, maxlen=0)
    finish(producer, settle, "b")
    assert next(results).id == "b"


def test_a_stream_that_begins_anew_is_read_from_its_beginning(
    stream: Stream, producer: Producer, connection: redis.Redis, settle: Settle
) -> None:
    finish(producer, settle, "a")
    results = stream("0", timeout=60)
    assert next(results).id == "a"
    producer.drop("default")
    finish(producer, settle, "a", "b")
    assert [next(results).id, next(results).id] == ["a", "b"]


def test_nothing_comes_twice_after_a_stream_was_set_back(
    stream: Stream, producer: Producer, connection: redis.Redis, settle: Settle
) -> None:
    # Given a reader that is ahead of a stream which has lost its tail, as after a failover
    finish(producer, settle, *"abc")
    results = stream("0", timeout=0.2)
    seen = [next(results).id for _ in range(3)]
    connection.delete(COMPLETED)
    # When more is published
    finish(producer, settle, *"de")
    # Then it comes, and what was there before does not
    assert seen + ids_of(results) == list("abcde")


def test_an_image_that_runs_again_comes_again_and_its_old_result_does_not(
    stream: Stream, producer: Producer, settle: Settle
) -> None:
    finish(producer, settle, *"ab")
    submit(producer, "a", resubmit=True)
    settle("a")
    assert ids_of(stream("0", timeout=0)) == ["b", "a"]


def test_a_result_that_has_expired_is_passed_over(
    stream: Stream, producer: Producer, connection: redis.Redis, settle: Settle
) -> None:
    finish(producer, settle, *"abc")
    connection.hdel(RESULTS, "b")
    assert ids_of(stream("0", timeout=0)) == ["a", "c"]


def test_more_results_than_one_call_reads_come_in_order(
    stream: Stream, producer: Producer, connection: redis.Redis, settle: Settle
) -> None:
    ids = [f"{number:04d}" for number in range(2100)]
    finish(producer, settle, *ids)
    assert ids_of(stream("0", timeout=0)) == ids
    connection.xtrim(COMPLETED, maxlen=1500, approximate=False)
    assert ids_of(stream("0", timeout=0)) == ids


def test_of_two_collections_each_has_its_own(producer: Producer, settle: Settle) -> None:
    for collection in ("cats", "dogs"):
        submit(producer, "a", collection=collection)
    settle("a", collection="cats")
    assert ids_of(producer.stream("cats", "0", timeout=0)) == ["a"]
    assert ids_of(producer.stream("dogs", "0", timeout=0)) == []


def test_nothing_is_missed_or_repeated_while_the_stream_is_trimmed(
    producer: Producer, connection: redis.Redis, redis_url: str
) -> None:
    ids = [f"{number:04d}" for number in range(600)]
    submit(producer, *ids)

    def finish_and_trim() -> None:
        with connect(redis_url, resend=False) as client:
            settle = settler(client)
            for number, id_ in enumerate(ids):
                settle(id_)
                if number % 7 == 0:
                    client.xtrim(COMPLETED, maxlen=number % 3, approximate=False)

    thread = threading.Thread(target=finish_and_trim)
    thread.start()
    results = producer.stream("default", "0")
    seen = [next(results).id for _ in ids]
    thread.join()
    assert seen == ids
    assert ids_of(producer.stream("default", "0", timeout=0)) == ids


def test_it_goes_on_after_a_restart(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis", durable=True) as server, Producer(server.url) as producer:
        submit(producer, "a", "b")
        with connect(server.url, resend=False) as client:
            settler(client)("a")
        results = producer.stream("default", "0")
        assert next(results).id == "a"
        server.restart()
        with connect(server.url, resend=False) as client:
            settler(client)("b")
        assert next(results).id == "b"


@pytest.mark.parametrize("from_id", ["", "a", "1-a", "-1", "1-2-3"])
def test_what_is_no_entry_is_refused(producer: Producer, from_id: str) -> None:
    with pytest.raises(ConfigurationError, match="from_id"):
        producer.stream("default", from_id)


def test_a_result_that_cannot_be_read_is_an_error(producer: Producer, connection: redis.Redis, settle: Settle) -> None:
    finish(producer, settle, "a")
    connection.hset(RESULTS, "a", "{")
    with pytest.raises(ContractError, match="cannot be read"):
        list(producer.stream("default", "0", timeout=0))


def test_leaving_a_stream_gives_its_connection_back(producer: Producer, settle: Settle) -> None:
    finish(producer, settle, *"ab")
    for result in producer.stream("default", "0"):
        assert result.id == "a"
        break
    assert producer.result("b") is not None
