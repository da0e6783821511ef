"""AsyncProducer: the same names and semantics as Producer, in an event loop."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis

from imagequeue import (
    AsyncProducer,
    Image,
    ImageQueueError,
    Producer,
    Progress,
    QueueFull,
    RedisUnavailable,
    WaitTimeout,
    contract,
)
from imagequeue.errors import ConfigurationError
from imagequeue.feeds import FEW_IDS
from imagequeue_worker.embedded_redis import EmbeddedRedis
from producer_hand import Settle, settler

T = TypeVar("T")
PATIENT_SECONDS = 60


@pytest.fixture
def in_loop(redis_url: str, connection: redis.Redis) -> Callable[..., Any]:
    """Run `body(producer)` in an event loop, with a producer that is closed afterwards."""

    def run(body: Callable[[AsyncProducer], Coroutine[Any, Any, T]], **settings: Any) -> T:
        async def main() -> T:
            async with AsyncProducer(redis_url, **settings) as producer:
                return await asyncio.wait_for(body(producer), PATIENT_SECONDS)

        return asyncio.run(main())

    return run


async def until(holds: Callable[[], object | Awaitable[object]]) -> None:
    """Return when it holds; whoever waits for ever is ended by the test's own time limit."""
    while not holds():
        await asyncio.sleep(0.005)


async def collected(stream: AsyncIterator[T]) -> list[T]:
    return [item async for item in stream]


def images(*ids: str) -> list[Image]:
    return [Image(id_, f"/pictures/{id_}.jpg") for id_ in ids]


def readers(client: redis.Redis) -> int:
    """Connections that are blocked on a stream."""
    return client.info("clients")["blocked_clients"]


# --- the same names -----------------------------------------------------------------------------------------


def public(kind: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(kind, callable) if not name.startswith("_")}


def test_both_producers_have_the_same_names() -> None:
    assert public(Producer).keys() == public(AsyncProducer).keys()


@pytest.mark.parametrize("name", sorted(public(Producer).keys() - {"close"}))
def test_both_producers_take_the_same_and_say_the_same(name: str) -> None:
    ours, theirs = public(Producer)[name], public(AsyncProducer)[name]
    assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters
    assert ours.__doc__ == theirs.__doc__
    assert ours.__doc__


def test_iterators_of_the_producer_are_none_of_asyncio() -> None:
    returned = {name: str(inspect.signature(value).return_annotation) for name, value in public(Producer).items()}
    assert returned["stream"] == "Iterator[Result]"
    assert not [name for name, annotation in returned.items() if "Async" in annotation]


def test_both_producers_accept_the_same_settings() -> None:
    ours, theirs = (inspect.signature(kind).parameters for kind in (Producer, AsyncProducer))
    assert ours.keys() == theirs.keys() - {"connections"}


# --- submitting and reading ---------------------------------------------------------------------------------


def test_an_image_goes_in_and_its_result_comes_out(in_loop, settle: Settle) -> None:
    async def body(producer: AsyncProducer) -> None:
        receipt = await producer.submit("/pictures/a.jpg", id="a")
        assert receipt.accepted
        waiting = asyncio.create_task(producer.wait(["a"]))
        await asyncio.sleep(0)
        settle("a")
        assert (await waiting)["a"].classes[0].label == "tabby, tabby cat"
        assert (await producer.result("a")).id == "a"
        assert [result.id for result in await collected(producer.results())] == ["a"]
        assert await producer.progress() == Progress(accepted=1, pending=0, ok=1, error=0)

    in_loop(body)


def test_many_go_in_from_either_kind_of_iterable(in_loop) -> None:
    async def references() -> AsyncIterator[str]:
        for number in range(40):
            await asyncio.sleep(0)
            yield f"/{number}"

    async def body(producer: AsyncProducer) -> None:
        first = await producer.submit_many(references())
        second = await producer.submit_many(f"/{number}" for number in range(40))
        assert (first.accepted, second.known) == (40, 40)
        parts = await collected(producer.submit_chunks(references(), collection="other"))
        assert [part.accepted for part in parts] == [16, 16, 8]

    in_loop(body)


def test_calls_at_once_share_the_connections(in_loop, connection: redis.Redis) -> None:
    async def body(producer: AsyncProducer) -> None:
        before = connection.info("clients")["connected_clients"]
        receipts = await asyncio.gather(*(producer.submit(f"/{number}") for number in range(200)))
        assert sum(receipt.accepted for receipt in receipts) == 200
        assert connection.info("clients")["connected_clients"] - before <= 4

    in_loop(body, connections=4)


def test_a_full_queue_is_waited_for(in_loop, settle: Settle, connection: redis.Redis) -> None:
    async def body(producer: AsyncProducer) -> None:
        await producer.submit("/a", id="a")
        with pytest.raises(QueueFull, match="limit 1"):
            await producer.submit("/b", on_full="raise")
        waiting = asyncio.create_task(producer.submit("/b"))
        await asyncio.sleep(0)
        settle("a")
        assert (await waiting).accepted

    in_loop(body, depth_limit=1)


