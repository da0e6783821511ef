"""The worker's side of the queue protocol: one method per script, values in and values out."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from imagequeue.contract import (
    COLLECTIONS_KEY,
    KEY_PREFIX,
    RATES_KEY,
    RQ_KEY_PREFIX,
    WAITING_KEY,
    job_key,
    pending_key,
    queue_key,
    turn_key,
)
from imagequeue.scripts import script_text
from imagequeue_worker.jobs import Cell, FinishedJob, Lease, TakenJob
from imagequeue_worker.outage import passes

_PACKAGE = "imagequeue_worker.scripts"
_SCRIPTS = (
    "take", "publish", "retry", "finish", "heartbeat", "put_back", "reclaim", "stop", "settle", "reconcile", "recount",
    "sweep",
)  # fmt: skip
_RECLAIMED_PER_CALL = 100
_SWEPT_PER_CALL = 1000
_RECONCILED_PER_CALL = 1000
_COUNTED_ALWAYS = 10_000  # images; more are counted only when their sum is wrong


@dataclass(frozen=True, slots=True)
class Taken:
    """What one take found.

    `watch`: the queues that are empty and open; `next_due_ms`: None if nothing is due; `damaged`: the queues that were
    passed over, since a key of theirs is of another type.
    """

    jobs: list[TakenJob]
    watch: list[str]
    next_due_ms: int | None
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """finish.lua's answer for one job: its code, and which of its images were published."""

    code: str
    published: tuple[bool, ...]

    LOST = "0"
    DONE = "1"
    DONE_BEFORE = "2"
    HAS_DEPENDENTS = "3"


@dataclass(frozen=True, slots=True)
class Mended:
    """What reconcile did about a job whose images nobody carried any more."""

    queue: str
    job: str
    what: str  # requeued, cancelled or worker_lost
    images: int


@dataclass(frozen=True, slots=True)
class Retry:
    """Another try for one image. `pause_seconds` is the first pause; it doubles with each try there has been."""

    id: str
    job: str
    pause_seconds: float
    data: bytes
    error: bytes  # JSON


