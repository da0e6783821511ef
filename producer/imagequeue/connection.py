"""How both sides reach Redis, and what a user is told when they do not."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import AskError, ClusterDownError, TryAgainError
from redis.retry import Retry

from imagequeue.errors import ConfigurationError, RedisUnavailable
from imagequeue.slot_owner import follow_owner

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
CONNECT_TIMEOUT_SECONDS = 5.0
SOCKET_TIMEOUT_SECONDS = 10.0
BACKOFF_FIRST_SECONDS = 0.05

# What Redis being away looks like; anything else is an answer.
UNAVAILABLE = (redis.ConnectionError, redis.TimeoutError)

# What passes by itself: a demoted primary refuses writes until its address names the new one, and a cluster refuses
# them while it elects an owner or moves our slot.
PASSES = (*UNAVAILABLE, redis.ReadOnlyError, AskError, ClusterDownError, TryAgainError)


def connect(url: str, *, resend: bool, socket_timeout_seconds: float = SOCKET_TIMEOUT_SECONDS) -> redis.Redis:
    """Return a client for `redis://`, `rediss://` or `unix://`; nothing is sent yet.

    `resend=True` lets redis-py send a command again after a lost connection: right for calls that are idempotent by
    themselves (submit, reading). The worker never does: a resent take would take twice. On a cluster the client
    follows our slot (`slot_owner.py`).
    Raises ConfigurationError when the URL is none.
    """
    retry = Retry(ExponentialWithJitterBackoff(cap=1.0, base=0.05), 5) if resend else Retry(NoBackoff(), 0)
    options: dict[str, Any] = {
        "retry": retry,
        "socket_timeout": socket_timeout_seconds,
        "health_check_interval": 0,
    }
    if not url.startswith("unix:"):
        options |= {"socket_connect_timeout": CONNECT_TIMEOUT_SECONDS, "socket_keepalive": True}
    try:
        client = redis.Redis.from_url(url, **options)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"Redis URL {redact(url)!r} is not usable ({error}); write redis://host:6379/0, rediss://… or unix:///path"
        ) from error
    follow_owner(client.connection_pool)
    return client


def backoff(last_seconds: float = 1.0) -> Iterator[float]:
    """Endless pauses in seconds: doubling up to a limit, spread so that not everybody comes back at once."""
    pause = BACKOFF_FIRST_SECONDS
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311  no secret
        pause = min(2 * pause, last_seconds)


def redact(url: str) -> str:
    """The URL without its password, for messages and logs."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


@contextmanager
def redis_errors(url: str) -> Iterator[None]:
    """Turn redis-py's connection errors into RedisUnavailable with a remedy."""
    try:
        yield
    except redis.AuthenticationError as error:
        raise RedisUnavailable(f"Redis at {redact(url)} refuses the login: {error}") from error
    except UNAVAILABLE as error:
        raise RedisUnavailable(
            f"no Redis at {redact(url)} ({error}); start one with `imagequeue-worker redis`, "
            "or name yours with --redis-url or IMAGEQUEUE_REDIS_URL"
        ) from error