def test_an_operator_can_do_everything(in_loop, settle: Settle) -> None:
    async def body(producer: AsyncProducer) -> None:
        blob = await producer.upload(b"picture")
        await producer.submit_many([*images("a", "b"), blob])
        settle("a", contract.Status.ERROR, dead=True)
        assert [letter.id for letter in await collected(producer.dead_letters())] == ["a"]
        assert (await producer.requeue()).accepted == 1
        settle("a", contract.Status.ERROR, dead=True)
        assert await producer.discard(["a"]) == 1
        assert await producer.pause("classify-low")
        assert await producer.resume("classify-low")
        assert await producer.cancel(["b"]) == 1
        assert await producer.cancel_collection("default") == 1
        assert await producer.drop("default") == 3
        assert (await producer.status()).collections == ()
        assert {finding.check for finding in (await producer.diagnose()).findings} >= {"version", "clock"}

    in_loop(body)


def test_a_durable_submission_is_confirmed_or_refused_as_the_producers(tmp_path: Path) -> None:
    async def main(url: str) -> None:
        async with AsyncProducer(url) as producer:
            submission = await producer.submit_many(images(*map(str, range(40))), durable=True)
            assert submission.accepted == 40

    with EmbeddedRedis(tmp_path / "redis", durable=True) as server:
        asyncio.run(main(server.url))


# --- waiting ------------------------------------------------------------------------------------------------


def test_a_thousand_wait_on_one_reader(in_loop, settle: Settle, connection: redis.Redis) -> None:
    ids = [str(number) for number in range(1000)]

    async def body(producer: AsyncProducer) -> None:
        await producer.submit_many(images(*ids), chunk=64)
        waiting = [asyncio.create_task(producer.wait([id_])) for id_ in ids]
        await until(lambda: readers(connection) == 1)
        for id_ in ids:
            settle(id_)
            if int(id_) % 50 == 0:
                await asyncio.sleep(0)
                assert readers(connection) <= 1
        found = await asyncio.gather(*waiting)
        assert [next(iter(results)) for results in found] == ids
        assert connection.info("clients")["connected_clients"] < 20

    in_loop(body, connections=8)


def test_waits_that_began_at_different_times_miss_nothing(in_loop, settle: Settle, connection: redis.Redis) -> None:
    ids = [str(number) for number in range(300)]

    async def wait_for(producer: AsyncProducer, id_: str) -> str:
        await asyncio.sleep(random.random() / 2)
        return (await producer.wait([id_]))[id_].id

    async def body(producer: AsyncProducer) -> None:
        await producer.submit_many(images(*ids), chunk=64)
        waiting = [asyncio.create_task(wait_for(producer, id_)) for id_ in ids]
        for id_ in ids:
            settle(id_)
            await asyncio.sleep(random.random() / 400)
        assert await asyncio.gather(*waiting) == ids

    in_loop(body)


def test_one_who_waits_for_very_many_is_told_by_the_same_reader(in_loop, settle: Settle, connection) -> None:
    ids = [str(number) for number in range(FEW_IDS + 1)]

    async def body(producer: AsyncProducer) -> None:
        await producer.submit_many(images(*ids), chunk=64)
        waiting = [asyncio.create_task(producer.wait(ids)), asyncio.create_task(producer.wait(ids[-1:]))]
        await until(lambda: readers(connection) == 1)
        for id_ in ids:
            settle(id_)
        everything, last = await asyncio.gather(*waiting)
        assert (list(everything), list(last)) == (ids, ids[-1:])

    in_loop(body)


def test_two_collections_have_a_reader_each(in_loop, settle: Settle, connection: redis.Redis) -> None:
    async def body(producer: AsyncProducer) -> None:
        for collection in ("cats", "dogs"):
            await producer.submit_many(images("a"), collection=collection)
        cats, dogs = (asyncio.create_task(producer.wait(["a"], collection=name)) for name in ("cats", "dogs"))
        await until(lambda: readers(connection) == 2)
        settle("a", collection="dogs")
        await dogs
        assert not cats.done()
        settle("a", contract.Status.ERROR, collection="cats")
        assert (await cats)["a"].status == "error"

    in_loop(body)


def test_results_come_as_they_are_finished(in_loop, settle: Settle) -> None:
    async def body(producer: AsyncProducer) -> None:
        await producer.submit_many(images("a", "b", "c"))
        seen = []
        settle("c")
        async for result in producer.as_completed(["a", "b", "c"]):
            seen.append(result.id)
            if len(seen) < 3:
                settle("ba"[len(seen) - 1])
        assert seen == ["c", "b", "a"]

    in_loop(body)


def test_a_wait_that_is_too_short_carries_what_is_there(in_loop, settle: Settle) -> None:
    async def body(producer: AsyncProducer) -> None:
        await producer.submit_many(images("a", "b"))
        settle("b")
        with pytest.raises(WaitTimeout) as caught:
            await producer.wait(["a", "b"], timeout=0.2)
        assert (list(caught.value.results), caught.value.missing) == (["b"], ("a",))

    in_loop(body)


