"""Taking: how many images, and when there is reason to ask at all.

A take that left every queue empty is not followed by another until a watcher has seen work, something is due, or
somebody wakes the worker; so an image that comes alone costs one take, and one that comes while a batch is classified
is seen when the batch is done.
"""

from __future__ import annotations

import time

import redis
import structlog

from imagequeue_worker.batch_size import BatchSize
from imagequeue_worker.finisher import Finisher
from imagequeue_worker.heartbeat import Heartbeat
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.outage import passes
from imagequeue_worker.patience import Patience
from imagequeue_worker.progress import Progress
from imagequeue_worker.protocol import Protocol, Taken
from imagequeue_worker.settings import Settings
from imagequeue_worker.waiting import WorkSignal

log = structlog.get_logger("imagequeue_worker.taker")

NOTHING = Taken([], [], None)
IDLE_SECONDS = 30.0  # a watcher wakes us; this is for the ones that could not
CLOSED_SECONDS = 1.0  # a queue is paused, or the worker suspended: nothing tells us when that ends


class Taker:
    """State: what the last take said of the queues. Used by the main thread."""

    def __init__(
        self,
        protocol: Protocol,
        patience: Patience,
        finisher: Finisher,
        heartbeat: Heartbeat,
        work_signal: WorkSignal,
        progress: Progress,
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        self._protocol = protocol
        self._patience = patience
        self._finisher = finisher
        self._heartbeat = heartbeat
        self._work_signal = work_signal
        self._progress = progress
        self._metrics = metrics
        self._settings = settings
        self._batch_size = BatchSize(settings.batch_images)
        self._all_watched = False
        self._look_again_at = 0.0  # monotonic seconds
        self._refused = ""
        self._damaged: tuple[str, ...] = ()

    def take(self) -> Taken:
        """What there is; with `max_wait_ms`, a fuller batch if it comes in time."""
        self._work_signal.forget_wakes()  # whatever they were for, it is looked for now
        taken = self._fill() if self._settings.max_wait_ms else self._take_as_needed()
        self._note(taken)
        return taken

    def may_find(self) -> bool:
        """Whether there is a reason to take."""
        return not self._all_watched or self._work_signal.has_fired() or time.monotonic() >= self._look_again_at

    def sleep(self, at_most_seconds: float) -> None:
        """Sleep until there is a reason to take, somebody wakes us, or the time is up."""
        self.rest(min(max(0.0, self._look_again_at - time.monotonic()), at_most_seconds))

    def rest(self, seconds: float) -> None:
        """Sleep for so long, whatever there may be to take, or until somebody wakes us."""
        self._progress.rest(seconds)
        if self._work_signal.sleep(seconds):
            self._look_again_at = 0.0

    # --- how much ------------------------------------------------------------------------------------------------

    def _take_as_needed(self) -> Taken:
        taken = self._take_once(self._batch_size.images)
        self._batch_size.follow(sum(len(job.ids) for job in taken.jobs))
        return taken

    def _fill(self) -> Taken:
        """A full batch, or what has come of it in time."""
        wanted = self._settings.batch_images
        taken = self._take_once(wanted)
        # take gives a suspect job alone: it is not waited with.
        if not taken.jobs or taken.jobs[0].suspect:
            return taken
        jobs = list(taken.jobs)
        until = time.monotonic() + self._settings.max_wait_ms / 1000
        while (missing := wanted - sum(len(job.ids) for job in jobs)) > 0 and (left := until - time.monotonic()) > 0:
            taken = self._take_once(missing)
            jobs += taken.jobs
            if not taken.jobs:
                self._work_signal.watch(taken.watch)
                if self._work_signal.sleep(left) and not self._work_signal.has_fired():
                    break  # somebody else woke us, for something else
        return Taken(jobs, taken.watch, taken.next_due_ms)

    # --- once ----------------------------------------------------------------------------------------------------

    def _take_once(self, images: int) -> Taken:
        try:
            try:
                taken = self._protocol.take(images)
            except redis.RedisError as error:
                if not passes(error):
                    raise
                self._finisher.wait()  # what it holds is not unheard of
                taken = self._patience.call(self._take_again, images)
        except redis.ResponseError as error:
            # A key of another type, no permission: nothing was taken.
            if self._refused != str(error):
                log.error("take was refused; trying again", error=str(error))
            self._refused = str(error)
            return NOTHING
        self._refused = ""
        if taken.damaged and taken.damaged != self._damaged:
            log.error(
                "queues whose keys hold another type are passed over; see `imagequeue doctor`", queues=taken.damaged
            )
        self._damaged = taken.damaged
        self._progress.advance()
        self._heartbeat.hold(job.lease for job in taken.jobs)
        if taken.jobs:
            self._metrics.tally.in_flight(sum(len(job.ids) for job in taken.jobs))
        return taken

    def _take_again(self, images: int) -> Taken:
        """Take after a lost answer: give back first what Redis says we hold and we never heard of."""
        known = {lease.execution for lease in self._heartbeat.known()}
        unheard_of = [lease for lease in self._protocol.held_in_redis() if lease.execution not in known]
        if unheard_of:
            self._protocol.put_back(unheard_of)
        return self._protocol.take(images)

    def _note(self, taken: Taken) -> None:
        """Note when to take again, and have what is empty watched."""
        self._all_watched = len(taken.watch) == len(self._settings.queues)
        seconds = IDLE_SECONDS if self._all_watched else CLOSED_SECONDS
        if taken.next_due_ms is not None:
            seconds = min(seconds, taken.next_due_ms / 1000)
        self._look_again_at = time.monotonic() + seconds
        if self._all_watched or not taken.jobs:
            self._work_signal.watch(taken.watch)
