"""What waits, how far every collection is, and who works. Plain commands only: nothing is unpickled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import redis

from imagequeue import contract
from imagequeue.contract import QUEUES, RQ_KEY_PREFIX
from imagequeue.link import Link
from imagequeue.reading import read_progress


class QueueState(msgspec.Struct, frozen=True):
    """One queue: `images` accepted and without result, `jobs` in its list, and whether it is paused."""

    name: str
    images: int
    jobs: int
    paused: bool


class CollectionState(msgspec.Struct, frozen=True):
    """One collection, in images: `accepted == pending + ok + error`."""

    name: str
    accepted: int
    pending: int
    ok: int
    error: int


class WorkerState(msgspec.Struct, frozen=True):
    """One worker that is alive; `images_per_second` is None until it has measured itself."""

    name: str
    state: str
    images_per_second: float | None


class QueueStatus(msgspec.Struct, frozen=True):
    """All of it. `images_per_second` is the sum over the workers that are alive."""

    queues: tuple[QueueState, ...]
    collections: tuple[CollectionState, ...]
    workers: tuple[WorkerState, ...]
    images_per_second: float


def read_status(link: Link) -> QueueStatus:
    """Read queues, collections and workers, each at one instant; raise RedisUnavailable or RedisRefused."""
    workers = tuple(_workers(link))
    return QueueStatus(
        queues=_queues(link),
        collections=tuple(_collections(link)),
        workers=workers,
        images_per_second=sum(worker.images_per_second or 0.0 for worker in workers),
    )


def _queues(link: Link) -> tuple[QueueState, ...]:
    def send(client: redis.Redis) -> list[Any]:
        transaction = client.pipeline(transaction=True)
        transaction.hmget(contract.WAITING_KEY, QUEUES)
        transaction.smembers(contract.PAUSED_KEY)
        for queue in QUEUES:
            transaction.llen(contract.queue_key(queue))
        return transaction.execute()

    waiting, paused, *jobs = link.call(send)
    return tuple(
        QueueState(name=queue, images=int(images or 0), jobs=length, paused=queue.encode() in paused)
        for queue, images, length in zip(QUEUES, waiting, jobs, strict=True)
    )


def _collections(link: Link) -> Iterator[CollectionState]:
    names = link.call(lambda client: client.smembers(contract.COLLECTIONS_KEY))
    for name in sorted(name.decode() for name in names):
        progress = read_progress(link, name)
        yield CollectionState(name, progress.accepted, progress.pending, progress.ok, progress.error)


def _workers(link: Link) -> Iterator[WorkerState]:
    """RQ's workers on our queues: Redis may serve others too."""
    prefix = f"{RQ_KEY_PREFIX}:worker:"
    keys = sorted(key.decode() for key in link.call(lambda client: client.smembers(f"{RQ_KEY_PREFIX}:workers")))
    rates = link.call(lambda client: client.hgetall(contract.RATES_KEY))

    def send(client: redis.Redis) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.hmget(key, ["queues", "state", "death"])
        return pipeline.execute()

    for key, (queues, state, death) in zip(keys, link.call(send), strict=True):
        if queues is not None and death is None and set(queues.decode().split(",")) & set(QUEUES):
            name = key.removeprefix(prefix)
            yield WorkerState(name, (state or b"?").decode(), _rate(rates.get(name.encode())))


def _rate(text: bytes | None) -> float | None:
    """The first word of `rate unix_time`, or None: another version of the worker may write something else."""
    try:
        rate = float((text or b"").split()[0])
    except (ValueError, IndexError):
        return None
    return rate if math.isfinite(rate) else None
