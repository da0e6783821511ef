"""One slot of a Redis Cluster, by a plain client: all our keys are in it, so its owner is the only server we need.

On a cluster both key prefixes begin with the same hash tag (`{rq}`). The URL may name any node; a node that does not
own the slot answers MOVED, and from then on all connections of the client go where it points. A command that was
answered so has not run: it looks like a lost connection, which callers outlive anyhow. Outside of clusters nobody says
MOVED.
"""

from __future__ import annotations

from typing import Any

import redis
from redis.asyncio import connection as aio
from redis.connection import Connection, ConnectionPool, SSLConnection
from redis.exceptions import MovedError

Address = tuple[str, int]


class Owner:
    """Where the slot is believed to be; shared by all connections that are made from one client's."""

    def __init__(self, home: Address) -> None:
        self._home = home
        self.address = home

    def moved(self, asked: Address, host: str, port: int) -> None:
        """A node has named the owner; without a host it means its own."""
        self.address = (host or asked[0], port)

    def unreachable(self, address: Address) -> None:
        """The owner is gone: ask the node of the URL, who answers MOVED once another one has taken over."""
        if self.address == address:
            self.address = self._home


class _FollowsOwner:
    """Mixed into redis-py's connections."""

    host: str
    port: int

    def __init__(self, *, owner: Owner, **options: Any) -> None:  # noqa: ANN401  redis-py's
        super().__init__(**options)
        self._owner = owner

    def _connect(self) -> Any:  # noqa: ANN401  a socket, with or without TLS
        self.host, self.port = address = self._owner.address
        try:
            return super()._connect()  # type: ignore[misc]
        except OSError:
            self._owner.unreachable(address)
            raise

    def read_response(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  whatever Redis answers
        try:
            return super().read_response(*arguments, **options)  # type: ignore[misc]
        except redis.ResponseError as error:
            lost = self._lost(error)
            if lost is None:
                raise
            self.disconnect()  # type: ignore[attr-defined]
            raise lost from error

    def _lost(self, error: redis.ResponseError) -> redis.ConnectionError | None:
        """The lost connection that an answer stands for; None if it is an answer."""
        if isinstance(error, MovedError):
            self._owner.moved((self.host, self.port), error.host, error.port)
            return redis.ConnectionError(f"the slot of our keys is at {error.host}:{error.port} now")
        if is_let_go(error):
            return redis.ConnectionError(f"{self.host}:{self.port} let go of a command: {error}")
        return None


class _FollowsOwnerAsync(_FollowsOwner):
    """The same for asyncio: redis-py has both kinds of connections as well."""

    async def _connect(self) -> None:
        self.host, self.port = address = self._owner.address
        try:
            await super(_FollowsOwner, self)._connect()  # type: ignore[misc]
        except OSError:
            self._owner.unreachable(address)
            raise

    async def read_response(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  whatever Redis answers
        try:
            return await super(_FollowsOwner, self).read_response(*arguments, **options)  # type: ignore[misc]
        except redis.ResponseError as error:
            lost = self._lost(error)
            if lost is None:
                raise
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise lost from error


def is_let_go(error: redis.ResponseError) -> bool:
    """Whether the server has let a command go without an answer, and will answer the next one, or another server will.

    It became a replica, or lost the key's slot, while the command was blocked; or it lacks the replicas that it is told
    to have (`min-replicas-to-write`), as it does for a moment after a failover.
    """
    return str(error).startswith(("UNBLOCKED ", "NOREPLICAS "))


class OwnerConnection(_FollowsOwner, Connection):
    """TCP to the slot's owner."""


class SecureOwnerConnection(_FollowsOwner, SSLConnection):
    """TLS to the slot's owner."""


class AsyncOwnerConnection(_FollowsOwnerAsync, aio.Connection):
    """TCP to the slot's owner, for asyncio."""


class AsyncSecureOwnerConnection(_FollowsOwnerAsync, aio.SSLConnection):
    """TLS to the slot's owner, for asyncio."""


_FOLLOWERS: dict[type, type] = {
    Connection: OwnerConnection,
    SSLConnection: SecureOwnerConnection,
    aio.Connection: AsyncOwnerConnection,
    aio.SSLConnection: AsyncSecureOwnerConnection,
}


def follow_owner(pool: ConnectionPool | aio.ConnectionPool) -> None:
    """Let the connections that this pool will make follow MOVED; a unix socket leads to one server only."""
    follower = _FOLLOWERS.get(pool.connection_class)
    if follower is not None:
        options = pool.connection_kwargs
        options["owner"] = Owner((options.get("host", "localhost"), int(options.get("port", 6379))))
        pool.connection_class = follower
