"""The connections of one worker: one per thread that blocks or must not wait, none of which resends by itself."""

from __future__ import annotations

import time

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, UnixDomainSocketConnection
from redis.retry import Retry

from imagequeue.connection import connect

# Short, since commands and work are to be had again within 5 s of the return of a server that went without a word.
# Nothing that a worker asks blocks for longer; an answer that comes too late is treated like one that was lost.
SOCKET_TIMEOUT_SECONDS = 4.0
CONNECT_TIMEOUT_SECONDS = 2.0
READING_TIMEOUT_SECONDS = 2.0


class OwnRedis(redis.Redis):
    """A client that knows since when it is connected.

    redis-py replaces an idle connection that the other side has closed without a word: after a failover, the first
    answer may come from another server, and no call has failed.
    """

    connected_at = 0.0  # monotonic seconds

    def note(self, connection: Connection) -> None:
        """Begin a connection as redis-py does, and note when."""
        connection.on_connect()
        self.connected_at = time.monotonic()


def own_connection(connection: redis.Redis) -> OwnRedis:
    """A client to the same server with a pool of its own, that never sends a command twice.

    redis-py resends after a lost connection: a resent take would lease a second batch and forget the first.
    """
    pool = connection.connection_pool
    options = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 0), "socket_timeout": SOCKET_TIMEOUT_SECONDS}
    if not issubclass(pool.connection_class, UnixDomainSocketConnection):
        options["socket_connect_timeout"] = CONNECT_TIMEOUT_SECONDS
    own = OwnRedis(connection_pool=redis.ConnectionPool(connection_class=pool.connection_class, **options))
    own.connection_pool.connection_kwargs["redis_connect_func"] = own.note
    return own


def reading_connection(url: str) -> redis.Redis:
    """A client for who only reads and must answer soon: a scrape, a probe.

    A connection that a restart has cut is replaced at once; a server that says nothing is not asked again.
    """
    client = connect(url, resend=False, socket_timeout_seconds=READING_TIMEOUT_SECONDS)
    client.set_retry(Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)))
    return client
