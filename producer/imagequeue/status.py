"""What waits, how far every collection is, and who works. Plain commands only: nothing is unpickled."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from imagequeue import contract
from imagequeue.contract import QUEUES, RQ_KEY_PREFIX
from imagequeue.link import BaseLink, Client
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
    queues: tuple[str, ...] = ()


class QueueStatus(msgspec.Struct, frozen=True):
    """All of it. `images_per_second` is the sum over the workers that are alive."""

    queues: tuple[QueueState, ...]
    collections: tuple[CollectionState, ...]
    workers: tuple[WorkerState, ...]
    images_per_second: float


async def read_status(link: BaseLink) -> QueueStatus:
    """Read the workers, then the queues at one instant, then each collection at one.

    Raises RedisUnavailable or RedisRefused.
    """
    workers = tuple([worker async for worker in _workers(link)])
    return QueueStatus(
        queues=await _queues(link),
        collections=tuple([collection async for collection in _collections(link)]),
        workers=workers,
        images_per_second=sum(worker.images_per_second or 0.0 for worker in workers),
    )


async def _queues(link: BaseLink) -> tuple[QueueState, ...]:
    def send(client: Client) -> Any:  # noqa: ANN401
        transaction = client.pipeline(transaction=True)
        transaction.hmget(contract.WAITING_KEY, QUEUES)
        transaction.smembers(contract.PAUSED_KEY)
        for queue in QUEUES:
            transaction.llen(contract.queue_key(queue))
        return transaction.execute()

    waiting, paused, *jobs = await link.ask(send)
    return tuple(
        QueueState(name=queue, images=int(images or 0), jobs=length, paused=queue.encode() in paused)
        for queue, images, length in zip(QUEUES, waiting, jobs, strict=True)
    )


async def _collections(link: BaseLink) -> AsyncIterator[CollectionState]:
    names = await link.ask(lambda client: client.smembers(contract.COLLECTIONS_KEY))
    for name in sorted(name.decode() for name in names):
        progress = await read_progress(link, name)
        yield CollectionState(name, progress.accepted, progress.pending, progress.ok, progress.error)


async def _workers(link: BaseLink) -> AsyncIterator[WorkerState]:
    """RQ's workers on our queues: Redis may serve others too."""
    prefix = f"{RQ_KEY_PREFIX}:worker:"
    names = await link.ask(lambda client: client.smembers(f"{RQ_KEY_PREFIX}:workers"))
    keys = sorted(name.decode() for name in names)
    rates = await link.ask(lambda client: client.hgetall(contract.RATES_KEY))

    def send(client: Client) -> Any:  # noqa: ANN401
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.hmget(key, ["queues", "state", "death"])
        return pipeline.execute()

    for key, (queues, state, death) in zip(keys, await link.ask(send), strict=True):
        served = () if queues is None or death is not None else tuple(queues.decode().split(","))
        if set(served) & set(QUEUES):
            name = key.removeprefix(prefix)
            yield WorkerState(name, (state or b"?").decode(), _rate(rates.get(name.encode())), served)


def _rate(text: bytes | None) -> float | None:
    """The first word of `rate unix_time`, or None: another version of the worker may write something else."""
    try:
        rate = float((text or b"").split()[0])
    except (ValueError, IndexError):
        return None
    return rate if math.isfinite(rate) else None
