"""Results out of Redis: by id, all of a collection, or as they come."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import redis

from imagequeue import contract
from imagequeue.contract import Result, Status
from imagequeue.errors import WaitTimeout
from imagequeue.link import Link

IDS_PER_CALL = 1_000  # about 1 MB of results; bounds memory here and the time that Redis is held
BLOCK_SECONDS = 5.0  # below the link's socket timeout

Entry = tuple[int, int]
"""A stream id: milliseconds and sequence."""

START: Entry = (0, 0)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a collection is, in images: `accepted == pending + ok + error` at every instant.

    All but `pending` count since the collection began, results that have expired since included.
    """

    accepted: int
    pending: int
    ok: int
    error: int


def read_progress(link: Link, collection: str) -> Progress:
    """Count a collection, at one instant."""

    def send(client: redis.Redis) -> list[Any]:
        transaction = client.pipeline(transaction=True)
        transaction.hlen(contract.pending_key(collection))
        transaction.hmget(contract.totals_key(collection), ["accepted", Status.OK, Status.ERROR])
        return transaction.execute()

    pending, totals = link.call(send)
    accepted, ok, error = (int(total or 0) for total in totals)
    return Progress(accepted=accepted, pending=pending, ok=ok, error=error)


def read_results(link: Link, collection: str, ids: Iterable[str]) -> Iterator[Result]:
    """The results of those ids that have one, in the order given; raise ContractError if unreadable."""
    for batch in _batches(ids):
        for text in _texts(link, collection, batch):
            if text is not None:
                yield contract.decode_result(text)


def read_all(link: Link, collection: str) -> Iterator[Result]:
    """Every result of a collection, in no order; results written meanwhile may be missing.

    Remembers the ids: HSCAN may name a field twice while the hash grows. Raises ContractError.
    """
    seen: set[bytes] = set()
    cursor: int | None = None
    while cursor != 0:
        cursor, found = _scan(link, collection, cursor or 0)
        for id_, text in found.items():
            if id_ not in seen:
                seen.add(id_)
                yield contract.decode_result(text)


def completions(link: Link, collection: str, ids: Iterable[str], timeout: float | None) -> Iterator[Result]:
    """The result of each id once, as they come; raise WaitTimeout when the time is over before all are there.

    The stream's end is noted before the hash is read, so nothing falls between the two. The hash is read
    again when the stream no longer holds what came after the last entry seen: trimmed, or set back by a
    failover.
    """
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    missing = dict.fromkeys(ids)
    cursor = _end(link, collection)
    finished = list(missing)
    while True:
        for result in read_results(link, collection, finished):
            del missing[result.id]
            yield result
        if not missing:
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise WaitTimeout(
                f"{len(missing)} images have no result after {timeout:g} s; they stay accepted: wait longer, "
                "or see that workers run (`imagequeue status`)",
                tuple(missing),
            )
        news = _news(link, collection, cursor, left)
        finished = [id_ for id_ in news.ids if id_ in missing] if news.complete else list(missing)
        cursor = news.cursor


@dataclass(frozen=True, slots=True)
class News:
    """The ids that the stream names after a cursor, and the next cursor. Not `complete`: read the hash."""

    ids: tuple[str, ...]
    cursor: Entry
    complete: bool


def _news(link: Link, collection: str, after: Entry, seconds: float) -> News:
    """Wait for entries after `after`; return without any after some seconds."""
    key = contract.completed_key(collection)
    block = math.ceil(min(seconds, BLOCK_SECONDS) * 1000)

    def send(client: redis.Redis) -> list[Any]:
        # One round trip, and no transaction: inside of one nothing blocks.
        pipeline = client.pipeline(transaction=False)
        pipeline.xread({key: f"{after[0]}-{after[1]}"}, count=IDS_PER_CALL, block=block)
        pipeline.xrange(key, count=1)
        pipeline.xrevrange(key, count=1)
        return pipeline.execute()

    read, first, last = link.call(send, within=seconds)
    if _first_of(first) > after or _first_of(last) < after:
        return News((), _first_of(last), complete=False)
    entries = read[0][1] if read else []
    ids = tuple(fields[b"id"].decode() for _, fields in entries if b"id" in fields)
    return News(ids, _entry(entries[-1][0]) if entries else after, complete=True)


def _end(link: Link, collection: str) -> Entry:
    return _first_of(link.call(lambda client: client.xrevrange(contract.completed_key(collection), count=1)))


def _first_of(entries: list[Any]) -> Entry:
    return _entry(entries[0][0]) if entries else START


def _entry(text: bytes) -> Entry:
    milliseconds, sequence = text.split(b"-")
    return int(milliseconds), int(sequence)


def _texts(link: Link, collection: str, ids: list[str]) -> list[bytes | None]:
    return link.call(lambda client: client.hmget(contract.results_key(collection), ids))


def _scan(link: Link, collection: str, cursor: int) -> tuple[int, dict[bytes, bytes]]:
    key = contract.results_key(collection)
    answer: tuple[int, dict[bytes, bytes]] = link.call(lambda client: client.hscan(key, cursor, count=IDS_PER_CALL))
    return answer


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for id_ in ids:
        batch.append(id_)
        if len(batch) == IDS_PER_CALL:
            yield batch
            batch = []
    if batch:
        yield batch
