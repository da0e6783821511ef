"""The worker's loop: take, prepare, classify, finish; and what it does when it is told to stop.

Three batches overlap at most: one is fetched and decoded (threads of the pipeline), one is classified (here), one is
published (the finisher's thread). A picture that does not come is left behind: its neighbours are published without
it, and it joins a later batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import structlog

from imagequeue.errors import ContractError
from imagequeue_worker.finisher import Finisher
from imagequeue_worker.heartbeat import Heartbeat
from imagequeue_worker.isolation import Isolation
from imagequeue_worker.jobs import FinishedJob, Lease, TakenJob
from imagequeue_worker.memory import resident_bytes
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.patience import Patience
from imagequeue_worker.pipeline import Batch, Pipeline
from imagequeue_worker.progress import Progress
from imagequeue_worker.protocol import Protocol
from imagequeue_worker.settings import Settings
from imagequeue_worker.taker import CLOSED_SECONDS, Taker
from imagequeue_worker.waiting import Waker

log = structlog.get_logger("imagequeue_worker.batch_loop")

LATE_SECONDS = 0.1  # without a further picture, after which a batch is published without those that are missing
LATE_BATCHES = 4  # whose pictures may be missing at once; then nothing is taken until some have come


class BatchLoop:
    """State: whether to stop, and what has been taken; everything else belongs to its parts."""

    def __init__(
        self,
        taker: Taker,
        protocol: Protocol,
        patience: Patience,
        pipeline: Pipeline,
        isolation: Isolation,
        finisher: Finisher,
        heartbeat: Heartbeat,
        waker: Waker,
        progress: Progress,
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        self._taker = taker
        self._protocol = protocol
        self._patience = patience
        self._pipeline = pipeline
        self._isolation = isolation
        self._finisher = finisher
        self._heartbeat = heartbeat
        self._waker = waker
        self._progress = progress
        self._metrics = metrics
        self._settings = settings
        self._stopping = False
        self._completed_at = 0.0
        self._jobs_finished = 0
        self._late = Batch()
        pipeline.tell_of_late_ones(waker.wake)

    def stop(self) -> None:
        """Take no more; called from signal handlers, so it only sets a flag and wakes the sleeper."""
        self._stopping = True
        self._waker.wake()

    def run(self, *, burst: bool = False, max_jobs: int | None = None, max_idle_seconds: float | None = None) -> int:
        """Work until told to stop (or, in a burst, until the queues are empty); the number of jobs finished."""
        idle_since = time.monotonic()
        current: Batch | None = None
        while not self._stopping:
            if current is None:
                self._finisher.wait()  # somebody may wait for it, and nothing else is to be done
            taken = self._take(burst)
            if current or taken or self._late.has_ready() or self._is_stuck():
                current = self._advance(current, taken)
                idle_since = time.monotonic()
                if (max_jobs is not None and self._jobs_finished >= max_jobs) or self._is_too_large():
                    break
                continue
            if self._late.jobs:
                self._sleep(CLOSED_SECONDS)
                continue
            idle_seconds = time.monotonic() - idle_since
            if burst or (max_idle_seconds is not None and idle_seconds >= max_idle_seconds):
                break
            self._sleep(math.inf if max_idle_seconds is None else max_idle_seconds - idle_seconds)
        if self._late.jobs:  # in flight: their fetches end by themselves, and the grace period ends what does not
            self._complete(None, wait_for_all=True)
        if current:
            current.cancel()
            self._put_back([job.taken for job in current.jobs])
        self._finisher.wait()
        return self._jobs_finished

    def _take(self, burst: bool) -> Sequence[TakenJob]:
        """What there is to do; nothing while too many pictures are late. A burst's end is not left to the watchers."""
        if self._has_no_room() or not (burst or self._taker.may_find()):
            return ()
        return self._taker.take().jobs

    def _sleep(self, at_most_seconds: float) -> None:
        if self._stopping:  # its wake may have been forgotten
            return
        if self._has_no_room():
            self._taker.rest(at_most_seconds)
        else:
            self._taker.sleep(at_most_seconds)

    def _advance(self, current: Batch | None, taken: Sequence[TakenJob]) -> Batch | None:
        """Complete the current batch while the pictures of the next are fetched and decoded; the next."""
        suspects = [job for job in taken if job.suspect]
        if not suspects:
            upcoming = self._pipeline.prepare(taken) if taken else None
            self._complete(current)
            return upcoming
        # What has cost a worker its life runs last, and nothing is held that could be lost with it.
        self._complete(current)
        if others := [job for job in taken if not job.suspect]:
            self._complete(self._pipeline.prepare(others))
        for job in suspects:
            self._isolate(job)
        return None

    def _has_no_room(self) -> bool:
        """Whether so many pictures are late that nothing is taken."""
        return self._late.waiting_images >= LATE_BATCHES * self._settings.batch_images

    def _is_stuck(self) -> bool:
        """Whether a picture is later than any fetch and decoder should be: then it is waited for, and nothing else.

        The watchdog decides how long.
        """
        return self._late.oldest_seconds > self._settings.stall_timeout

    def _is_too_large(self) -> bool:
        """Whether this process has grown so that it is to be replaced; never before it has done something."""
        if (
            not (self._settings.max_memory and self._jobs_finished)
            or (resident := resident_bytes()) <= self._settings.max_memory
        ):
            return False
        log.info("replacing this process: above --max-memory", resident_bytes=resident)
        return True

    # --- isolate -------------------------------------------------------------------------------------------------

    def _isolate(self, taken: TakenJob) -> None:
        """Run a job image by image, each in a process of its own, and publish each as it comes."""
        self._finisher.wait()
        try:
            request = taken.request()
        except ContractError:  # a job that fails as it is; its images are not touched
            self._complete(self._pipeline.prepare([taken]))
            return
        log.warning(
            "a worker was lost with this job; its images run alone",
            queue=taken.lease.queue, job=taken.lease.job, collection=taken.collection, losses=taken.losses,
        )  # fmt: skip
        whole = FinishedJob(taken, request=request)
        for id_ in taken.ids:
            if self._stopping:
                self._put_back([taken])
                return
            alone = self._isolation.classify(replace(taken, ids=(id_,)), self._progress.advance)
            if not self._finisher.publish_one(alone):
                break  # not ours any more; finish finds out whose
            whole.outcomes += alone.outcomes
            self._progress.advance()
        self._finisher.begin([whole])
        self._jobs_finished += 1

    # --- complete ------------------------------------------------------------------------------------------------

    def _complete(self, batch: Batch | None, *, wait_for_all: bool = False) -> None:
        """Classify a batch, and what has come of those before it, and have it published."""
        batch = Batch([*self._late.jobs, *(batch.jobs if batch else ())])
        if not batch.jobs:
            return
        began = time.monotonic()
        done = self._pipeline.classify_ready(batch, None if wait_for_all or self._is_stuck() else LATE_SECONDS)
        self._late = done.late
        self._progress.advance()
        for part in done.parts:
            self._finisher.publish_one(part)  # a lease that is lost is met again at the job's end
        if done.finished:
            self._finisher.begin(done.finished)
        now = time.monotonic()
        if done.images:
            # Under load the batches touch; after a pause the time without work does not count.
            self._progress.measure(done.images, now - max(self._completed_at, began))
            self._metrics.tally.classified(done.images)
        self._completed_at = now
        self._jobs_finished += len(done.finished)
        self._progress.advance()
        log.debug("batch classified", jobs=len(batch.jobs), images=done.images, ms=round((now - began) * 1000, 1))

    def _put_back(self, jobs: Sequence[TakenJob]) -> None:
        """Return what was not begun to the front of its queue."""
        leases: list[Lease] = [job.lease for job in jobs]
        self._heartbeat.drop(leases)
        self._metrics.tally.in_flight(-sum(len(job.ids) for job in jobs))
        count = self._patience.call(self._protocol.put_back, leases)
        log.info("put back what was not begun", jobs=count)
