"""One slot of a Redis Cluster, by a plain client: all our keys are in it, so its owner is the only server we need.

On a cluster both key prefixes begin with the same hash tag (`{rq}`). The URL may name any node; a node that does not
own the slot answers MOVED, and from then on all connections of the client go where it points. A command that was
answered so has not run: it looks like a lost connection, which callers outlive anyhow. Outside of clusters nobody says
MOVED.
"""

from __future__ import annotations

from typing import Any

import redis
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
        except MovedError as moved:
            self._owner.moved((self.host, self.port), moved.host, moved.port)
            self.disconnect()  # type: ignore[attr-defined]
            raise redis.ConnectionError(f"the slot of our keys is at {moved.host}:{moved.port} now") from moved


class OwnerConnection(_FollowsOwner, Connection):
    """TCP to the slot's owner."""


class SecureOwnerConnection(_FollowsOwner, SSLConnection):
    """TLS to the slot's owner."""


_FOLLOWERS = {Connection: OwnerConnection, SSLConnection: SecureOwnerConnection}


def follow_owner(pool: ConnectionPool) -> None:
    """Let the connections that this pool will make follow MOVED; a unix socket leads to one server only."""
    follower = _FOLLOWERS.get(pool.connection_class)
    if follower is not None:
        options = pool.connection_kwargs
        options["owner"] = Owner((options.get("host", "localhost"), int(options.get("port", 6379))))
        pool.connection_class = follower
