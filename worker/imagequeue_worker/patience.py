"""Calls to Redis that are repeated until it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from imagequeue.connection import PASSES, backoff
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.progress import Progress
from imagequeue_worker.protocol import Protocol

log = structlog.get_logger("imagequeue_worker.patience")

Answer = TypeVar("Answer")

BACKOFF_LAST_SECONDS = 2.0  # consuming again within 5 s of Redis' return


class Patience:
    """Waits out an absence of Redis on one connection; for calls that may be repeated. Used by one thread."""

    def __init__(self, protocol: Protocol, progress: Progress, metrics: Metrics) -> None:
        self._protocol = protocol
        self._progress = progress
        self._metrics = metrics

    def call(self, function: Callable[..., Answer], *arguments: object) -> Answer:
        """Call until Redis answers. Waiting for it is no stall."""
        pauses, away = backoff(BACKOFF_LAST_SECONDS), False
        while True:
            try:
                answer = function(*arguments)
            except PASSES as error:
                if not away:
                    log.warning("Redis is away; trying again", error=str(error))
                away = True
                self._protocol.disconnect()
                self._progress.advance()
                time.sleep(next(pauses))
            else:
                if away:
                    self._metrics.redis_reconnects.inc()
                    log.info("Redis is back")
                return answer
