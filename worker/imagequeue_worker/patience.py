"""Calls to Redis that are repeated until it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import redis

from imagequeue.connection import backoff
from imagequeue_worker.outage import BACKOFF_LAST_SECONDS, Outage, passes
from imagequeue_worker.progress import Progress
from imagequeue_worker.protocol import Protocol

Answer = TypeVar("Answer")


class Patience:
    """Waits out an absence of Redis on one connection; for calls that may be repeated. Used by one thread."""

    def __init__(self, protocol: Protocol, progress: Progress, outage: Outage) -> None:
        self._protocol = protocol
        self._progress = progress
        self._outage = outage

    def call(self, function: Callable[..., Answer], *arguments: object) -> Answer:
        """Call until Redis answers. Waiting for it is no stall."""
        pauses, away = backoff(BACKOFF_LAST_SECONDS), False
        while True:
            try:
                answer = function(*arguments)
            except redis.RedisError as error:
                if not passes(error):
                    raise
                away = True
                self._outage.began(error)
                self._protocol.disconnect()
                self._progress.advance()
                time.sleep(next(pauses))
            else:
                if away:
                    self._outage.over()
                return answer
