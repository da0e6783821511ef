"""The worker's loop: take, prepare, classify, finish; and what it does when it is told to stop.

Three batches overlap at most: one is fetched and decoded (threads of the pipeline), one is classified (here), one is
published (the finisher's thread).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import redis
import structlog

from imagequeue.connection import PASSES
from imagequeue_worker.finisher import Finisher
from imagequeue_worker.heartbeat import Heartbeat
from imagequeue_worker.jobs import TakenJob
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.patience import Patience
from imagequeue_worker.pipeline import Batch, Pipeline
from imagequeue_worker.progress import Progress
from imagequeue_worker.protocol import Protocol, Taken
from imagequeue_worker.settings import Settings
from imagequeue_worker.waiting import Waker, WorkSignal

log = structlog.get_logger("imagequeue_worker.batch_loop")

IDLE_SECONDS = 30.0  # a watcher wakes us; this is for the ones that could not
CLOSED_SECONDS = 1.0  # a queue is paused, or the worker suspended: nothing tells us when that ends


class BatchLoop:
    """State: whether to stop, and what has been taken; everything else belongs to its parts."""

    def __init__(
        self,
        protocol: Protocol,
        pipeline: Pipeline,
        finisher: Finisher,
        heartbeat: Heartbeat,
        work_signal: WorkSignal,
        waker: Waker,
        progress: Progress,
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        self._protocol = protocol
        self._patience = Patience(protocol, progress, metrics)
        self._pipeline = pipeline
        self._finisher = finisher
        self._heartbeat = heartbeat
        self._work_signal = work_signal
        self._waker = waker
        self._progress = progress
        self._metrics = metrics
        self._settings = settings
        self._stopping = False
        self._completed_at = 0.0
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
            self._finisher.wait()
            idle_seconds = time.monotonic() - idle_since
            if burst or (max_idle_seconds is not None and idle_seconds >= max_idle_seconds):
                break
            self._sleep(taken, None if max_idle_seconds is None else max_idle_seconds - idle_seconds)
        if current:
            self._put_back(current)
        self._finisher.wait()
        return self._jobs_finished

    def _advance(self, current: Batch | None, taken: Sequence[TakenJob]) -> Batch | None:
        """Complete the current batch while the pictures of the next are fetched and decoded; the next."""
        suspects = [job for job in taken if job.suspect]
        if not suspects:
            upcoming = self._pipeline.prepare(taken) if taken else None
            self._complete(current)
            return upcoming
        # A job that has cost a worker its life runs alone, and last: nothing is held that could be lost with it.
        self._complete(current)
        for jobs in ([job for job in taken if not job.suspect], *([job] for job in suspects)):
            self._finisher.wait()
            self._complete(self._pipeline.prepare(jobs) if jobs else None)
        return None

    # --- take ----------------------------------------------------------------------------------------------------

    def _take(self) -> Taken:
        """What is there; with `max_wait_ms`, a fuller batch if it comes in time."""
        wanted = self._settings.batch_images
        taken = self._take_once(wanted)
        # take gives a suspect job alone: it is not waited with.
        if not (taken.jobs and self._settings.max_wait_ms) or taken.jobs[0].suspect:
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
                self._finisher.wait()  # what it holds is not unheard of
                taken = self._patience.call(self._take_again, images)
        except redis.ResponseError as error:
            # Out of memory, a key of another type: nothing was taken.
            log.error("take was refused; trying again", error=str(error))
            return Taken([], [], None)
        self._progress.advance()
        self._heartbeat.hold(job.lease for job in taken.jobs)
        self._metrics.images_in_flight.inc(sum(len(job.ids) for job in taken.jobs))
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

    # --- complete ------------------------------------------------------------------------------------------------

    def _complete(self, batch: Batch | None) -> None:
        """Classify a batch and have it published."""
        if batch is None:
            return
        began = time.monotonic()
        finished = self._pipeline.classify(batch)
        self._progress.advance()
        self._finisher.begin(finished)
        now = time.monotonic()
        if batch.images:
            # Under load the batches touch; after a pause the time without work does not count.
            self._progress.measure(batch.images, now - max(self._completed_at, began))
            self._metrics.batches.inc()
            self._metrics.batch_images.observe(batch.images)
        self._completed_at = now
        self._jobs_finished += len(finished)
        self._progress.advance()
        log.debug("batch classified", jobs=len(batch.jobs), images=batch.images, ms=round((now - began) * 1000, 1))

    def _put_back(self, batch: Batch) -> None:
        """Return what was not begun to the front of its queue."""
        batch.cancel()
        leases = [job.taken.lease for job in batch.jobs]
        self._heartbeat.drop(leases)
        self._metrics.images_in_flight.dec(batch.images)
        count = self._patience.call(self._protocol.put_back, leases)
        log.info("put back what was not begun", jobs=count)
