"""submit.lua accepts a chunk whole or not at all, once, and keeps accepted = pending + ok + error."""

from __future__ import annotations

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagequeue import contract
from imagequeue.contract import Image, Status
from imagequeue.orders import Order
from producer_hand import Settle, submit

QUEUE = "classify"


def everything(client: redis.Redis) -> dict[bytes, object]:
    """All of Redis, key by key (without expiry; a hash's fields have no order)."""
    readers = {
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"list": lambda key: client.lrange(key, 0, -1),
        b"stream": client.xrange,
        b"string": client.get,
    }
    return {key: readers[client.type(key)](key) for key in client.scan_iter()}


def balance(client: redis.Redis, collection: str = "default") -> tuple[int, int]:
    """(accepted, pending + ok + error): equal at every instant."""
    totals = client.hgetall(contract.totals_key(collection))
    settled = sum(int(totals.get(status.encode(), 0)) for status in Status)
    return int(totals.get(b"accepted", 0)), client.hlen(contract.pending_key(collection)) + settled


def waiting(client: redis.Redis) -> int:
    return int(client.hget(contract.WAITING_KEY, QUEUE) or 0)


def test_new_images_are_pending_and_owned_by_their_job(connection: redis.Redis) -> None:
    assert submit(connection, ["a", "b"], job="iq-1") == [b"accepted", b"11"]
    assert connection.hgetall(contract.pending_key("default")) == {
        b"a": b"classify|iq-1",
        b"b": b"classify|iq-1",
    }


def test_an_accepted_job_is_at_the_end_of_its_queue(connection: redis.Redis) -> None:
    submit(connection, ["a"], job="iq-1")
    submit(connection, ["b"], job="iq-2")
    assert connection.lrange(contract.queue_key(QUEUE), 0, -1) == [b"iq-1", b"iq-2"]


def test_rq_knows_the_queue(connection: redis.Redis) -> None:
    submit(connection, ["a"])
    assert connection.smembers(f"{contract.RQ_KEY_PREFIX}:queues") == {contract.queue_key(QUEUE).encode()}


def test_the_collection_is_listed(connection: redis.Redis) -> None:
    submit(connection, ["a"], order=Order("holidays"))
    assert connection.smembers(contract.COLLECTIONS_KEY) == {b"holidays"}


def test_accepted_images_are_counted_as_waiting(connection: redis.Redis) -> None:
    submit(connection, ["a", "b", "c"])
    assert waiting(connection) == 3


def test_a_pending_image_is_known(connection: redis.Redis) -> None:
    submit(connection, ["a"])
    assert submit(connection, ["a", "b"]) == [b"accepted", b"01"]


def test_an_image_with_a_result_is_known(connection: redis.Redis, settle: Settle) -> None:
    submit(connection, ["a"])
    settle("a")
    assert submit(connection, ["a"]) == [b"accepted", b"0"]


def test_a_chunk_of_known_images_writes_nothing(connection: redis.Redis, settle: Settle) -> None:
    submit(connection, ["a", "b"])
    settle("a")
    before = everything(connection)
    submit(connection, ["a", "b"])
    assert everything(connection) == before


def test_a_job_owns_only_what_was_new(connection: redis.Redis) -> None:
    submit(connection, ["a"], job="iq-1")
    submit(connection, ["a", "b", "c"], job="iq-2")
    assert connection.hmget(contract.job_key("iq-2"), "ids", "images") == [b"b\nc", b"2"]


def test_the_same_id_in_another_collection_is_another_image(connection: redis.Redis) -> None:
    submit(connection, ["a"])
    assert submit(connection, ["a"], order=Order("holidays")) == [b"accepted", b"1"]


def test_a_call_sent_again_gets_the_same_answer(connection: redis.Redis) -> None:
    submit(connection, ["a"])
    first = submit(connection, ["a", "b"], job="iq-2")
    assert submit(connection, ["a", "b"], job="iq-2") == first == [b"accepted", b"01"]


def test_a_call_sent_again_changes_nothing(connection: redis.Redis) -> None:
    submit(connection, ["a", "b"], job="iq-1")
    before = everything(connection)
    submit(connection, ["a", "b"], job="iq-1")
    assert everything(connection) == before


def test_a_call_sent_again_after_its_images_are_done_gets_the_same_answer(
    connection: redis.Redis, settle: Settle
) -> None:
    first = submit(connection, ["a", "b"], job="iq-1")
    settle("a")
    settle("b", Status.ERROR)
    assert submit(connection, ["a", "b"], job="iq-1") == first


