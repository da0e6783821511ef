"""Publishes what was classified, one batch at a time, in a thread of its own: Redis writes while the net runs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import redis
import structlog

from imagequeue_worker.heartbeat import Heartbeat
from imagequeue_worker.jobs import FinishedJob, Lease
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.patience import Patience
from imagequeue_worker.protocol import Finished, Protocol

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
        queue_dependents: QueueDependents,
    ) -> None:
        self._protocol = protocol
        self._patience = patience
        self._heartbeat = heartbeat
        self._metrics = metrics
        self._queue_dependents = queue_dependents
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="finish")
        self._publishing: Future[None] | None = None

    def begin(self, jobs: Sequence[FinishedJob]) -> None:
        """Publish these after the batch before them; returns when that one is published."""
        self.wait()
        # From here on a lease that is gone is one that finish has given up.
        self._heartbeat.drop([job.taken.lease for job in jobs])
        self._publishing = self._thread.submit(self._finish, jobs)

    def wait(self) -> None:
        """Return when everything is published; raise what kept it from being so."""
        if self._publishing is not None:
            publishing, self._publishing = self._publishing, None
            publishing.result()

    def close(self) -> None:
        """Let the thread end when it has nothing more to do."""
        self._thread.shutdown(wait=False)

    def _finish(self, jobs: Sequence[FinishedJob]) -> None:
        try:
            replies = self._patience.call(self._protocol.finish, jobs)
        except redis.ResponseError as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._finish([job])
                return
            taken = jobs[0].taken
            self._metrics.images_in_flight.dec(len(taken.ids))
            log.error("finish was refused; the job stays leased", job=taken.lease.job, error=str(error))
            return
        for job, reply in zip(jobs, replies, strict=True):
            self._metrics.images_in_flight.dec(len(job.taken.ids))
            self._note(job, reply)

    def _note(self, job: FinishedJob, reply: Finished) -> None:
        lease = job.taken.lease
        if reply.code == Finished.LOST:
            self._metrics.leases_lost.inc()
            log.warning("lease lost; the answer was dropped", queue=lease.queue, job=lease.job)
            return
        # An answer that was published before its reply was lost has no marks: all of it was.
        published = reply.published or tuple(True for _ in job.outcomes)
        for outcome, was_published in zip(job.outcomes, published, strict=True):
            if was_published:
                self._metrics.count_image(job.taken, outcome)
        if job.failure:
            log.warning("job failed", queue=lease.queue, job=lease.job, reason=job.failure)
        if reply.code == Finished.HAS_DEPENDENTS:
            self._queue_dependents(lease, job.failure is not None)
            job.dependents_queued = True
            self._patience.call(self._protocol.finish, [job])
