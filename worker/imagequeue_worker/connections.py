"""The connections of one worker: one per thread that blocks or must not wait, none of which resends by itself."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.connection import UnixDomainSocketConnection
from redis.retry import Retry

# Short, since commands and work are to be had again within 5 s of the return of a server that went without a word.
# Nothing that a worker asks blocks for longer; an answer that comes too late is treated like one that was lost.
SOCKET_TIMEOUT_SECONDS = 4.0
CONNECT_TIMEOUT_SECONDS = 2.0


def own_connection(connection: redis.Redis) -> redis.Redis:
    """A client to the same server with a pool of its own, that never sends a command twice.

    redis-py resends after a lost connection: a resent take would lease a second batch and forget the first.
    """
    pool = connection.connection_pool
    options = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 0), "socket_timeout": SOCKET_TIMEOUT_SECONDS}
    if not issubclass(pool.connection_class, UnixDomainSocketConnection):
        options["socket_connect_timeout"] = CONNECT_TIMEOUT_SECONDS
    return redis.Redis(connection_pool=redis.ConnectionPool(connection_class=pool.connection_class, **options))
