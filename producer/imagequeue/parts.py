"""What is too much for one call, part by part: ids in batches, hashes by their cursor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from imagequeue.link import Link

T = TypeVar("T")


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut a stream into lists of at most `size`."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


def scan(link: Link, key: str, count: int) -> Iterator[dict[bytes, bytes]]:
    """A hash, part by part. A field that stays throughout comes at least once; it may come twice."""
    cursor: int | None = None
    while cursor != 0:
        cursor, found = _scan(link, key, cursor or 0, count)
        yield found


def _scan(link: Link, key: str, cursor: int, count: int) -> tuple[int, dict[bytes, bytes]]:
    answer: tuple[int, dict[bytes, bytes]] = link.call(lambda client: client.hscan(key, cursor, count=count))
    return answer
