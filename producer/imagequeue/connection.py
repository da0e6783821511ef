"""How both sides reach Redis, and what a user is told when they do not."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.asyncio import BlockingConnectionPool as AsyncBoundedPool
from redis.asyncio import ConnectionPool as AsyncPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import AskError, ClusterDownError, TryAgainError
from redis.retry import Retry

from imagequeue.errors import ConfigurationError, RedisUnavailable
from imagequeue.sentinel import FORM, is_sentinel_url, pool_options
from imagequeue.slot_owner import follow_owner

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
URL_VARIABLE = "IMAGEQUEUE_REDIS_URL"
CONNECT_TIMEOUT_SECONDS = 5.0
SOCKET_TIMEOUT_SECONDS = 10.0
BACKOFF_FIRST_SECONDS = 0.05

# What Redis being away looks like; anything else is an answer.
UNAVAILABLE = (redis.ConnectionError, redis.TimeoutError)

# What passes by itself: a demoted primary refuses writes until its address names the new one, and a cluster refuses
# them while it elects an owner or moves our slot.
PASSES = (*UNAVAILABLE, redis.ReadOnlyError, AskError, ClusterDownError, TryAgainError)


def redis_url_or_default(redis_url: str | None) -> str:
    """The URL that is given, that of the environment, or the one of this machine."""
    return redis_url or os.environ.get(URL_VARIABLE) or DEFAULT_REDIS_URL


def connect(url: str, *, resend: bool, socket_timeout_seconds: float = SOCKET_TIMEOUT_SECONDS) -> redis.Redis:
    """Return a client for `redis://`, `rediss://`, `unix://` or `redis+sentinel://`; nothing is sent yet.

    `resend=True` lets redis-py send a command again after a lost connection: for tools whose calls are idempotent by
    themselves. Producers do not, since `link.py` resends; workers do not, since a resent take would take twice. On a
    cluster the client follows our slot (`slot_owner.py`), with sentinels the primary (`sentinel.py`).
    Raises ConfigurationError when the URL is none.
    """
    retry = Retry(ExponentialWithJitterBackoff(cap=1.0, base=0.05), 5) if resend else Retry(NoBackoff(), 0)
    options = {"retry": retry, **_options(url, socket_timeout_seconds)}
    with _url_errors(url):
        if is_sentinel_url(url):
            return redis.Redis.from_pool(redis.ConnectionPool(**options | pool_options(url)))
        client = redis.Redis.from_url(url, **options)
    follow_owner(client.connection_pool)
    return client


def connect_async(url: str, connections: int | None = None) -> AsyncRedis:
    """Return asyncio's client; calls wait for one of so many connections. It never resends by itself.

    Raises ConfigurationError when the URL is none.
    """
    options = {"retry": AsyncRetry(NoBackoff(), 0), **_options(url, SOCKET_TIMEOUT_SECONDS)}
    pool_class: type[AsyncPool] = AsyncPool
    if connections is not None:
        pool_class = AsyncBoundedPool
        # Without a timeout: whoever holds a connection is answered within its socket's.
        options |= {"max_connections": connections, "timeout": None}
    with _url_errors(url):
        if is_sentinel_url(url):
            return AsyncRedis.from_pool(pool_class(**options | pool_options(url, asynchronous=True)))
        pool = pool_class.from_url(url, **options)
    follow_owner(pool)
    return AsyncRedis.from_pool(pool)


def _options(url: str, socket_timeout_seconds: float) -> dict[str, Any]:
    options: dict[str, Any] = {"socket_timeout": socket_timeout_seconds, "health_check_interval": 0}
    if not url.startswith("unix:"):
        options |= {"socket_connect_timeout": CONNECT_TIMEOUT_SECONDS, "socket_keepalive": True}
    return options


@contextmanager
def _url_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"Redis URL {redact(url)!r} is not usable ({error}); write redis://host:6379/0, rediss://…, "
            f"unix:///path or {FORM}"
        ) from error


def backoff(last_seconds: float = 1.0) -> Iterator[float]:
    """Endless pauses in seconds: doubling up to a limit, spread so that not everybody comes back at once."""
    pause = BACKOFF_FIRST_SECONDS
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311  no secret
        pause = min(2 * pause, last_seconds)


def redact(url: str) -> str:
    """The URL without its passwords, for messages and logs."""
    url = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)
    return re.sub(r"([?&](?:sentinel_)?password=)[^&]*", r"\1***", url)


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
