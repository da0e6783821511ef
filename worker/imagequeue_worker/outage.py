"""What an absence of Redis looks like, and who says so: one line in the log when it begins, one when it is over."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import redis
import structlog

from imagequeue.connection import PASSES

if TYPE_CHECKING:
    from imagequeue_worker.metrics import Metrics

log = structlog.get_logger("imagequeue_worker.outage")

BACKOFF_LAST_SECONDS = 1.5  # consuming again within 5 s of Redis' return

# Answers that pass by themselves, or by an operator's hand: no memory, a disk that is full, data being loaded, a
# primary that is none any more. Redis 6.2 wraps the errors of commands in scripts: there the code stands after a colon.
_TYPES = (*PASSES, redis.OutOfMemoryError)
_CODES = re.compile(
    r"(?:^|: -?)(?:OOM|MISCONF|LOADING|READONLY|NOAUTH|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|BUSY) "
)


def passes(error: BaseException) -> bool:
    """Whether an error says that Redis is away, or cannot work now: the same call may succeed later."""
    return isinstance(error, _TYPES) or (isinstance(error, redis.ResponseError) and bool(_CODES.search(str(error))))


class Outage:
    """Whether Redis is away, for all threads of a worker."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._away = False
        self._lock = threading.Lock()

    def began(self, error: BaseException) -> None:
        """Redis does not work for somebody; said once, whoever notices first."""
        with self._lock:
            if not self._away:
                self._away = True
                log.warning("Redis is away; trying again", error=f"{type(error).__name__}: {error}")

    def over(self) -> None:
        """It works again, for somebody for whom it did not."""
        with self._lock:
            if self._away:
                self._away = False
                self._metrics.redis_reconnects.inc()
                log.info("Redis is back")