@pytest.mark.parametrize(("present", "new"), [(1, 10), (9, 2), (10, 1)])
def test_a_chunk_beyond_the_limit_is_refused_and_nothing_is_written(
    connection: redis.Redis, present: int, new: int
) -> None:
    submit(connection, [f"old{n}" for n in range(present)])
    before = everything(connection)
    assert submit(connection, [f"new{n}" for n in range(new)], limit=10) == [b"full", present]
    assert everything(connection) == before


def test_a_chunk_that_reaches_the_limit_exactly_is_accepted(connection: redis.Redis) -> None:
    submit(connection, ["a"])
    assert submit(connection, ["b", "c"], limit=3)[0] == b"accepted"


def test_any_chunk_fits_an_empty_queue(connection: redis.Redis) -> None:
    assert submit(connection, [str(n) for n in range(64)], limit=1)[0] == b"accepted"


def test_known_images_need_no_room(connection: redis.Redis) -> None:
    submit(connection, ["a", "b"])
    assert submit(connection, ["a", "b", "c"], limit=3) == [b"accepted", b"001"]


def test_each_queue_has_its_own_room(connection: redis.Redis) -> None:
    submit(connection, ["a", "b"], limit=2)
    assert submit(connection, ["c"], order=Order(priority="high"), limit=2) == [b"accepted", b"1"]


SHA256 = "ab" * 32
BLOB = Image("a", f"blob:{SHA256}")


def test_a_blob_that_is_missing_is_refused_and_nothing_is_written(connection: redis.Redis) -> None:
    assert submit(connection, [BLOB, "b"]) == [b"blob_missing", contract.blob_key(SHA256).encode()]
    assert everything(connection) == {}


def test_a_blob_lives_for_a_day_from_its_submission(connection: redis.Redis) -> None:
    connection.set(contract.blob_key(SHA256), b"bytes", ex=10)
    submit(connection, [BLOB])
    assert 86_300 < connection.ttl(contract.blob_key(SHA256)) <= 86_400


def test_a_blob_that_lives_longer_keeps_its_life(connection: redis.Redis) -> None:
    connection.set(contract.blob_key(SHA256), b"bytes", ex=10**6)
    submit(connection, [BLOB])
    assert connection.ttl(contract.blob_key(SHA256)) > 86_400


def test_a_blob_that_never_expires_stays_so(connection: redis.Redis) -> None:
    connection.set(contract.blob_key(SHA256), b"bytes")
    submit(connection, [BLOB])
    assert connection.ttl(contract.blob_key(SHA256)) == -1


WRITTEN_OR_READ = [
    contract.pending_key("default"),
    contract.results_key("default"),
    contract.totals_key("default"),
    contract.WAITING_KEY,
    contract.COLLECTIONS_KEY,
    f"{contract.RQ_KEY_PREFIX}:queues",
    contract.queue_key(QUEUE),
]


@pytest.mark.parametrize("key", WRITTEN_OR_READ)
def test_a_key_of_another_type_leaves_everything_as_it_was(connection: redis.Redis, key: str) -> None:
    connection.set(key, "something else")
    before = everything(connection)
    with pytest.raises(redis.ResponseError):
        submit(connection, ["a"])
    assert everything(connection) == before


def test_a_leftover_of_the_same_job_id_does_not_shine_through(connection: redis.Redis) -> None:
    connection.hset(contract.job_key("iq-1"), mapping={"expires_at": "1", "status": "finished"})
    submit(connection, ["a"], job="iq-1")
    assert connection.hmget(contract.job_key("iq-1"), "expires_at", "status") == [None, b"queued"]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5, unique=True)),
        st.tuples(st.just("settle"), st.sampled_from(Status)),
        st.tuples(st.just("resend"), st.none()),
    ),
    max_size=12,
)


@given(steps=steps, limit=st.integers(1, 8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_accepted_is_pending_and_ok_and_error_after_every_step(
    connection: redis.Redis, settle: Settle, steps: list, limit: int
) -> None:
    connection.flushdb()
    last = (["a"], contract.new_job_id())
    for step, what in steps:
        if step == "submit":
            last = (what, contract.new_job_id())
        if step == "settle":
            for id_ in list(connection.hkeys(contract.pending_key("default")))[:1]:
                settle(id_.decode(), what)
        else:
            submit(connection, last[0], job=last[1], limit=limit)
        accepted, settled = balance(connection)
        assert accepted == settled
        assert waiting(connection) == connection.hlen(contract.pending_key("default"))
