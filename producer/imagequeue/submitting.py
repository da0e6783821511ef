"""Chunks into Redis: one call of a script accepts a chunk as one RQ job, whole or not at all."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import msgspec
import redis

from imagequeue import contract
from imagequeue.calling import Call, evaluate_all, evaluate_each
from imagequeue.connection import backoff
from imagequeue.contract import Image, Request
from imagequeue.durability import Durability, check_replicas, confirm
from imagequeue.errors import BlobMissing, ConfigurationError, ImageQueueError, QueueFull
from imagequeue.link import BaseLink, Client
from imagequeue.orders import Order, blob_key_of
from imagequeue.tracing import SubmissionSpan, begin_submission

BLOB_SECONDS = 86_400  # uploaded bytes outlive what their image may spend in the queue
JOB_TIMEOUT_SECONDS = 3_600  # for a stock RQ worker; ours has leases
JOB_RESULT_SECONDS = 60  # RQ's return value only; the images' results live in their own hash
JOB_FAILURE_SECONDS = 86_400
JOB_RETRIES = 2  # without any, RQ's cleanup fails a job whose worker died

OUT_OF_MEMORY = -1
_NEW = ord("1")

Answer = tuple[bytes, Any]
"""What the scripts return: `accepted` and bits, `full` and how many images wait, `blob_missing` and its key."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to a chunk: the job that carries it, and for each id, in order, whether it is new."""

    job: str
    new: dict[str, bool]


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Images on their way; the call and its job are chosen once: however often it is sent, it is one job."""

    ids: tuple[str, ...]
    job: str
    call: Call
    span: SubmissionSpan


class Submitter:
    """Sends chunks over a link and keeps each queue within `depth_limit` images."""

    def __init__(self, link: BaseLink, depth_limit: int) -> None:
        if depth_limit < 1:
            raise ConfigurationError(f"depth_limit is {depth_limit} images; must be 1 or more")
        self._link = link
        self._depth_limit = depth_limit
        self._durability = Durability()

    async def submit(self, images: tuple[Image, ...], order: Order) -> Accepted:
        """Get a chunk accepted, waiting for room when the order says so.

        Raises QueueFull, BlobMissing, ContractError, DurabilityUnavailable, RedisUnavailable or RedisRefused; nothing
        of it is accepted then, except that the last three may hide an acceptance: submitting the chunk again tells.
        """
        return await self._accept(self._chunk(images, order), order)

    async def submit_window(
        self, window: Sequence[tuple[Image, ...]], order: Order
    ) -> AsyncIterator[tuple[tuple[Image, ...], Accepted]]:
        """Get several chunks accepted in one round trip, and alone those that find no room.

        Raises as `submit` does for the first that fails, after the others.
        """
        chunks = [self._chunk(images, order) for images in window]
        with ExitStack() as spans:
            for chunk in chunks:
                spans.push(chunk.span)
            answers = await self._send([chunk.call for chunk in chunks], order)
            spans.pop_all()  # an answer is there: each chunk ends its own
        failure: ImageQueueError | None = None
        for images, chunk, answer in zip(window, chunks, answers, strict=True):
            try:
                accepted = await self._accept(chunk, order, answer)
            except ImageQueueError as error:
                failure = failure or error
                continue
            yield images, accepted
        if failure is not None:
            raise failure

    async def requeue(self, images: Mapping[str, Image], entries: Sequence[str], order: Order) -> Accepted:
        """Get dead letters accepted again; `entries` are those of their results, in the images' order.

        Raises as `submit` does.
        """
        rows = [cell for pair in zip(images, entries, strict=True) for cell in pair]
        return await self._accept(self._call("requeue", images, order, rows), order)

    def _chunk(self, images: tuple[Image, ...], order: Order) -> _Chunk:
        chunk: dict[str, Image] = {}
        for image in images:
            chunk.setdefault(image.id, image)
        return self._call("resubmit" if order.resubmit else "submit", chunk, order, list(chunk))

    def _call(self, script: str, chunk: Mapping[str, Image], order: Order, rows: list[str]) -> _Chunk:
        job = contract.new_job_id()
        keys = keys_of(chunk, job, order, dead=script != "submit")
        span = begin_submission(order.queue, order.collection, len(chunk))
        head = arguments_of(chunk, job, order, self._depth_limit, span.traceparent)
        return _Chunk(tuple(chunk), job, Call(script, keys, [*head, *rows]), span)

    async def _accept(self, chunk: _Chunk, order: Order, answer: Answer | None = None) -> Accepted:
        """Send a chunk until it is accepted; if it has been sent already, `answer` is what came."""
        with chunk.span:
            return await self._insist(chunk, order, answer)

    async def _insist(self, chunk: _Chunk, order: Order, answer: Answer | None) -> Accepted:
        deadline = math.inf if order.timeout is None else time.monotonic() + order.timeout
        pauses = backoff()
        while True:
            verdict, detail = answer or (await self._send([chunk.call], order))[0]
            if verdict == b"accepted":
                return Accepted(chunk.job, {id_: new == _NEW for id_, new in zip(chunk.ids, detail, strict=True)})
            if verdict == b"blob_missing":
                sha256 = detail.decode().rpartition(":")[2]
                raise BlobMissing(f"the bytes of blob:{sha256} are not in Redis (any more); upload them again")
            pause = next(pauses)
            if order.on_full == "raise" or time.monotonic() + pause > deadline:
                raise QueueFull(self._why_full(detail, len(chunk.ids), order.queue))
            await self._link.pause(pause)
            answer = None

    async def _send(self, calls: Sequence[Call], order: Order) -> list[Answer]:
        """The answers to calls of one order."""

        async def send(client: Client) -> list[Answer]:
            if order.durable:
                return await self._send_durably(calls, order)
            return [_answer(answer) for answer in await evaluate_all(client, calls)]

        answers: list[Answer] = await self._link.ask(send)
        return answers

    async def _send_durably(self, calls: Sequence[Call], order: Order) -> list[Answer]:
        """All on one connection: Redis syncs what the connection that asks has written."""
        async with self._link.one_connection() as client:
            evidence = await self._durability.evidence(client)
            await check_replicas(client, order.replicas)
            answers = [_answer(answer) for answer in await evaluate_each(client, calls)]
            if any(verdict == b"accepted" for verdict, _ in answers):
                await confirm(client, evidence, order.collection, order.replicas, self._link.patience)
        return answers

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
        *dict.fromkeys(key for image in chunk.values() if (key := blob_key_of(image)) is not None),
    ]


def arguments_of(
    chunk: Mapping[str, Image], job: str, order: Order, depth_limit: int, trace: str | msgspec.UnsetType = msgspec.UNSET
) -> list[Any]:
    """ARGV without the ids, as the head of accept.lua names it."""
    request = Request(
        images=tuple(chunk.values()),
        collection=order.collection,
        model=order.model,
        top_k=order.top_k,
        expires_in=order.expires_in,
        trace=trace,
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
        contract.encode_checked_job(request),  # the images when they came (`as_image`), the rest in Order
    ]


def _answer(answer: Any) -> Answer:  # noqa: ANN401  what the script returned, or its error
    """Memory is a limit like the depth: workers that drain the queue make room. Redis 6.2 wraps the error."""
    if isinstance(answer, redis.OutOfMemoryError) or (isinstance(answer, redis.ResponseError) and "OOM" in str(answer)):
        return b"full", OUT_OF_MEMORY
    if isinstance(answer, redis.RedisError):
        raise answer
    verdict, detail = answer
    return verdict, detail
