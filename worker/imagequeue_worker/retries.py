"""Another try for images whose bytes could not be had just now: not at once, not for ever, not in others' way.

An image that gets one leaves its job for a job of its own, which take finds when it is due. The error becomes the
image's result when its tries are used up; how many there have been is kept in the job's hash, beside the last error.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import msgspec
import redis
import structlog

from imagequeue.contract import TRANSIENT, Failure, Outcome, Request, encode_job, new_job_id
from imagequeue_worker.jobs import FinishedJob
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.patience import Patience
from imagequeue_worker.protocol import Protocol, Retry
from imagequeue_worker.settings import Settings
from imagequeue_worker.waiting import Waker

log = structlog.get_logger("imagequeue_worker.retries")

PAUSE_MAX_SECONDS: Final = 300.0


class Retries:
    """Decides which outcomes are not the last word. Used by the thread that publishes."""

    def __init__(
        self, protocol: Protocol, patience: Patience, waker: Waker, metrics: Metrics, settings: Settings
    ) -> None:
        self._protocol = protocol
        self._waker = waker
        self._patience = patience
        self._metrics = metrics
        self._settings = settings

    def schedule(self, job: FinishedJob) -> None:
        """Take those outcomes out of a leased job whose images get another try."""
        wanted = dict(self._wanted(job)) if job.request and self._settings.retries_max else {}
        if not wanted:
            return
        try:
            moved = self._patience.call(self._ask, job, [retry for retry, _ in wanted.values()])
        except redis.ResponseError as error:
            log.error("another try was refused; the error stands", job=job.taken.lease.job, error=str(error))
            return
        gone = set()
        for (retry, code), was_moved in zip(wanted.values(), moved, strict=True):
            if was_moved:
                gone.add(retry.id)
                self._metrics.image_retries.labels(code=code).inc()
                log.info("another try for an image", id=retry.id, job=retry.job, code=code)
        self._waker.wake()  # who sleeps does not know of them
        job.outcomes = [outcome for outcome in job.outcomes if outcome.id not in gone]

    def _ask(self, job: FinishedJob, retries: list[Retry]) -> list[bool]:
        return self._protocol.retry(
            job.taken.lease, job.taken.collection, retries,
            retries_max=self._settings.retries_max, pause_max_seconds=PAUSE_MAX_SECONDS,
        )  # fmt: skip

    def _wanted(self, job: FinishedJob) -> Iterator[tuple[str, tuple[Retry, str]]]:
        """Retries by image, each with the code of the error that it is for."""
        for outcome in job.outcomes:
            if outcome.error and outcome.error.code in TRANSIENT and job.request:
                yield outcome.id, (self._retry(outcome, outcome.error, job.request), outcome.error.code)

    def _retry(self, outcome: Outcome, error: Failure, request: Request) -> Retry:
        images = tuple(image for image in request.images if image.id == outcome.id)
        # Spread, so that a server that failed a thousand images is not asked for all of them in one moment.
        pause = self._settings.retry_seconds * random.uniform(0.5, 1.0)  # noqa: S311  no secret
        return Retry(
            id=outcome.id,
            job=new_job_id(),
            pause_seconds=pause,
            data=encode_job(msgspec.structs.replace(request, images=images)),
            error=msgspec.json.encode(error),
        )
