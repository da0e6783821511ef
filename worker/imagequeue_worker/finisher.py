"""Publishes what was classified, one batch at a time, in a thread of its own: Redis writes while the net runs on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import redis
import structlog

from imagequeue.contract import Outcome
from imagequeue_worker.heartbeat import Heartbeat
from imagequeue_worker.jobs import FinishedJob, Lease, Published, TakenJob, image_row
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.patience import Patience
from imagequeue_worker.protocol import Finished, Protocol
from imagequeue_worker.retries import Retries
from imagequeue_worker.tracing import Tracing

log = structlog.get_logger("imagequeue_worker.finisher")

QueueDependents = Callable[[Lease, bool], None]
"""Queues what waits for a job, of which it is told whether it failed."""


class Finisher:
    """State: the one batch that is being published."""

    def __init__(
        self,
        protocol: Protocol,
        patience: Patience,
        heartbeat: Heartbeat,
        metrics: Metrics,
        retries: Retries,
        queue_dependents: QueueDependents,
        tracing: Tracing | None = None,
    ) -> None:
        self._protocol = protocol
        self._patience = patience
        self._heartbeat = heartbeat
        self._metrics = metrics
        self._retries = retries
        self._queue_dependents = queue_dependents
        self._tracing = tracing
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="finish")
        self._publishing: Future[None] | None = None

    def begin(self, jobs: Sequence[FinishedJob]) -> None:
        """Publish these after the batch before them; returns when that one is published."""
        self.wait()
        # From here on a lease that is gone is one that finish has given up.
        self._heartbeat.give_up([job.taken.lease for job in jobs])
        self._publishing = self._thread.submit(self._finish, jobs)

    def wait(self) -> None:
        """Return when everything is published; raise what kept it from being so."""
        if self._publishing is not None:
            publishing, self._publishing = self._publishing, None
            publishing.result()

    def publish_one(self, job: FinishedJob) -> bool:
        """Publish outcomes of a job that goes on, now; whether its lease is still ours.

        For the thread that calls begin(), when nothing is being published. Outcomes that get another try are gone from
        the job afterwards.
        """
        self.wait()
        self._retries.schedule(job)
        began = time.monotonic()
        rows = [cell for outcome in job.outcomes for cell in image_row(outcome, job.request)]
        try:
            published = self._patience.call(self._protocol.publish, job.taken.lease, job.taken.collection, rows)
        except redis.ResponseError as error:
            log.error("publish was refused; finish will try again", **_names(job.taken), error=str(error))
            return True
        if published is not None:
            self._record([(job, _marked(job.outcomes, published))], began)
        return published is not None or not rows

    def close(self) -> None:
        """Let the thread end when it has nothing more to do."""
        self._thread.shutdown(wait=False)

    def _finish(self, jobs: Sequence[FinishedJob]) -> None:
        try:
            for job in jobs:
                self._retries.schedule(job)
            self._publish(jobs)
        finally:
            self._heartbeat.drop([job.taken.lease for job in jobs])

    def _publish(self, jobs: Sequence[FinishedJob]) -> None:
        began = time.monotonic()
        try:
            replies = self._patience.call(self._protocol.finish, jobs)
        except redis.ResponseError as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._publish([job])
                return
            taken = jobs[0].taken
            self._metrics.tally.in_flight(-len(taken.ids))
            log.error("finish was refused; the job stays leased", **_names(taken), error=str(error))
            return
        self._metrics.tally.in_flight(-sum(len(job.taken.ids) for job in jobs))
        kept = [(job, reply) for job, reply in zip(jobs, replies, strict=True) if reply.code != Finished.LOST]
        # An answer that was published before its reply was lost has no marks: all of it was.
        self._record(
            [(job, _marked(job.outcomes, reply.published) if reply.published else job.outcomes) for job, reply in kept],
            began,
        )
        for job, reply in zip(jobs, replies, strict=True):
            self._note(job, reply)

    def _record(self, published: Published, began: float) -> None:
        """Tell metrics and traces what was published by a call that began then (monotonic seconds)."""
        self._metrics.tally.published(published, began)
        self._metrics.tally.write_if_due()
        if self._tracing:
            self._tracing.published(published, began)

    def _note(self, job: FinishedJob, reply: Finished) -> None:
        lease = job.taken.lease
        if reply.code == Finished.LOST:
            self._note_lost(job)
            return
        if job.failure:
            log.warning("job failed", **_names(job.taken), reason=job.failure)
        if reply.code == Finished.HAS_DEPENDENTS:
            self._queue_dependents(lease, job.failure is not None)
            job.dependents_queued = True
            self._patience.call(self._protocol.finish, [job])

    def _note_lost(self, job: FinishedJob) -> None:
        """The job is somebody else's now, or nobody's: then its images are seen to at once."""
        lease = job.taken.lease
        if not self._heartbeat.has_noted(lease):
            self._metrics.leases_lost.inc()
            log.warning("lease lost; the answer was dropped", **_names(job.taken))
        if not (job.taken.collection and job.taken.ids):
            return
        try:
            for mended in self._patience.call(self._protocol.reconcile, job.taken.collection, job.taken.ids):
                log.warning("mended a job", queue=mended.queue, job=mended.job, what=mended.what)
        except redis.ResponseError as error:
            log.warning("a lost job could not be looked at", **_names(job.taken), error=str(error))


def _marked(outcomes: Sequence[Outcome], marks: Sequence[bool]) -> Sequence[Outcome]:
    """The outcomes with a mark."""
    if all(marks):
        return outcomes
    return [outcome for outcome, marked in zip(outcomes, marks, strict=True) if marked]


def _names(taken: TakenJob) -> dict[str, str]:
    """What a line about a job says of it."""
    return {"queue": taken.lease.queue, "job": taken.lease.job, "collection": taken.collection}
