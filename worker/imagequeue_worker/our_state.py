"""What our own queues and collections hold, beyond the backlog: for the exporter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from imagequeue.contract import (
    COLLECTIONS_KEY,
    PAUSED_KEY,
    RQ_KEY_PREFIX,
    WAITING_KEY,
    dead_key,
    pending_key,
    totals_key,
)
from imagequeue.parts import batches

RQ_GRACE_SECONDS = 60.0  # a lease's entry stands so long beyond its end (lease.lua)


@dataclass(frozen=True, slots=True)
class OurQueue:
    """One queue: images accepted and without result, leases, and those of them whose end is past."""

    name: str
    waiting_images: int
    leases: int
    overdue_leases: int
    paused: bool


@dataclass(frozen=True, slots=True)
class OurCollection:
    """One collection, in images."""

    name: str
    accepted: int
    ok: int
    error: int
    pending: int
    dead: int


def read_queues(connection: redis.Redis, queues: Sequence[str], now: float) -> list[OurQueue]:
    """The queues, in one round trip; `now` is Redis' clock."""
    pipeline = connection.pipeline(transaction=False)
    pipeline.hmget(WAITING_KEY, queues)
    pipeline.smembers(PAUSED_KEY)
    for queue in queues:
        wip = f"{RQ_KEY_PREFIX}:wip:{queue}"
        pipeline.zcard(wip)
        pipeline.zcount(wip, "-inf", now + RQ_GRACE_SECONDS)
    waiting, paused, *leases = pipeline.execute()
    rows = zip(queues, waiting, batches(leases, 2), strict=True)
    return [
        OurQueue(queue, int(images or 0), held, overdue, queue.encode() in paused)
        for queue, images, (held, overdue) in rows
    ]


def queues_with_images(connection: redis.Redis) -> list[str]:
    """Every queue that has ever had images of ours."""
    answer: Any = connection.hkeys(WAITING_KEY)
    return sorted(name.decode() for name in answer)


def read_collections(connection: redis.Redis, at_most: int) -> tuple[int, list[OurCollection]]:
    """How many collections there are, and what the first ones hold, by name."""
    answer: Any = connection.smembers(COLLECTIONS_KEY)
    names = sorted(name.decode() for name in answer)
    pipeline = connection.pipeline(transaction=False)
    for name in names[:at_most]:
        pipeline.hmget(totals_key(name), "accepted", "ok", "error")
        pipeline.hlen(pending_key(name))
        pipeline.hlen(dead_key(name))
    rows = batches(pipeline.execute(), 3)
    return len(names), [
        OurCollection(name, int(accepted or 0), int(ok or 0), int(error or 0), pending, dead)
        for name, ((accepted, ok, error), pending, dead) in zip(names, rows, strict=False)
    ]
