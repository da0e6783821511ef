"""The one function that a job may name.

`BatchWorker` never calls it: it reads requests itself. A stock `rq worker -S json` calls it, one job at a time, and
gives the same results through the same gate, only slower. Its net is loaded with the first job and kept for as long as
the process lives: use `--worker-class rq.SimpleWorker`, since RQ's default forks, and loads, for every job. It isolates
nothing and tries nothing again: what it cannot fetch is an error at once, since nobody may be there to promote a retry.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import redis
from rq import get_current_job

from imagequeue.contract import TASK, job_key, pending_key
from imagequeue.errors import ContractError
from imagequeue_worker.batch_worker import make_pipeline, worker_name
from imagequeue_worker.jobs import Lease, TakenJob, count, image_row
from imagequeue_worker.nets import load_found_nets
from imagequeue_worker.pipeline import Pipeline
from imagequeue_worker.progress import Progress
from imagequeue_worker.protocol import Protocol
from imagequeue_worker.settings import Settings


def classify(*, request: dict[str, Any]) -> dict[str, int]:
    """Classify the images of a request that the current RQ job owns; how many ended `ok` and `error`.

    Raises ContractError when no RQ job is running, or when its request breaks the contract: the images have their error
    results then, and RQ files the job as failed.
    """
    job = get_current_job()
    if job is None:
        raise ContractError("classify runs inside an RQ job; use `imagequeue-worker classify` for files")
    connection: redis.Redis = job.connection
    data = msgspec.json.encode((TASK, None, (), {"request": request}))
    taken = _taken(connection, Lease(job.origin, job.id, ""), data)
    pipeline = _pipeline(connection)
    (finished,) = pipeline.classify(pipeline.prepare([taken]))
    if finished.outcomes:
        rows = [cell for outcome in finished.outcomes for cell in image_row(outcome, finished.request)]
        _protocol(connection).settle(job.origin, job.id, taken.collection, rows)
    if finished.failure:
        raise ContractError(finished.failure)
    return count(finished.outcomes)


def _taken(connection: redis.Redis, lease: Lease, data: bytes) -> TakenJob:
    """What take would have said about this job."""
    hash_key = job_key(lease.job)
    fields: list[Any] = connection.hmget(hash_key, "collection", "ids", "submitted_at")
    collection, ids, submitted_at = ((value or b"").decode() for value in fields)
    attempt = int(connection.hincrby(hash_key, "attempts", 1))
    accepted = [id_ for id_ in ids.split("\n") if id_]
    owners = connection.hmget(pending_key(collection), accepted) if accepted else []
    owner = f"{lease.queue}|{lease.job}".encode()
    seconds, microseconds = connection.time()
    now = seconds + microseconds / 1e6
    return TakenJob(
        lease=lease,
        attempt=attempt,
        losses=0,
        collection=collection,
        submitted_at=float(submitted_at or now),
        taken_at=now,
        forbidden=False,
        data=data,
        ids=tuple(id_ for id_, found in zip(accepted, owners, strict=True) if found == owner),
    )


@cache
def _settings() -> Settings:
    return Settings.from_environment()


@cache
def _pipeline(connection: redis.Redis) -> Pipeline:
    settings = _settings()
    nets = load_found_nets(settings)
    return make_pipeline(nets, settings, worker_name(), Progress(), connection, raise_memory_errors=False)


def _protocol(connection: redis.Redis) -> Protocol:
    settings = _settings()
    return Protocol(
        connection, "", settings.queues, lease_seconds=settings.lease_seconds, result_ttl=settings.result_ttl
    )
