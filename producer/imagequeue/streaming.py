"""The completion stream of a collection: what is new after an entry, and results in the order they were published."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import redis

from imagequeue import contract
from imagequeue.bridge import answered
from imagequeue.contract import Result
from imagequeue.errors import ConfigurationError, ContractError
from imagequeue.link import BaseLink, Client
from imagequeue.parts import batches, read_fields, scan

ENTRIES_PER_CALL = 1_000  # about 1 MB of results; bounds memory here and the time that Redis is held
BLOCK_SECONDS = 5.0  # below the link's socket timeout

Entry = tuple[int, int]
"""A stream id: milliseconds and sequence."""

START: Entry = (0, 0)


@dataclass(frozen=True, slots=True)
class News:
    """What a collection's stream holds after a cursor: ids by entry, oldest first, and the next cursor.

    Not `complete`: the stream no longer holds all that came after the cursor (trimmed), or has never held the cursor
    (set back by a failover, or begun anew). Then `cursor` is its last entry, and the results hash has the rest.
    """

    ids: dict[Entry, str]
    cursor: Entry
    complete: bool


class _Stamp(msgspec.Struct, frozen=True):
    """Of a result, only when it was published."""

    entry: str


_stamp_decoder = msgspec.json.Decoder(_Stamp)


async def published(
    link: BaseLink, collection: str, from_id: str | None, timeout: float | None
) -> AsyncIterator[Result]:
    """Each result as it is published, from the first after `from_id` on; None is what is published after the start.

    Ends when none has come for `timeout` seconds. Results that were replaced or have expired meanwhile do not come:
    a resubmitted image comes again when it is finished again.
    """
    cursor = await stream_end(link, collection) if from_id is None else as_entry(from_id)
    idle_since = time.monotonic()
    done: set[Entry] = set()  # of a stream that was set back: entries that its cursor will meet again
    while True:
        left = math.inf if timeout is None else max(idle_since + timeout - time.monotonic(), 0.0)
        news = await read_news(link, collection, cursor, left)
        fresh = news.ids
        if not news.complete:
            met = await _entries_after(link, collection, min(cursor, news.cursor))
            if news.cursor < cursor:
                fresh = {at: id_ for at, id_ in met.items() if at > cursor and at not in done}
                done |= met.keys()
            else:  # what was published during the scan is in the stream as well, and comes from there
                fresh = {at: id_ for at, id_ in met.items() if at <= news.cursor and at not in done}
        elif done:
            fresh = {at: id_ for at, id_ in fresh.items() if at not in done}
        cursor = news.cursor
        async for result in _results(link, collection, fresh):
            yield result
            idle_since = time.monotonic()
        if left <= 0 and news.complete and not news.ids:
            return


async def read_news(link: BaseLink, collection: str, after: Entry, seconds: float) -> News:
    """The entries after `after`; when there are none yet, wait for the first, `seconds` or BLOCK_SECONDS at most.

    Redis may be away for no longer than `seconds` then; with 0, which does not wait, for as long as patience lasts.
    """
    key = contract.completed_key(collection)
    block = math.ceil(min(seconds, BLOCK_SECONDS) * 1000) or None  # to Redis, 0 is for ever

    async def send(client: Client) -> tuple[Any, Any, Any]:
        # One round trip, and no transaction: inside of one nothing blocks.
        pipeline = client.pipeline(transaction=False)
        pipeline.xread({key: f"{after[0]}-{after[1]}"}, count=ENTRIES_PER_CALL, block=block)
        pipeline.xrange(key, count=1)
        pipeline.xinfo_stream(key)
        read, first, info = await answered(pipeline.execute(raise_on_error=False))
        for answer in (read, first):
            if isinstance(answer, redis.RedisError):
                raise answer
        return read, first, _existing(info)

    read, first, info = await link.ask(send, within=seconds or math.inf, blocks=True)
    last = _last_of(info)
    # Redis 7 and Valkey count what was ever added: a stream that has lost nothing is complete from its beginning.
    untrimmed = "entries-added" in info and info["entries-added"] == info["length"]
    oldest = START if untrimmed else _entry(first[0][0]) if first else last
    if not oldest <= after <= last:
        return News({}, last, complete=False)
    entries = read[0][1] if read else []
    ids = {_entry(entry): fields[b"id"].decode() for entry, fields in entries if b"id" in fields}
    return News(ids, _entry(entries[-1][0]) if entries else after, complete=True)


async def stream_end(link: BaseLink, collection: str) -> Entry:
    """The last entry that the stream has ever had."""

    async def send(client: Client) -> Entry:
        pipeline = client.pipeline(transaction=False)
        pipeline.xinfo_stream(contract.completed_key(collection))
        (info,) = await answered(pipeline.execute(raise_on_error=False))
        return _last_of(_existing(info))

    end: Entry = await link.ask(send)
    return end


def as_entry(text: str) -> Entry:
    """The stream id that a reader goes on from: a result's `entry`, or "0"; raise ConfigurationError if it is none."""
    milliseconds, _, sequence = text.partition("-")
    if not (milliseconds.isdecimal() and (sequence or "0").isdecimal()):
        raise ConfigurationError(
            f"from_id is {text!r}; give the `entry` of a result, '0' for all, or None for new ones"
        )
    return int(milliseconds), int(sequence or 0)


async def _entries_after(link: BaseLink, collection: str, after: Entry) -> dict[Entry, str]:
    """The ids of all results that were published after an entry, by entry, oldest first."""
    found: dict[Entry, str] = {}
    async for part in scan(link, contract.results_key(collection), ENTRIES_PER_CALL):
        for id_, text in part.items():
            try:
                entry = as_entry(_stamp_decoder.decode(text).entry)
            except (msgspec.MsgspecError, ConfigurationError) as error:
                raise ContractError(f"the result of {id_[:80]!r} cannot be read: {error}") from error
            if entry > after:
                found[entry] = id_.decode()
    return dict(sorted(found.items()))


async def _results(link: BaseLink, collection: str, ids: dict[Entry, str]) -> AsyncIterator[Result]:
    """The results that are still those of their entries, in order."""
    key = contract.results_key(collection)
    for batch in batches(ids.items(), ENTRIES_PER_CALL):
        texts = await read_fields(link, key, [id_ for _, id_ in batch])
        for (entry, _), text in zip(batch, texts, strict=True):
            result = None if text is None else contract.decode_result(text)
            if result is not None and as_entry(result.entry) == entry:
                yield result


def _existing(info: Any) -> dict[str, Any]:  # noqa: ANN401  XINFO's answer, or its error
    """What XINFO says; nothing of a stream that does not exist."""
    if isinstance(info, redis.ResponseError) and "no such key" in str(info):
        return {}
    if isinstance(info, redis.RedisError):
        raise info
    known: dict[str, Any] = info
    return known


def _last_of(info: dict[str, Any]) -> Entry:
    return _entry(info["last-generated-id"]) if info else START


def _entry(text: bytes) -> Entry:
    milliseconds, sequence = text.split(b"-")
    return int(milliseconds), int(sequence)
