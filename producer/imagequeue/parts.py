"""What is too much for one call, part by part: items in batches, hashes by some fields or by their cursor."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from imagequeue.link import BaseLink

T = TypeVar("T")

Items = Iterable[T] | AsyncIterable[T]
"""What the core takes many of; `Producer` is given iterables, `AsyncProducer` asynchronous ones as well."""


async def each(items: Items[T]) -> AsyncIterator[T]:
    """The items one by one, of either kind of iterable."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut a stream into lists of at most `size`."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


async def batches_of(items: Items[T], size: int) -> AsyncIterator[list[T]]:
    """The same for either kind of iterable."""
    batch: list[T] = []
    async for item in each(items):
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


async def read_fields(link: BaseLink, key: str, names: Sequence[str]) -> list[bytes | None]:
    """These fields of a hash, in their order; None where there is none. Not too many: Redis does nothing else."""
    return await link.ask(lambda client: client.hmget(key, names)) if names else []


async def scan(link: BaseLink, key: str, count: int) -> AsyncIterator[dict[bytes, bytes]]:
    """A hash, part by part. A field that stays throughout comes at least once; it may come twice."""
    cursor: int | None = None
    while cursor != 0:
        cursor, found = await _scan(link, key, cursor or 0, count)
        yield found


async def _scan(link: BaseLink, key: str, cursor: int, count: int) -> tuple[int, dict[bytes, bytes]]:
    answer: tuple[int, dict[bytes, bytes]] = await link.ask(lambda client: client.hscan(key, cursor, count=count))
    return answer
