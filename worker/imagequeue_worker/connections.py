"""The connections of one worker: one per thread that blocks or must not wait, none of which resends by itself."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def own_connection(connection: redis.Redis) -> redis.Redis:
    """A client to the same server with a pool of its own, that never sends a command twice.

    redis-py resends after a lost connection: a resent take would lease a second batch and forget the first.
    """
    pool = connection.connection_pool
    options = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 0)}
    return redis.Redis(connection_pool=redis.ConnectionPool(connection_class=pool.connection_class, **options))
