"""What the tests of the protocol share: submitting, answering, damaging keys, and the queue's invariant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from imagequeue import Producer, contract
from imagequeue.contract import ClassScore, ErrorCode, Failure, Image, Outcome, Status
from imagequeue_worker.jobs import FinishedJob, Lease, TakenJob, image_row
from imagequeue_worker.protocol import Protocol

QUEUE = "classify"
COLLECTION = contract.DEFAULT_COLLECTION
LEASE_SECONDS = 9.0
RQ = contract.RQ_KEY_PREFIX
RESULT_TTL = 3600

# --- submitting ---------------------------------------------------------------------------------------------


def ref_of(id_: str) -> str:
    return f"/pictures/{id_}.jpg"


def submit(producer: Producer, *ids: str, chunk: int = 64, **options: Any) -> None:
    """Submit images by id, `chunk` images per job."""
    producer.submit_many([Image(id_, ref_of(id_)) for id_ in ids], chunk=chunk, **options)


def queued(connection: redis.Redis, queue: str = QUEUE) -> list[str]:
    """The job ids of a queue, head first."""
    return [job.decode() for job in connection.lrange(contract.queue_key(queue), 0, -1)]


def put_in_front(connection: redis.Redis, job: str) -> None:
    """Also an id that does not belong there."""
    connection.lpush(contract.queue_key(QUEUE), job)


def job_of(connection: redis.Redis, id_: str, collection: str = COLLECTION) -> str:
    """The job that owns a pending image."""
    return connection.hget(contract.pending_key(collection), id_).decode().partition("|")[2]


def field(connection: redis.Redis, job: str, name: str) -> str | None:
    """A field of a job's hash."""
    value = connection.hget(contract.job_key(job), name)
    return None if value is None else value.decode()


def pending(connection: redis.Redis, collection: str = COLLECTION) -> set[str]:
    return {id_.decode() for id_ in connection.hkeys(contract.pending_key(collection))}


def results(connection: redis.Redis, collection: str = COLLECTION) -> dict[str, contract.Result]:
    found = connection.hgetall(contract.results_key(collection))
    return {id_.decode(): contract.decode_result(text) for id_, text in found.items()}


def code_of(connection: redis.Redis, id_: str, collection: str = COLLECTION) -> str | None:
    """The error code of an image's result; None when it is `ok`."""
    error = results(connection, collection)[id_].error
    return error.code if error else None


# --- a worker's answers -------------------------------------------------------------------------------------


def ids_of(jobs: Sequence[TakenJob]) -> list[list[str]]:
    return [list(job.ids) for job in jobs]


def ok(taken: TakenJob, id_: str) -> Outcome:
    return Outcome(
        id=id_,
        ref=ref_of(id_),
        status=Status.OK,
        classes=(ClassScore(281, "n02123045", "tabby, tabby cat", 0.75),),
        worker="w1",
        attempt=taken.attempt,
        submitted_at=taken.submitted_at,
    )


def error(taken: TakenJob, id_: str, code: ErrorCode = ErrorCode.NOT_FOUND) -> Outcome:
    return Outcome(
        id=id_,
        ref=ref_of(id_),
        status=Status.ERROR,
        error=Failure(code.value, "nothing is there"),
        worker="w1",
        attempt=taken.attempt,
        submitted_at=taken.submitted_at,
    )


def answer(taken: TakenJob) -> FinishedJob:
    """All images of a job are `ok`."""
    return FinishedJob(taken, [ok(taken, id_) for id_ in taken.ids], taken.request() if taken.ids else None)


def answer_errors(taken: TakenJob, code: ErrorCode) -> FinishedJob:
    """All images of a job end with this error; the job itself does not fail."""
    return FinishedJob(taken, [error(taken, id_, code) for id_ in taken.ids], taken.request())


def answer_failed(taken: TakenJob, reason: str = "malformed_request: it makes no sense") -> FinishedJob:
    """The job itself fails, and its images with it."""
    outcomes = [error(taken, id_, ErrorCode.MALFORMED_REQUEST) for id_ in taken.ids]
    return FinishedJob(taken, outcomes, failure=reason)


