"""The thread that keeps a worker's leases alive, and takes back what other workers have lost.

It has a connection of its own, because a batch may block the main thread. It is also the watchdog: when no stage has
advanced for the stall timeout it stops renewing and ends the process, so that a wedged decoder does not hold its jobs
for ever; and it ends a drain that takes longer than the grace period.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterable

import structlog

from imagequeue.connection import PASSES
from imagequeue_worker.jobs import Lease
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.progress import Progress
from imagequeue_worker.protocol import Protocol
from imagequeue_worker.settings import Settings

EXIT_STALLED = 70  # EX_SOFTWARE: a supervisor restarts us
EXIT_GRACE_OVER = 75  # EX_TEMPFAIL: the work was put back
RECLAIM_EVERY_SECONDS = 1.0
SWEEP_EVERY_SECONDS = 60.0

log = structlog.get_logger("imagequeue_worker.heartbeat")


Register = Callable[[], None]
"""Makes RQ know this worker (again)."""


class Heartbeat(threading.Thread):
    """Owns the set of held leases; the main thread adds and drops them."""

    def __init__(
        self, protocol: Protocol, settings: Settings, progress: Progress, metrics: Metrics, register: Register,
        worker_ttl: int,
    ) -> None:  # fmt: skip
        super().__init__(name="heartbeat", daemon=True)
        self._protocol = protocol
        self._settings = settings
        self._progress = progress
        self._metrics = metrics
        self._register = register
        self._worker_ttl = worker_ttl
        self._held: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._drain_by: float | None = None
        self._connected_since = time.monotonic()

    def hold(self, leases: Iterable[Lease]) -> None:
        """Renew these from now on."""
        with self._lock:
            self._held.update({lease.execution: lease for lease in leases})

    def drop(self, leases: Iterable[Lease]) -> None:
        """Renew these no longer."""
        with self._lock:
            for lease in leases:
                self._held.pop(lease.execution, None)

    def held(self) -> list[Lease]:
        """The leases that are being renewed, in the order in which they were taken."""
        with self._lock:
            return list(self._held.values())

    def drain_within(self, seconds: float) -> None:
        """End the process when it has not ended by itself by then. Called from signal handlers: sets a value only."""
        self._drain_by = time.monotonic() + seconds

    def stop(self) -> None:
        """Let the thread end."""
        self._stop.set()

    def run(self) -> None:
        """Beat, reclaim, watch; every failure of Redis is waited out."""
        beat_every = self._settings.lease_seconds / 3
        next_beat = next_reclaim = 0.0
        # Spread over the minute, so that a fleet that starts together does not sweep together.
        next_sweep = time.monotonic() + random.uniform(0.0, SWEEP_EVERY_SECONDS)  # noqa: S311  no secret
        while not self._stop.is_set():
            now = time.monotonic()
            self._watch(now)
            try:
                if now >= next_beat:
                    next_beat = now + beat_every
                    self._beat()
                if now >= next_reclaim:
                    next_reclaim = now + RECLAIM_EVERY_SECONDS
                    self._reclaim(now)
                if now >= next_sweep:
                    next_sweep = now + SWEEP_EVERY_SECONDS
                    self._protocol.sweep()
            except PASSES:
                self._protocol.disconnect()
                # Leases of all workers end together in an outage: renew first, reclaim one full lease later.
                self._connected_since = time.monotonic()
                next_beat = 0.0
            except Exception:
                log.exception("heartbeat failed; trying again")
            self._stop.wait(min(0.25, beat_every / 4))

    def _beat(self) -> None:
        held = self.held()
        registered, lost = self._protocol.heartbeat(
            held, worker_ttl=self._worker_ttl, rate=self._progress.images_per_second
        )
        if not registered:
            self._register()
        # A lease that the main thread finished meanwhile is not lost.
        still_held = {lease.execution for lease in self.held()}
        lost = [lease for lease in lost if lease.execution in still_held]
        if lost:
            self.drop(lost)
            self._metrics.leases_lost.inc(len(lost))
            log.warning("leases lost; the answers will be dropped", jobs=[lease.job for lease in lost])

    def _reclaim(self, now: float) -> None:
        if now - self._connected_since < self._settings.lease_seconds:
            return
        for queue, job, what in self._protocol.reclaim(losses_max=self._settings.losses_max):
            self._metrics.recovered_jobs.labels(reason=what).inc()
            log.warning("took back a job whose worker is gone", queue=queue, job=job, what=what)

    def _watch(self, now: float) -> None:
        if self.held() and self._progress.stalled_seconds() > self._settings.stall_timeout:
            log.critical("no stage has advanced; ending the process", seconds=self._settings.stall_timeout)
            os._exit(EXIT_STALLED)
        if self._drain_by is not None and now > self._drain_by:
            log.warning("grace period over; putting back what is held", jobs=len(self.held()))
            try:
                self._protocol.put_back(self.held())
            finally:
                os._exit(EXIT_GRACE_OVER)
