"""A connection that outlives a restart of Redis: what may be sent twice is sent until it is answered."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import redis
from redis.exceptions import ClusterCrossSlotError as CrossSlotError

from imagequeue.connection import PASSES, UNAVAILABLE, backoff, connect, redact, redis_errors
from imagequeue.errors import ConfigurationError, RedisRefused

Answer = TypeVar("Answer")
Send = Callable[[Any], Answer]
"""Gets the redis client. `Any`, since redis-py's stubs cannot know that answers come undecoded, as bytes."""


class Link:
    """Redis at one URL; thread-safe. It may be away for `patience` seconds before a call gives up."""

    def __init__(self, url: str, patience: float) -> None:
        if not patience >= 0:
            raise ConfigurationError(f"patience is {patience} s; must be 0 or more")
        self.url = url
        self.patience = patience
        # Resending is decided here, in one place, and not by redis-py as well.
        self.client = connect(url, resend=False)

    def call(self, send: Send[Answer], *, within: float = math.inf) -> Answer:
        """What `send` returns; it may be called again, for as long as patience and `within` seconds last.

        Raises RedisUnavailable or RedisRefused.
        """
        deadline = time.monotonic() + min(self.patience, within)
        pauses = backoff()
        with redis_errors(self.url), _refusals(self.url):
            while True:
                try:
                    return send(self.client)
                except PASSES as error:
                    pause = next(pauses)
                    if isinstance(error, redis.AuthenticationError) or time.monotonic() + pause > deadline:
                        raise
                    if isinstance(error, redis.ReadOnlyError):
                        self.client.connection_pool.disconnect()  # ask again where the address leads
                time.sleep(pause)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self.client.close()


@contextmanager
def _refusals(url: str) -> Iterator[None]:
    try:
        yield
    except UNAVAILABLE:
        raise
    except CrossSlotError as error:
        raise RedisRefused(
            f"Redis at {redact(url)} is a cluster, and our keys are not in one slot; set RQ_KEY_PREFIX={{rq}} and "
            "IMAGEQUEUE_KEY_PREFIX={rq}:imagequeue for every producer and worker"
        ) from error
    except redis.RedisError as error:  # an answer with an error, or of a server that is no Redis
        raise RedisRefused(f"Redis at {redact(url)} refused: {error}") from error
