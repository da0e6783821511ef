"""The worker's loop: take, prepare, classify, finish; and what it does when Redis is away or it is told to stop."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import redis
import structlog

from imagequeue.connection import PASSES
from imagequeue_worker.heartbeat import Heartbeat, Progress
from imagequeue_worker.jobs import FinishedJob, Lease, TakenJob
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.pipeline import Batch, Pipeline
from imagequeue_worker.protocol import Finished, Protocol, Taken
from imagequeue_worker.settings import Settings
from imagequeue_worker.waiting import Waker, WorkSignal

log = structlog.get_logger("imagequeue_worker.batch_loop")

Answer = TypeVar("Answer")

IDLE_SECONDS = 30.0  # a watcher wakes us; this is for the ones that could not
CLOSED_SECONDS = 1.0  # a queue is paused, or the worker suspended: nothing tells us when that ends
BACKOFF_FIRST_SECONDS, BACKOFF_MAX_SECONDS = 0.05, 2.0  # consuming again within 5 s of Redis' return


class BatchLoop:
    """State: whether to stop, and what has been taken; everything else belongs to its parts."""

    def __init__(
        self,
        protocol: Protocol,
        pipeline: Pipeline,
        heartbeat: Heartbeat,
        work_signal: WorkSignal,
        waker: Waker,
        progress: Progress,
        metrics: Metrics,
        settings: Settings,
        queue_dependents: Callable[[Lease, bool], None],
    ) -> None:
        self._protocol = protocol
        self._pipeline = pipeline
        self._heartbeat = heartbeat
        self._work_signal = work_signal
        self._waker = waker
        self._progress = progress
        self._metrics = metrics
        self._settings = settings
        self._queue_dependents = queue_dependents
        self._stopping = False
        self._completed_at = 0.0
        self._images_in_flight = 0
        self._jobs_finished = 0

    def stop(self) -> None:
        """Take no more; called from signal handlers, so it only sets a flag and wakes the sleeper."""
        self._stopping = True
        self._waker.wake()

    def run(self, *, burst: bool = False, max_jobs: int | None = None, max_idle_seconds: float | None = None) -> int:
        """Work until told to stop (or, in a burst, until the queues are empty); the number of jobs finished."""
        idle_since = time.monotonic()
        current: Batch | None = None
        while not self._stopping:
            taken = self._take()
            if current or taken.jobs:
                current = self._advance(current, taken.jobs)
                idle_since = time.monotonic()
                if max_jobs is not None and self._jobs_finished >= max_jobs:
                    break
                continue
            idle_seconds = time.monotonic() - idle_since
            if burst or (max_idle_seconds is not None and idle_seconds >= max_idle_seconds):
                break
            self._sleep(taken, None if max_idle_seconds is None else max_idle_seconds - idle_seconds)
        if current:
            self._put_back(current)
        return self._jobs_finished

    def _advance(self, current: Batch | None, taken: Sequence[TakenJob]) -> Batch | None:
        """Complete the current batch while the pictures of the next are fetched and decoded; the next."""
        if not any(job.suspect for job in taken):
            upcoming = self._pipeline.prepare(taken) if taken else None
            self._complete(current)
            return upcoming
        # It has cost a worker its life: it runs alone, and nothing is held that could be lost with it.
        self._complete(current)
        self._complete(self._pipeline.prepare(taken))
        return None

    # --- take ----------------------------------------------------------------------------------------------------

    def _take(self) -> Taken:
        """What is there; with `max_wait_ms`, a fuller batch if it comes in time."""
        wanted = self._settings.batch_images
        taken = self._take_once(wanted)
        if not (taken.jobs and self._settings.max_wait_ms):
            return taken
        jobs = list(taken.jobs)
        until = time.monotonic() + self._settings.max_wait_ms / 1000
        while not self._stopping:
            missing = wanted - sum(len(job.ids) for job in jobs)
            left = until - time.monotonic()
            if missing <= 0 or left <= 0:
                break
            more = self._take_once(missing)
            jobs += more.jobs
            if not more.jobs:
                self._work_signal.wait(more.watch, left)
        return Taken(jobs, taken.watch, taken.next_due_ms)

    def _take_once(self, images: int) -> Taken:
        try:
            try:
                taken = self._protocol.take(images)
            except PASSES:
                taken = self._patiently(self._take_again, images)
        except redis.ResponseError as error:
            # Out of memory, a key of another type: nothing was taken.
            log.error("take was refused; trying again", error=str(error))
            return Taken([], [], None)
        self._progress.advance()
        self._heartbeat.hold(job.lease for job in taken.jobs)
        self._count_in_flight(sum(len(job.ids) for job in taken.jobs))
        return taken

    def _take_again(self, images: int) -> Taken:
        """Take after a lost answer: give back first what Redis says we hold and we never heard of."""
        known = {lease.execution for lease in self._heartbeat.held()}
        unheard_of = [lease for lease in self._protocol.held_in_redis() if lease.execution not in known]
        if unheard_of:
            self._protocol.put_back(unheard_of)
        return self._protocol.take(images)

    def _sleep(self, taken: Taken, at_most_seconds: float | None) -> None:
        seconds = IDLE_SECONDS if len(taken.watch) == len(self._settings.queues) else CLOSED_SECONDS
        if taken.next_due_ms is not None:
            seconds = min(seconds, taken.next_due_ms / 1000)
        if at_most_seconds is not None:
            seconds = min(seconds, at_most_seconds)
        self._work_signal.wait(taken.watch, seconds)

    # --- finish --------------------------------------------------------------------------------------------------

    def _complete(self, batch: Batch | None) -> None:
        """Classify and finish a batch."""
        if batch is None:
            return
        began = time.monotonic()
        finished = self._pipeline.classify(batch)
        self._progress.advance()
        self._finish(finished)
        self._count_in_flight(-batch.images)
        now = time.monotonic()
        if batch.images:
            # Under load the batches touch; after a pause the time without work does not count.
            self._progress.measure(batch.images, now - max(self._completed_at, began))
            self._metrics.batches.inc()
            self._metrics.batch_images.observe(batch.images)
        self._completed_at = now
        self._jobs_finished += len(finished)
        self._progress.advance()
        log.debug("batch finished", jobs=len(batch.jobs), images=batch.images, ms=round((now - began) * 1000, 1))

    def _finish(self, jobs: Sequence[FinishedJob]) -> None:
        # From here on a lease that is gone is one that finish has given up.
        self._heartbeat.drop([job.taken.lease for job in jobs])
        try:
            replies = self._patiently(self._protocol.finish, jobs)
        except redis.ResponseError as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._finish([job])
                return
            lease = jobs[0].taken.lease
            log.error("finish was refused; the job stays leased", job=lease.job, error=str(error))
            return
        for job, reply in zip(jobs, replies, strict=True):
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
            self._patiently(self._protocol.finish, [job])

    # --- trouble -------------------------------------------------------------------------------------------------

    def _patiently(self, call: Callable[..., Answer], *arguments: object) -> Answer:
        """Call until Redis answers; the calls are those that may be repeated."""
        seconds, away = BACKOFF_FIRST_SECONDS, False
        while True:
            try:
                answer = call(*arguments)
            except PASSES as error:
                if not away:
                    log.warning("Redis is away; trying again", error=str(error))
                away = True
                self._protocol.disconnect()
                self._progress.advance()  # waiting for Redis is no stall
                self._waker.sleep(seconds * random.uniform(0.5, 1.0))  # noqa: S311  jitter, no secret
                seconds = min(2 * seconds, BACKOFF_MAX_SECONDS)
            else:
                if away:
                    self._metrics.redis_reconnects.inc()
                    log.info("Redis is back")
                return answer

    def _put_back(self, batch: Batch) -> None:
        """Return what was not begun to the front of its queue."""
        batch.cancel()
        leases = [job.taken.lease for job in batch.jobs]
        self._heartbeat.drop(leases)
        self._count_in_flight(-batch.images)
        count = self._patiently(self._protocol.put_back, leases)
        log.info("put back what was not begun", jobs=count)

    def _count_in_flight(self, change: int) -> None:
        self._images_in_flight += change
        self._metrics.images_in_flight.set(self._images_in_flight)
