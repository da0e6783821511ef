"""What one worker of a fleet does for all, in small steps.

Every 10 s pending images that no job carries any more are mended, every minute what has aged is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import redis
import structlog

from imagequeue_worker.metrics import Metrics
from imagequeue_worker.outage import passes
from imagequeue_worker.protocol import Protocol

log = structlog.get_logger("imagequeue_worker.housekeeping")

Answer = TypeVar("Answer")

RECONCILE_EVERY_SECONDS = 10.0
SWEEP_EVERY_SECONDS = 60.0
ASK_EVERY_SECONDS = 2.0


class Housekeeping:
    """State: the round that is under way. Used by the heartbeat's thread, which must never be kept long."""

    def __init__(self, protocol: Protocol, metrics: Metrics) -> None:
        self._protocol = protocol
        self._metrics = metrics
        self._round: Iterator[None] = iter(())
        self._next_ask = 0.0

    def step(self, now: float) -> None:
        """Do a little of what is to be done, if it is this worker's turn."""
        for _ in self._round:
            return
        if now >= self._next_ask:
            self._next_ask = now + ASK_EVERY_SECONDS
            self._round = self._begin()

    def abandon(self) -> None:
        """Forget the round: Redis was away, and somebody else may be at it."""
        self._round = iter(())

    def _begin(self) -> Iterator[None]:
        if self._protocol.claim("reconcile", RECONCILE_EVERY_SECONDS):
            yield from self._reconcile()
        if self._protocol.claim("sweep", SWEEP_EVERY_SECONDS):
            self._attempt("forgetting ended jobs", self._protocol.forget_ended_jobs)
            # One call removes a bounded number of results from each collection; a busy one ages faster than that.
            while self._attempt("sweep", self._protocol.sweep):
                yield

    def _reconcile(self) -> Iterator[None]:
        for collection, ids in self._protocol.pending():
            # A round through a large backlog takes longer than a turn; nobody else need begin one.
            self._protocol.keep_turn("reconcile", RECONCILE_EVERY_SECONDS)
            self._mend(collection, ids)
            yield
        if wrong := self._attempt("recount", self._protocol.recount):
            log.warning("counts of waiting images were wrong, and are right now", counts=wrong)

    def _mend(self, collection: str, ids: list[bytes]) -> None:
        mended = self._attempt(f"reconcile of {collection}", self._protocol.reconcile, collection, ids) or []
        for one in mended:
            if one.what != "cancelled":
                self._metrics.recovered_jobs.labels(reason=f"reconcile_{one.what}").inc()
            log.warning("mended a job", queue=one.queue, job=one.job, what=one.what, images=one.images)

    def _attempt(self, what: str, function: Callable[..., Answer], *arguments: object) -> Answer | None:
        """Its answer; None where keys are damaged, which keeps nobody from doing the rest."""
        try:
            return function(*arguments)
        except redis.ResponseError as error:
            if passes(error):
                raise
            log.error("housekeeping was refused", what=what, error=str(error))
            return None
