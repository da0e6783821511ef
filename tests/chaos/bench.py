"""A producer and two workers' hands on one Redis, without processes: for faults at one exact place."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import redis

from chaos.audit import COLLECTION, audit
from chaos.baseline import broken_counts
from chaos.ledger import Findings
from chaos.saboteur import STRUCK_KEY, Saboteur
from chaos.world import Answer
from imagequeue import Image, Producer
from imagequeue.connection import connect
from imagequeue.contract import (
    QUEUES,
    RQ_KEY_PREFIX,
    ClassScore,
    ErrorCode,
    Failure,
    Outcome,
    Status,
    completed_key,
    pending_key,
)
from imagequeue_worker.jobs import FinishedJob, TakenJob
from imagequeue_worker.protocol import Protocol

CLASSES = (ClassScore(3, None, "class 3", 0.75),)
RIGHT = Answer(CLASSES, None)
BAD = "/pictures/bad.jpg"  # ends as not_found, with a dead letter
ROUNDS_MAX = 30
ATTEMPTS_MAX = 10


@dataclass(slots=True)
class Bench:
    """`worker` and `producer` are sabotaged; `other` is what mends it all."""

    url: str
    connection: redis.Redis = field(init=False)
    producer: Producer = field(init=False)
    worker: Protocol = field(init=False)
    other: Protocol = field(init=False)
    saboteur: Saboteur = field(init=False)
    noted: dict[str, str] = field(default_factory=dict)  # id -> reference
    truth: dict[str, Answer | str] = field(default_factory=dict)  # reference -> answer

    def __post_init__(self) -> None:
        self.connection = connect(self.url, resend=False)
        self.producer = Producer(self.url, patience=0.0)
        worker, client = connect(self.url, resend=False), self.producer._link.client
        self.worker, self.other = self._protocol("w1", worker), self._protocol("w2", connect(self.url, resend=False))
        self.saboteur = Saboteur(worker, client)

    def _protocol(self, name: str, connection: redis.Redis) -> Protocol:
        return Protocol(connection, name, QUEUES, lease_seconds=9.0, result_ttl=3600)

    def clear(self) -> None:
        """Nothing is there any more."""
        self.saboteur.rest()
        self.connection.flushdb()
        self.noted, self.truth = {}, {BAD: ErrorCode.NOT_FOUND}

    # --- work -----------------------------------------------------------------------------------------------

    def submit(self, *ids: str, bad: Iterable[str] = (), expires_in: float | None = None) -> None:
        """Get one job accepted, and note it; the `bad` ones end as not_found."""
        images = [Image(id_, BAD if id_ in set(bad) else f"/pictures/{id_}.jpg") for id_ in ids]
        for image in images:
            self.truth.setdefault(image.ref, RIGHT)
        self.producer.submit_many(images, chunk=len(images), collection=COLLECTION, expires_in=expires_in)
        self.noted.update({image.id: image.ref for image in images})

    def expect_error(self, code: ErrorCode, *ids: str) -> None:
        """These must end with this error."""
        self.truth.update({self.noted[id_]: code for id_ in ids})

    def take(self) -> list[TakenJob]:
        """What the sabotaged worker takes."""
        return self.worker.take(64).jobs

    def finish_all(self) -> None:
        """Until nothing is queued."""
        while jobs := self.take():
            self.worker.finish([answer(job) for job in jobs])

    def end_leases(self) -> None:
        """All leases have ended, long ago."""
        for queue in QUEUES:
            for member in self.connection.zrange(f"{RQ_KEY_PREFIX}:wip:{queue}", 0, -1):
                self.connection.zadd(f"{RQ_KEY_PREFIX}:wip:{queue}", {member: 1.0})

    def forget_completions(self) -> None:
        """The entries of an earlier run go, so that those of the next are counted alone."""
        self.connection.xtrim(completed_key(COLLECTION), maxlen=0, approximate=False)

    # --- after the fault ------------------------------------------------------------------------------------

    def struck(self) -> bool:
        """Whether the fault has happened; forgets it."""
        return bool(self.connection.delete(STRUCK_KEY))

    def mend(self) -> None:
        """What the rest of the fleet does in the course of time, until nothing is pending."""
        for _ in range(ROUNDS_MAX):
            self.end_leases()
            self.other.reclaim(losses_max=10)
            for queue in QUEUES:
                for member in self.connection.zrange(f"{RQ_KEY_PREFIX}:scheduled:{queue}", 0, -1):
                    self.connection.zadd(f"{RQ_KEY_PREFIX}:scheduled:{queue}", {member: 1.0})
            while jobs := self.other.take(64).jobs:
                self.other.finish([answer(job) for job in jobs])
            for collection, ids in self.other.pending():
                self.other.reconcile(collection, ids)
            self.other.recount()
            if not self.connection.hlen(pending_key(COLLECTION)):
                return
            time.sleep(0.01)

    def audit(self) -> Findings:
        """What became of everything that was noted."""
        return audit(self.connection, self.noted, self.truth, attempts_max=ATTEMPTS_MAX, look_for=broken_counts)

    def close(self) -> None:
        self.producer.close()
        self.connection.close()


def answer(job: TakenJob) -> FinishedJob:
    """What a worker's pipeline says of a job; the job fails as a whole when its request cannot be read."""
    try:
        request = job.request()
    except Exception as error:
        failure = Failure("malformed_request", str(error))
        return FinishedJob(job, [_outcome(job, id_, "", failure) for id_ in job.ids], failure=str(error))
    images = [image for image in request.images if image.id in job.ids]
    missing = Failure(ErrorCode.NOT_FOUND, "nothing is there")
    outcomes = [_outcome(job, one.id, one.ref, missing if one.ref == BAD else None) for one in images]
    return FinishedJob(job, outcomes, request)


def _outcome(job: TakenJob, id_: str, ref: str, failure: Failure | None) -> Outcome:
    return Outcome(
        id=id_,
        ref=ref,
        status=Status.ERROR if failure else Status.OK,
        classes=() if failure else CLASSES,
        error=failure,
        worker="w1",
        attempt=job.attempt,
        submitted_at=job.submitted_at,
    )
