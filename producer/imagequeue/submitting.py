"""Chunks into Redis: one call of a script accepts a chunk as one RQ job, whole or not at all."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from imagequeue import contract
from imagequeue.connection import backoff
from imagequeue.contract import Image, Request
from imagequeue.durability import Durability, check_replicas, confirm
from imagequeue.errors import BlobMissing, ConfigurationError, ContractError, QueueFull
from imagequeue.link import Link
from imagequeue.orders import Order
from imagequeue.scripts import script_text

BLOB_SECONDS = 86_400  # uploaded bytes outlive what their image may spend in the queue
JOB_TIMEOUT_SECONDS = 3_600  # for a stock RQ worker; ours has leases
JOB_RESULT_SECONDS = 60  # RQ's return value only; the images' results live in their own hash
JOB_FAILURE_SECONDS = 86_400
JOB_RETRIES = 2  # without any, RQ's cleanup fails a job whose worker died

OUT_OF_MEMORY = -1
_BLOB = re.compile(r"blob:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to a chunk: the job that carries it, and for each id, in order, whether it is new."""

    job: str
    new: dict[str, bool]


class Submitter:
    """Sends chunks over a link and keeps each queue within `depth_limit` images."""

    def __init__(self, link: Link, depth_limit: int) -> None:
        if depth_limit < 1:
            raise ConfigurationError(f"depth_limit is {depth_limit} images; must be 1 or more")
        self._link = link
        self._depth_limit = depth_limit
        self._durability = Durability()
        names = ("submit", "resubmit", "requeue")
        self._scripts = {name: link.client.register_script(script_text(name)) for name in names}

    def submit(self, images: tuple[Image, ...], order: Order) -> Accepted:
        """Get a chunk accepted, waiting for room when the order says so.

        Raises QueueFull, BlobMissing, ContractError, DurabilityUnavailable, RedisUnavailable or RedisRefused; nothing
        of it is accepted then, except that the last three may hide an acceptance: submitting the chunk again tells.
        """
        chunk: dict[str, Image] = {}
        for image in images:
            chunk.setdefault(image.id, image)
        return self._accept("resubmit" if order.resubmit else "submit", chunk, order, list(chunk))

    def requeue(self, images: Mapping[str, Image], entries: Sequence[str], order: Order) -> Accepted:
        """Get dead letters accepted again; `entries` are those of their results, in the images' order.

        Raises as `submit` does.
        """
        return self._accept(
            "requeue", images, order, [cell for pair in zip(images, entries, strict=True) for cell in pair]
        )

    def _accept(self, script: str, chunk: Mapping[str, Image], order: Order, rows: list[str]) -> Accepted:
        # Chosen once: however often the call is sent, it is one job.
        job = contract.new_job_id()
        keys = keys_of(chunk, job, order, dead=script != "submit")
        arguments = [*arguments_of(chunk, job, order, self._depth_limit), *rows]
        deadline = math.inf if order.timeout is None else time.monotonic() + order.timeout
        pauses = backoff()
        while True:
            verdict, detail = self._link.call(lambda client: self._send(client, script, keys, arguments, order))
            if verdict == b"accepted":
                return Accepted(job, {id_: new == ord("1") for id_, new in zip(chunk, detail, strict=True)})
            if verdict == b"blob_missing":
                sha256 = detail.decode().rpartition(":")[2]
                raise BlobMissing(f"the bytes of blob:{sha256} are not in Redis (any more); upload them again")
            pause = next(pauses)
            if order.on_full == "raise" or time.monotonic() + pause > deadline:
                raise QueueFull(self._why_full(detail, len(chunk), order.queue))
            time.sleep(pause)

    def _send(
        self, client: redis.Redis, script: str, keys: list[str], arguments: list[Any], order: Order
    ) -> tuple[bytes, Any]:
        try:
            if order.durable:
                return self._send_durably(client, script, keys, arguments, order)
            verdict, detail = self._scripts[script](keys=keys, args=arguments)
        except redis.ResponseError as error:
            # Memory is a limit like the depth: workers that drain the queue make room. (Redis 6.2 wraps the
            # error.)
            if isinstance(error, redis.OutOfMemoryError) or "OOM" in str(error):
                return b"full", OUT_OF_MEMORY
            raise
        return verdict, detail

    def _send_durably(
        self, client: redis.Redis, script: str, keys: list[str], arguments: list[Any], order: Order
    ) -> tuple[bytes, Any]:
        """All on one connection: Redis syncs what the connection that asks has written."""
        with client.client() as single:
            evidence = self._durability.evidence(single)
            check_replicas(single, order.replicas)
            verdict, detail = self._scripts[script](keys=keys, args=arguments, client=single)
            if verdict == b"accepted":
                confirm(single, evidence, order.collection, order.replicas, self._link.patience)
        return verdict, detail

    def _why_full(self, waiting: int, new: int, queue: str) -> str:
        if waiting == OUT_OF_MEMORY:
            return "Redis has no memory for another chunk; add memory or workers, or submit later"
        return (
            f"{queue} holds {waiting} images and has no room for {new} more (limit {self._depth_limit}); "
            "add workers, raise depth_limit, or submit later"
        )


def keys_of(chunk: Mapping[str, Image], job: str, order: Order, *, dead: bool = False) -> list[str]:
    """KEYS, as the heads of submit.lua and, with `dead`, of resubmit.lua and requeue.lua name them."""
    return [
        contract.pending_key(order.collection),
        contract.totals_key(order.collection),
        contract.WAITING_KEY,
        contract.COLLECTIONS_KEY,
        f"{contract.RQ_KEY_PREFIX}:queues",
        contract.queue_key(order.queue),
        contract.job_key(job),
        f"{contract.RQ_KEY_PREFIX}:results:{job}",
        *([contract.dead_key(order.collection)] if dead else []),
        *dict.fromkeys(_blob_key(image) for image in chunk.values() if image.ref.startswith("blob:")),
    ]


def arguments_of(chunk: Mapping[str, Image], job: str, order: Order, depth_limit: int) -> list[Any]:
    """ARGV without the ids, as the head of accept.lua names it."""
    request = Request(
        images=tuple(chunk.values()),
        collection=order.collection,
        model=order.model,
        top_k=order.top_k,
        expires_in=order.expires_in,
    )
    images = "1 image" if len(chunk) == 1 else f"{len(chunk)} images"
    return [
        contract.results_key(order.collection),
        order.queue,
        job,
        order.collection,
        order.model or "",
        depth_limit,
        "" if order.expires_in is None else f"{order.expires_in:.6f}",
        BLOB_SECONDS,
        JOB_TIMEOUT_SECONDS,
        JOB_RESULT_SECONDS,
        JOB_FAILURE_SECONDS,
        JOB_RETRIES,
        f"classify {images} of {order.collection}",
        contract.encode_job(request),
    ]


def _blob_key(image: Image) -> str:
    named = _BLOB.fullmatch(image.ref)
    if named is None:
        raise ContractError(f"reference {image.ref[:80]!r} is no blob; write blob: and 64 hexadecimal digits")
    return contract.blob_key(named[1])
