"""The thread that keeps a worker's leases alive, and takes back what other workers have lost.

It has a connection of its own, because a batch may block the main thread. It is also the watchdog: when no stage has
advanced for the stall timeout it stops renewing and ends the process, so that a wedged decoder does not hold its jobs
for ever; and it ends a drain that takes longer than the grace period. Code that spins without ever letting another
thread run stops this one, too: then Python's fault handler, a thread of C, ends the process and prints where it was.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable

import redis
import structlog

from imagequeue.connection import backoff
from imagequeue_worker.housekeeping import Housekeeping
from imagequeue_worker.jobs import Lease
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.outage import BACKOFF_LAST_SECONDS, Outage, passes
from imagequeue_worker.progress import Progress
from imagequeue_worker.protocol import Protocol
from imagequeue_worker.settings import Settings
from imagequeue_worker.vitals import BEAT_LATE_SECONDS, VitalsRow

EXIT_STALLED = 70  # EX_SOFTWARE: a supervisor restarts us
EXIT_GRACE_OVER = 75  # EX_TEMPFAIL: the work was put back
RECLAIM_EVERY_SECONDS = 1.0
REARM_EVERY_SECONDS = 1.0

log = structlog.get_logger("imagequeue_worker.heartbeat")


Register = Callable[[], None]
"""Makes RQ know this worker (again)."""


class Heartbeat(threading.Thread):
    """Owns the set of held leases; the main thread adds and drops them."""

    def __init__(
        self, protocol: Protocol, settings: Settings, progress: Progress, metrics: Metrics, outage: Outage,
        vitals: VitalsRow, register: Register, worker_ttl: int,
    ) -> None:  # fmt: skip
        super().__init__(name="heartbeat", daemon=True)
        self._protocol = protocol
        self._settings = settings
        self._progress = progress
        self._metrics = metrics
        self._outage = outage
        self._vitals = vitals
        self._housekeeping = Housekeeping(protocol, metrics)
        self._register = register
        self._worker_ttl = worker_ttl
        self._held: dict[str, Lease] = {}
        self._given_up: dict[str, Lease] = {}
        self._noted: set[str] = set()  # executions whose end has been told: stopped, or missed by a beat
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._drain_by: float | None = None
        self._supervisor = 0
        self._connected_since = time.monotonic()

    def hold(self, leases: Iterable[Lease]) -> None:
        """Renew these from now on."""
        with self._lock:
            self._held.update({lease.execution: lease for lease in leases})

    def give_up(self, leases: Iterable[Lease]) -> None:
        """Renew these until drop(), but do not miss them: finish is about to give them up."""
        with self._lock:
            for lease in leases:
                self._held.pop(lease.execution, None)
                self._given_up[lease.execution] = lease

    def drop(self, leases: Iterable[Lease]) -> None:
        """Renew these no longer: they are over."""
        with self._lock:
            for lease in leases:
                self._held.pop(lease.execution, None)
                self._given_up.pop(lease.execution, None)
                self._noted.discard(lease.execution)

    def stopped(self, lease: Lease) -> None:
        """An operator has stopped this job: its lease is gone, and nobody to blame."""
        self._note_gone([lease])

    def has_noted(self, lease: Lease) -> bool:
        """Whether it has been told already why this lease is gone: whoever meets that later need not tell it again."""
        with self._lock:
            return lease.execution in self._noted

    def _note_gone(self, leases: Iterable[Lease]) -> None:
        with self._lock:
            for lease in leases:
                self._held.pop(lease.execution, None)
                self._given_up.pop(lease.execution, None)
                self._noted.add(lease.execution)

    def held(self) -> list[Lease]:
        """The leases that may not be lost, in the order in which they were taken."""
        with self._lock:
            return list(self._held.values())

    def known(self) -> list[Lease]:
        """The same and those that finish is giving up, which were taken before them."""
        with self._lock:
            return [*self._given_up.values(), *self._held.values()]

    def drain_within(self, seconds: float) -> None:
        """End the process when it has not ended by itself by then. Called from signal handlers: sets a value only."""
        self._drain_by = time.monotonic() + seconds

    def end_with(self, supervisor: int) -> None:
        """Drain when the process with this pid, our parent, is gone."""
        self._supervisor = supervisor

    def stop(self) -> None:
        """Let the thread end."""
        self._ending.set()

    def run(self) -> None:
        """Beat, reclaim, keep house, watch; every failure of Redis is waited out."""
        beat_every = self._settings.lease_seconds / 3
        next_beat = next_reclaim = next_rearm = 0.0
        pauses, away = backoff(BACKOFF_LAST_SECONDS), False
        while not self._ending.is_set():
            now = time.monotonic()
            self._watch(now)
            self._vitals.beat(self._progress.overdue_seconds())
            self._metrics.tally.write()
            if now >= next_rearm:
                next_rearm = now + REARM_EVERY_SECONDS
                self._rearm()
            try:
                if now >= next_beat:
                    next_beat = now + beat_every
                    self._beat()
                    if away:
                        pauses, away = backoff(BACKOFF_LAST_SECONDS), False
                        self._outage.over()
                if now >= next_reclaim:
                    next_reclaim = now + RECLAIM_EVERY_SECONDS
                    self._reclaim(now)
                self._housekeeping.step(now)
            except Exception as error:
                if passes(error):
                    away = True
                    self._outage.began(error)
                    self._protocol.disconnect()
                    self._housekeeping.abandon()
                    # Leases of all workers end together in an outage: renew first, reclaim one full lease later.
                    self._connected_since = time.monotonic()
                    next_beat = now + next(pauses)
                elif isinstance(error, redis.ResponseError):
                    log.error("a heartbeat was refused; trying again", error=str(error))
                else:
                    log.exception("heartbeat failed; trying again")
            self._ending.wait(min(0.25, beat_every / 4))
        faulthandler.cancel_dump_traceback_later()

    def _rearm(self) -> None:
        """End the process unless this is called again in time."""
        if sys.__stderr__ is not None:
            after = self._settings.stall_timeout + BEAT_LATE_SECONDS
            faulthandler.dump_traceback_later(after, exit=True, file=sys.__stderr__)

    def _beat(self) -> None:
        leases = self.known()
        registered, lost = self._protocol.heartbeat(
            leases, worker_ttl=self._worker_ttl, rate=self._progress.images_per_second
        )
        if not registered and not self._ending.is_set():  # who is ending has taken leave of RQ by now
            self._register()
        self._vitals.answered()
        # A lease that the main thread finished meanwhile is not lost.
        still_held = {lease.execution for lease in self.held()}
        lost = [lease for lease in lost if lease.execution in still_held]
        if lost:
            self._note_gone(lost)
            self._metrics.leases_lost.inc(len(lost))
            log.warning("leases lost; the answers will be dropped", jobs=[lease.job for lease in lost])

    def _reclaim(self, now: float) -> None:
        # A connection that was replaced without a word counts as well: it may lead to a server that has not heard of
        # the latest renewals.
        connected_since = max(self._connected_since, self._protocol.connected_at)
        if now - connected_since < self._settings.lease_seconds:
            return
        for queue, job, what in self._protocol.reclaim(losses_max=self._settings.losses_max):
            self._metrics.recovered_jobs.labels(reason=what).inc()
            log.warning("took back a job whose worker is gone", queue=queue, job=job, what=what)

    def _watch(self, now: float) -> None:
        if self.known() and self._progress.stalled_seconds() > self._settings.stall_timeout:
            log.critical("no stage has advanced; ending the process", seconds=self._settings.stall_timeout)
            os._exit(EXIT_STALLED)
        if self._supervisor and self._drain_by is None and os.getppid() != self._supervisor:
            # The main thread gets a signal for that; one that is wedged will not see it, and nobody is left to kill it.
            log.warning("the supervisor is gone; ending", within_seconds=self._settings.grace)
            self.drain_within(self._settings.grace)
        if self._drain_by is not None and now > self._drain_by:
            leases = self.known()
            log.warning("grace period over; putting back what is held", jobs=len(leases))
            try:
                self._protocol.put_back(leases)
            finally:
                os._exit(EXIT_GRACE_OVER)