def rows(taken: TakenJob) -> list[Any]:
    """What `settle` is given for a job whose images are all `ok`."""
    request = taken.request()
    return [cell for id_ in taken.ids for cell in image_row(ok(taken, id_), request)]


# --- leases -------------------------------------------------------------------------------------------------


def member(lease: Lease) -> str:
    """How RQ's registries name a lease."""
    return f"{lease.job}:{lease.execution}"


def lease_score(connection: redis.Redis, lease: Lease) -> float | None:
    return connection.zscore(f"{RQ}:wip:{lease.queue}", member(lease))


def end_leases(connection: redis.Redis, *leases: Lease) -> None:
    """Move the ends of leases far into the past, as if their worker had been silent."""
    for lease in leases:
        connection.zadd(f"{RQ}:wip:{lease.queue}", {member(lease): 1.0}, xx=True)


def drain(protocol: Protocol) -> None:
    """Take and answer until nothing is left."""
    while jobs := protocol.take(64).jobs:
        protocol.finish([answer(job) for job in jobs])


# --- the law ------------------------------------------------------------------------------------------------


def check_invariants(connection: redis.Redis, *, resubmitted: bool = False) -> None:
    """What holds at every instant, for every collection. `resubmitted`: some images have run more than once."""
    waiting: Counter[str] = Counter()
    for collection in map(bytes.decode, connection.smembers(contract.COLLECTIONS_KEY)):
        check_collection(connection, collection, resubmitted=resubmitted)
        for owner in connection.hvals(contract.pending_key(collection)):
            waiting[owner.decode().partition("|")[0]] += 1
    counted = connection.hgetall(contract.WAITING_KEY)
    assert {queue.decode(): int(count) for queue, count in counted.items() if int(count)} == dict(waiting)


def check_collection(connection: redis.Redis, collection: str, *, resubmitted: bool = False) -> None:
    totals = {key.decode(): int(n) for key, n in connection.hgetall(contract.totals_key(collection)).items()}
    waits, done = pending(connection, collection), results(connection, collection)
    assert totals.get("accepted", 0) == len(waits) + totals.get("ok", 0) + totals.get("error", 0)
    assert not waits & done.keys(), "an image is pending and has a result"
    completions = Counter(
        (entry[b"id"].decode(), id_.decode()) for id_, entry in connection.xrange(contract.completed_key(collection))
    )
    published = Counter((id_, result.entry) for id_, result in done.items())
    if resubmitted:  # the completions of earlier runs stay
        assert published <= completions
    else:
        assert published == completions
    assert completions.total() == totals.get("ok", 0) + totals.get("error", 0)
    assert max(completions.values(), default=1) == 1


def everything(connection: redis.Redis) -> dict[bytes, Any]:
    """All of Redis, key by key, without expiry."""
    return {key: value_of(connection, key) for key in connection.scan_iter()}


def value_of(connection: redis.Redis, key: bytes) -> Any:
    match connection.type(key):
        case b"hash":
            return connection.hgetall(key)
        case b"list":
            return connection.lrange(key, 0, -1)
        case b"set":
            return connection.smembers(key)
        case b"zset":
            return connection.zrange(key, 0, -1, withscores=True)
        case b"stream":
            return connection.xrange(key)
        case _:
            return connection.get(key)


def fields_expire(connection: redis.Redis) -> bool:
    """Whether the server knows the expiry of hash fields: Valkey 9 does, Redis 6.2 and 7.0 do not."""
    (known,) = connection.execute_command("COMMAND INFO", "HPEXPIREAT")
    return known is not None


@contextmanager
def damaged(connection: redis.Redis, key: str) -> Iterator[None]:
    """The key holds a string that nobody expects; afterwards it is as it was."""
    before = connection.dump(key)
    connection.set(key, "of another type")
    try:
        yield
    finally:
        connection.delete(key)
        if before is not None:
            connection.restore(key, 0, before)