class Protocol:
    """Speaks for one worker over one connection; not shared between threads.

    Raises redis.ConnectionError and redis.TimeoutError as they come: the caller knows what it held.
    """

    def __init__(
        self,
        connection: redis.Redis,
        worker: str,
        queues: Sequence[str],
        *,
        lease_seconds: float,
        result_ttl: int,
    ) -> None:
        # Any, since redis-py's stubs cannot know that answers come undecoded, as bytes.
        self._connection: Any = connection
        self._worker = worker
        self._queues = list(queues)
        self._lease_seconds = lease_seconds
        self._result_ttl = result_ttl
        self._fields_expire: str | None = None
        self._scripts = {name: connection.register_script(script_text(name, _PACKAGE)) for name in _SCRIPTS}

    def disconnect(self) -> None:
        """Connect anew at the next call, to wherever the address leads by then."""
        self._connection.connection_pool.disconnect()

    @property
    def connected_at(self) -> float:
        """When the connection was made that stands now, in monotonic seconds; 0 for a client that does not note it."""
        return float(getattr(self._connection, "connected_at", 0.0))

    def take(self, images: int) -> Taken:
        """Lease jobs with up to `images` images (at least one job) of the most urgent queue that has work."""
        keys = [queue_key(queue) for queue in self._queues]
        prefix = f"iq{secrets.token_hex(8)}n"
        arguments = [*self._gate(), self._worker, images, self._lease_seconds, prefix, *self._queues]
        stamp, jobs, watch, next_due_ms, damaged = self._scripts["take"](keys, arguments)
        return Taken(
            [_taken_job(job, float(stamp)) for job in jobs],
            [queue.decode() for queue in watch],
            int(next_due_ms) if int(next_due_ms) >= 0 else None,
            tuple(queue.decode() for queue in damaged),
        )

    def finish(self, jobs: Sequence[FinishedJob]) -> list[Finished]:
        """Publish the outcomes of leased jobs and close the jobs; may be sent again after a lost reply."""
        arguments: list[Cell] = [*self._gate(), self._worker]
        for job in jobs:
            arguments += job.rows()
        replies = self._scripts["finish"]([self._worker_key()], arguments)
        return [Finished(chr(reply[0]), tuple(bit == ord("1") for bit in reply[1:])) for reply in replies]

    def publish(self, lease: Lease, collection: str, rows: Iterable[Cell]) -> list[bool] | None:
        """Publish some images of a leased job; which of them were published, or None when the lease is lost."""
        keys = [f"{RQ_KEY_PREFIX}:wip:{lease.queue}"]
        reply = self._scripts["publish"](keys, [*self._gate(), *_flat([lease]), collection, *rows])
        return [bit == ord("1") for bit in reply] if reply else None

    def retry(
        self, lease: Lease, collection: str, retries: Sequence[Retry], *, retries_max: int, pause_max_seconds: float
    ) -> list[bool]:
        """Give images of a leased job another try later; which of them got one. The others have had their tries."""
        keys = [f"{RQ_KEY_PREFIX}:scheduled:{lease.queue}", job_key(lease.job)]
        head: list[Cell] = [*_flat([lease]), collection, retries_max, round(pause_max_seconds * 1000)]
        rows: list[Cell] = []
        for retry in retries:
            rows += (retry.id, retry.job, round(retry.pause_seconds * 1000), retry.data, retry.error)
        reply = self._scripts["retry"](keys, [*self._gate(), *head, *rows])
        return [bit == ord("1") for bit in reply]

    def stop(self, lease: Lease) -> int | None:
        """End a job that this worker holds as cancelled; how many images, or None when it holds it no more."""
        arguments = [*self._gate(), *_flat([lease]), self._worker]
        cancelled = int(self._scripts["stop"]([job_key(lease.job)], arguments))
        return cancelled if cancelled >= 0 else None

    def heartbeat(self, leases: Sequence[Lease], *, worker_ttl: int, rate: float | None) -> tuple[bool, list[Lease]]:
        """Renew leases; return whether RQ knows this worker, and the leases that are lost."""
        measured = "" if rate is None else f"{rate:.3f}"
        own: list[Cell] = [KEY_PREFIX, RQ_KEY_PREFIX, self._worker, self._lease_seconds, worker_ttl, measured]
        reply = self._scripts["heartbeat"]([self._worker_key(), RATES_KEY], [*own, *_flat(leases)])
        return reply[0] == b"1", [leases[int(number) - 1] for number in reply[1:]]

    def put_back(self, leases: Sequence[Lease]) -> int:
        """Return jobs that were not begun to the front of their queues; the number that still were ours."""
        keys = [f"{self._worker_key()}:executions"]
        return int(self._scripts["put_back"](keys, [KEY_PREFIX, RQ_KEY_PREFIX, self._worker, *_flat(leases)]))

    def reclaim(self, *, losses_max: int, dead_worker: str = "") -> list[tuple[str, str, str]]:
        """Put back jobs whose leases have ended, or all of a worker that is known to be dead: (queue, job, what)."""
        keys = [f"{RQ_KEY_PREFIX}:wip:{queue}" for queue in self._queues]
        arguments = [*self._gate(), dead_worker, losses_max, _RECLAIMED_PER_CALL, *self._queues]
        reply = self._scripts["reclaim"](keys, arguments)
        return [(queue.decode(), job.decode(), what.decode()) for queue, job, what in reply]

    def settle(self, queue: str, job: str, collection: str, rows: Iterable[Cell]) -> list[bool]:
        """Publish images for a job that holds no lease of ours; which of them were published."""
        keys = [f"{KEY_PREFIX}:pending:{collection}"]
        reply = self._scripts["settle"](keys, [*self._gate(), queue, job, collection, *rows])
        return [bit == ord("1") for bit in reply]

    def claim(self, what: str, seconds: float) -> bool:
        """Whether it is this worker's turn to do something that one worker does every so many seconds."""
        return bool(self._connection.set(turn_key(what), self._worker, nx=True, px=round(seconds * 1000)))

    def keep_turn(self, what: str, seconds: float) -> None:
        """Let nobody else's turn begin for so many seconds."""
        self._connection.pexpire(turn_key(what), round(seconds * 1000))

    def pending(self) -> Iterator[tuple[str, list[bytes]]]:
        """The ids of all pending images, up to a thousand at a time, each time of one collection."""
        for collection in sorted(name.decode() for name in self._connection.smembers(COLLECTIONS_KEY)):
            key, cursor = pending_key(collection), None
            while cursor != 0:
                try:
                    cursor, found = self._connection.hscan(key, cursor or 0, count=_RECONCILED_PER_CALL)
                except redis.ResponseError as error:
                    if passes(error):
                        raise
                    break  # no hash: whoever works on this collection is told so
                ids = list(found)
                for start in range(0, len(ids), _RECONCILED_PER_CALL):
                    yield collection, ids[start : start + _RECONCILED_PER_CALL]

    def reconcile(self, collection: str, ids: Sequence[bytes | str]) -> list[Mended]:
        """Mend those of a collection's images that are pending and that no job carries any more."""
        reply = self._scripts["reconcile"]([pending_key(collection)], [*self._gate(), collection, *ids])
        return [Mended(queue.decode(), job.decode(), what.decode(), images) for queue, job, what, images in reply]

    def recount(self) -> int:
        """Set the counts of waiting images right; how many of them were wrong."""
        keys = [COLLECTIONS_KEY, WAITING_KEY]
        return int(self._scripts["recount"](keys, [KEY_PREFIX, RQ_KEY_PREFIX, _COUNTED_ALWAYS]))

    def sweep(self) -> int:
        """Remove what has aged from every collection; the number of results removed by hand."""
        cursor, removed = b"0", 0
        while True:
            arguments = [*self._gate(), cursor, _SWEPT_PER_CALL]
            cursor, count = self._scripts["sweep"]([COLLECTIONS_KEY, RATES_KEY], arguments)
            removed += int(count)
            if cursor == b"0":
                return removed

    def forget_ended_jobs(self) -> int:
        """Remove from RQ's registries the jobs that have expired: finish does so too, but not when nothing finishes."""
        now = self._connection.time()[0]  # whole seconds, as RQ's scores are
        registries = [f"{RQ_KEY_PREFIX}:{kind}:{queue}" for queue in self._queues for kind in ("finished", "failed")]
        return sum(int(self._connection.zremrangebyscore(registry, "-inf", now)) for registry in registries)

    def held_in_redis(self) -> list[Lease]:
        """The leases that Redis says this worker holds: asked after a take whose answer was lost."""
        leases = []
        for member in self._connection.smembers(f"{self._worker_key()}:executions"):
            job, _, execution = member.decode().rpartition(":")
            try:
                origin = self._connection.hget(job_key(job), "origin")
            except redis.ResponseError:  # not a hash: nobody's job any more
                continue
            if origin:
                leases.append(Lease(origin.decode(), job, execution))
        return leases

    def _worker_key(self) -> str:
        return f"{RQ_KEY_PREFIX}:worker:{self._worker}"

    def _gate(self) -> list[Cell]:
        """The gate's arguments; whether hash fields expire is asked of the server once, not read off its version."""
        if self._fields_expire is None:
            # One word: of "COMMAND", "INFO" redis-py parses the answer, and fails at that of an unknown command.
            (known,) = self._connection.execute_command("COMMAND INFO", "HPEXPIREAT")
            self._fields_expire = "0" if known is None else "1"
        return [KEY_PREFIX, RQ_KEY_PREFIX, self._result_ttl, self._fields_expire]


def _flat(leases: Iterable[Lease]) -> list[str]:
    return [text for lease in leases for text in (lease.queue, lease.job, lease.execution)]


def _taken_job(row: list[bytes], taken_at: float) -> TakenJob:
    queue, job, execution, attempt, losses, collection, submitted_at, forbidden, data, *ids = row
    return TakenJob(
        lease=Lease(queue.decode(), job.decode(), execution.decode()),
        attempt=int(attempt),
        losses=int(losses),
        collection=collection.decode(),
        submitted_at=_number(submitted_at, taken_at),
        taken_at=taken_at,
        forbidden=forbidden == b"1",
        data=data,
        # Ids that are no text were not accepted by us; the request will be found to lack them.
        ids=tuple(id_.decode(errors="replace") for id_ in ids),
    )


def _number(text: bytes, default: float) -> float:
    """A stamp that other hands may have written: never a reason to lose a job."""
    try:
        number = float(text)
    except ValueError:
        return default
    return number if math.isfinite(number) else default
