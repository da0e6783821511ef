"""What RQ 3 has in a Redis, of whatever application: plain reads, nothing is unpickled and nothing is cleaned up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import redis
from redis.exceptions import NoPermissionError

from imagequeue.contract import RQ_KEY_PREFIX, job_key, queue_key
from imagequeue.parts import batches

REGISTRIES: Final[Mapping[str, str]] = {
    "started": "wip", "finished": "finished", "failed": "failed", "deferred": "deferred", "scheduled": "scheduled",
    "canceled": "canceled",
}  # fmt: skip
"""Status of a job -> the name of its registry in keys."""


@dataclass(frozen=True, slots=True)
class RqQueue:
    """One queue: jobs by status, the age of the one at its head in seconds, and how many workers serve it."""

    name: str
    jobs: Mapping[str, int]
    oldest_seconds: float
    workers: int


@dataclass(frozen=True, slots=True)
class RqState:
    """All of it. `workers`: how many are in which state; those that have died are in none."""

    queues: tuple[RqQueue, ...]
    workers: Mapping[str, int]
    suspended: bool


def read_rq(connection: redis.Redis, now: float) -> RqState:
    """Read it in four round trips, whatever the number of queues; `now` is Redis' clock."""
    first = connection.pipeline(transaction=False)
    first.smembers(f"{RQ_KEY_PREFIX}:queues")
    first.smembers(f"{RQ_KEY_PREFIX}:workers")
    first.exists(f"{RQ_KEY_PREFIX}:suspended")
    queue_keys, worker_keys, suspended = first.execute()
    names = sorted(key.decode("utf-8", "replace").removeprefix(queue_key("")) for key in queue_keys)
    states, serving = _read_workers(connection, sorted(worker_keys))
    return RqState(_read_queues(connection, names, serving, now), states, bool(suspended))


def _read_queues(
    connection: redis.Redis, names: Sequence[str], serving: Mapping[str, int], now: float
) -> tuple[RqQueue, ...]:
    pipeline = connection.pipeline(transaction=False)
    for name in names:
        pipeline.llen(queue_key(name))
        pipeline.lindex(queue_key(name), 0)
        for registry in REGISTRIES.values():
            pipeline.zcard(f"{RQ_KEY_PREFIX}:{registry}:{name}")
    rows = list(batches(_answers(pipeline), 2 + len(REGISTRIES)))
    heads = [_text(row[1]) for row in rows]
    ages = _ages(connection, heads, now)
    return tuple(
        RqQueue(
            name,
            {"queued": _count(length), **dict(zip(REGISTRIES, map(_count, counts), strict=True))},
            ages[head],
            serving.get(name, 0),
        )
        for name, head, (length, _, *counts) in zip(names, heads, rows, strict=True)
    )


def _ages(connection: redis.Redis, heads: Sequence[str], now: float) -> dict[str, float]:
    """The ages of jobs in seconds, by id."""
    jobs = sorted({head for head in heads if head})
    pipeline = connection.pipeline(transaction=False)
    for job in jobs:
        pipeline.hmget(job_key(job), "enqueued_at", "created_at")
    ages = {"": 0.0}
    for job, fields in zip(jobs, _answers(pipeline), strict=True):
        stamps = [_unix(field) for field in fields if field] if isinstance(fields, list) else []
        ages[job] = max(0.0, now - stamps[0]) if stamps else 0.0
    return ages


def _read_workers(connection: redis.Redis, keys: Sequence[bytes]) -> tuple[dict[str, int], Counter[str]]:
    """How many workers are in which state, and how many serve which queue."""
    pipeline = connection.pipeline(transaction=False)
    for key in keys:
        pipeline.hmget(key, "queues", "state", "death")
        pipeline.scard(b"%s:executions" % key)
    states = dict.fromkeys(("started", "idle", "busy", "suspended"), 0)
    serving: Counter[str] = Counter()
    for fields, executions in batches(_answers(pipeline), 2):
        if not isinstance(fields, list) or fields[0] is None or fields[2] is not None:
            continue  # its hash has expired, or it has taken its leave
        # A batch worker's state does not flip with every batch: what it holds tells.
        state = "busy" if _count(executions) else _text(fields[1])
        if state in states:
            states[state] += 1
        serving.update(_text(fields[0]).split(","))
    return states, serving


def _answers(pipeline: Any) -> list[Any]:  # noqa: ANN401  redis-py's stubs know no pipeline of a client of bytes
    """The answers, errors as values: a damaged key of one queue hides no other's numbers. A right that lacks does."""
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, NoPermissionError):
            raise answer
    return answers


def _count(answer: Any) -> int:  # noqa: ANN401  a number, or the error of a damaged key
    return answer if isinstance(answer, int) else 0


def _text(answer: Any) -> str:  # noqa: ANN401
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else ""


def _unix(stamp: bytes) -> float:
    """RQ's `2026-11-24T05:37:12.659817Z` as Unix seconds; 0 when it is none."""
    try:
        return datetime.fromisoformat(stamp.decode()).timestamp()
    except ValueError:
        return 0.0