def test_a_wait_finds_what_a_trimmed_stream_has_forgotten(in_loop, settle: Settle, connection: redis.Redis) -> None:
    key = contract.completed_key("default")

    async def body(producer: AsyncProducer) -> None:
        await producer.submit_many(images("a", "b"))
        settle("b")
        waiting = asyncio.create_task(producer.wait(["a"]))
        await until(lambda: readers(connection) == 1)
        with connection.pipeline(transaction=True) as together:  # the reader sees both or none
            together.xadd(key, {"id": "z", "status": "ok"})
            together.xtrim(key, maxlen=0)
            together.execute()
        settle("a")
        assert list(await waiting) == ["a"]

    in_loop(body)


# --- bad times ----------------------------------------------------------------------------------------------


def test_everything_goes_on_after_a_restart(tmp_path: Path) -> None:
    async def main(server: EmbeddedRedis) -> None:
        async with AsyncProducer(server.url) as producer:
            await producer.submit_many(images("a", "b"))
            waiting = [asyncio.create_task(producer.wait([id_])) for id_ in "ab"]
            with redis.Redis.from_url(server.url) as client:
                await until(lambda: readers(client) == 1)
            await asyncio.to_thread(server.kill)
            late = asyncio.create_task(producer.submit("/c", id="c"))
            await asyncio.sleep(0.1)
            await asyncio.to_thread(server.start)
            assert (await late).accepted
            with redis.Redis.from_url(server.url) as client:
                for id_ in "abc":
                    settler(client)(id_)
            await asyncio.gather(*waiting)
            assert await producer.progress() == Progress(accepted=3, pending=0, ok=3, error=0)

    with EmbeddedRedis(tmp_path / "redis", durable=True) as server:
        asyncio.run(asyncio.wait_for(main(server), PATIENT_SECONDS))


def test_a_cancelled_call_leaves_no_answer_to_another(in_loop, settle: Settle) -> None:
    """Whoever gets its connection next must get its own answer."""
    ids = [str(number) for number in range(50)]

    async def body(producer: AsyncProducer) -> None:
        await producer.submit_many(images(*ids))
        for id_ in ids[:-1]:
            settle(id_)
        for _ in range(200):
            calls = [
                asyncio.create_task(producer.result(random.choice(ids[:-1]))),
                asyncio.create_task(producer.progress()),
                asyncio.create_task(producer.submit("/new", id="0")),
                asyncio.create_task(producer.wait([ids[-1]])),
            ]
            await asyncio.sleep(random.random() / 1000)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            id_ = random.choice(ids[:-1])
            assert (await producer.result(id_)).id == id_
            assert (await producer.progress()).accepted == len(ids)

    in_loop(body, connections=2)


def test_a_cancelled_wait_does_not_disturb_the_others(in_loop, settle: Settle, connection: redis.Redis) -> None:
    async def body(producer: AsyncProducer) -> None:
        await producer.submit_many(images("a"))
        first, second = (asyncio.create_task(producer.wait(["a"])) for _ in range(2))
        await until(lambda: readers(connection) == 1)
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        settle("a")
        assert list(await second) == ["a"]

    in_loop(body)


def test_closing_ends_the_waits_with_an_error(redis_url: str, connection: redis.Redis) -> None:
    async def main() -> None:
        producer = AsyncProducer(redis_url)
        await producer.submit("/a", id="a")
        waiting = asyncio.create_task(producer.wait(["a"]))
        await until(lambda: readers(connection) == 1)
        await producer.close()
        with pytest.raises(ImageQueueError, match="closed"):
            await waiting

    asyncio.run(asyncio.wait_for(main(), PATIENT_SECONDS))


def test_a_closed_producer_can_be_used_again(redis_url: str, connection: redis.Redis, settle: Settle) -> None:
    async def main() -> None:
        producer = AsyncProducer(redis_url)
        await producer.submit("/a", id="a")
        settle("a")
        await producer.close()
        assert list(await producer.wait(["a"])) == ["a"]
        await producer.close()

    asyncio.run(main())


def test_all_who_wait_are_told_that_redis_is_gone(tmp_path: Path) -> None:
    async def main(server: EmbeddedRedis) -> None:
        async with AsyncProducer(server.url, patience=0.2) as producer:
            waiting = [asyncio.create_task(producer.wait([id_])) for id_ in "abc"]
            with redis.Redis.from_url(server.url) as client:
                await until(lambda: readers(client) == 1)
            server.kill()
            errors = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(error) for error in errors] == [RedisUnavailable] * 3

    with EmbeddedRedis(tmp_path / "redis") as server:
        asyncio.run(asyncio.wait_for(main(server), PATIENT_SECONDS))


@pytest.mark.parametrize(
    "settings",
    [
        {"redis_url": "http://x"},
        {"depth_limit": 0},
        {"patience": -1},
        {"connections": 0},
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings: dict) -> None:
    with pytest.raises(ConfigurationError):
        AsyncProducer(**settings)
