"""Redis Sentinel by URL: every connection asks the sentinels which server is the primary, and goes there.

    redis+sentinel://[user:password@]host[:26379][,host[:port]…]/service[/database][?options]

User and password are the servers'; the sentinels' own are the options `sentinel_username` and `sentinel_password`.
`rediss+sentinel://` speaks TLS to the sentinels and to the servers. Other options are redis-py's.

A connection is the unit that follows a failover: nothing is cached but which sentinel answered last, so whatever made a
client drop its connections (a killed primary, a demoted one) leads it to the new primary with the next one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import redis
from redis.asyncio import connection as aio
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, parse_url
from redis.retry import Retry

from imagequeue.errors import ConfigurationError, RedisUnavailable
from imagequeue.slot_owner import Address, is_let_go

SENTINEL_PORT: Final = 26379
ASK_SECONDS: Final = 1.0  # per sentinel and step; one in three may be gone, and work is to go on within 5 s
FORM: Final = "redis+sentinel://host[,host…]/service[/database]"

_URL = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?:(?P<login>[^@/?]*)@)?(?P<hosts>[^@/?]+)/(?P<service>[^/?]+)"
    r"(?:/(?P<database>\d*))?(?:\?(?P<options>.*))?"
)
_HOST = re.compile(r"(?:\[(?P<literal>[0-9a-fA-F:.]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>\d+))?")
_OF_SENTINELS = ("sentinel_username", "sentinel_password")


def is_sentinel_url(url: str) -> bool:
    """Whether this URL names sentinels."""
    return url.startswith(("redis+sentinel:", "rediss+sentinel:"))


class Sentinels:
    """The sentinels of one service. Holds no socket, so it may be shared by threads and survive a fork."""

    def __init__(self, addresses: tuple[Address, ...], service: str, options: Mapping[str, Any]) -> None:
        self.service = service
        self._addresses = addresses
        self._options = dict(options)

    def primary(self) -> Address:
        """Where the primary is, by the first sentinel that knows; raise redis.ConnectionError when none does."""
        silent = []
        for sentinel in self._addresses:
            try:
                found = self._ask(sentinel)
            except redis.RedisError as error:
                silent.append(f"{sentinel[0]}:{sentinel[1]}: {error}")
                continue
            if found:
                self._addresses = (sentinel, *(other for other in self._addresses if other != sentinel))
                return found
            silent.append(f"{sentinel[0]}:{sentinel[1]}: knows no such service")
        raise redis.ConnectionError(f"no sentinel names a primary of {self.service!r} ({'; '.join(silent)})")

    def _ask(self, sentinel: Address) -> Address | None:
        host, port = sentinel
        with redis.Redis(host=host, port=port, **self._options) as client:
            client.response_callbacks.clear()
            answer: Any = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", self.service)
        return (answer[0].decode(), int(answer[1])) if answer else None


class _ToPrimary:
    """Mixed into redis-py's connections."""

    host: str
    port: int
    handshake_metadata: Any

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:  # noqa: ANN401  redis-py's
        super().__init__(**options)
        self._sentinels = sentinels

    def _connect(self) -> Any:  # noqa: ANN401  a socket, with or without TLS
        self.host, self.port = self._sentinels.primary()
        return super()._connect()  # type: ignore[misc]

    def on_connect_check_health(self, check_health: bool = True) -> None:
        super().on_connect_check_health(check_health=check_health)  # type: ignore[misc]
        self._check_role(self.handshake_metadata)

    def _check_role(self, hello: Any) -> None:  # noqa: ANN401  HELLO's answer, which is everybody's, unlike ROLE's
        """A sentinel that was cut off may name the primary of yesterday."""
        if (hello or {}).get(b"role") == b"replica":
            raise redis.ConnectionError(f"{self.host}:{self.port} is a replica, whatever a sentinel says")

    def read_response(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  whatever Redis answers
        try:
            return super().read_response(*arguments, **options)  # type: ignore[misc]
        except redis.ResponseError as error:
            if not _is_no_primarys(error):
                raise
            self.disconnect()  # type: ignore[attr-defined]
            raise self._lost(error) from error

    def _lost(self, error: redis.ResponseError) -> redis.ConnectionError:
        """The command has not run. It looks like a lost connection, which callers outlive anyhow."""
        return redis.ConnectionError(f"{self.host}:{self.port} is no primary (any more): {error}")


class _ToPrimaryAsync(_ToPrimary):
    """The same for asyncio."""

    async def _connect(self) -> None:
        self.host, self.port = await asyncio.to_thread(self._sentinels.primary)
        await super(_ToPrimary, self)._connect()  # type: ignore[misc]

    async def on_connect_check_health(self, check_health: bool = True) -> None:  # type: ignore[override]
        await super(_ToPrimary, self).on_connect_check_health(check_health=check_health)  # type: ignore[misc]
        # redis-py does not keep the answer to its own.
        await self.send_command("HELLO", check_health=False)  # type: ignore[attr-defined]
        self._check_role(await self.read_response())

    async def read_response(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  whatever Redis answers
        try:
            return await super(_ToPrimary, self).read_response(*arguments, **options)  # type: ignore[misc]
        except redis.ResponseError as error:
            if not _is_no_primarys(error):
                raise
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise self._lost(error) from error


def _is_no_primarys(error: redis.ResponseError) -> bool:
    return isinstance(error, redis.ReadOnlyError) or is_let_go(error)


class PrimaryConnection(_ToPrimary, Connection):
    """TCP to the primary."""


class SecurePrimaryConnection(_ToPrimary, SSLConnection):
    """TLS to the primary."""


class AsyncPrimaryConnection(_ToPrimaryAsync, aio.Connection):
    """TCP to the primary, for asyncio."""


class AsyncSecurePrimaryConnection(_ToPrimaryAsync, aio.SSLConnection):
    """TLS to the primary, for asyncio."""


# By whether they are for asyncio, and whether they speak TLS.
_CONNECTIONS: dict[tuple[bool, bool], type] = {
    (False, False): PrimaryConnection,
    (False, True): SecurePrimaryConnection,
    (True, False): AsyncPrimaryConnection,
    (True, True): AsyncSecurePrimaryConnection,
}


def pool_options(url: str, *, asynchronous: bool = False) -> dict[str, Any]:
    """What redis-py's connection pools need to follow the primary that this URL's sentinels name.

    Raises ConfigurationError when the URL has another form.
    """
    parts = _parts(url)
    secure = parts["scheme"] == "rediss"
    options: dict[str, Any] = parse_url(_server_url(parts, "server"))
    own = {name.removeprefix("sentinel_"): options.pop(name) for name in _OF_SENTINELS if name in options}
    if secure:
        own |= {"ssl": True, **{name: value for name, value in options.items() if name.startswith("ssl_")}}
    own |= {"socket_timeout": ASK_SECONDS, "socket_connect_timeout": ASK_SECONDS, "retry": Retry(NoBackoff(), 0)}
    for name in ("host", "connection_class"):
        options.pop(name, None)
    addresses = tuple(_address(host) for host in parts["hosts"].split(","))
    sentinels = Sentinels(addresses, parts["service"], own)
    return options | {"sentinels": sentinels, "connection_class": _CONNECTIONS[asynchronous, secure]}


def server_url(url: str) -> str:
    """A plain URL of where this one leads at the moment, for tools that know no sentinels; other URLs as they are.

    Raises ConfigurationError and RedisUnavailable.
    """
    if not is_sentinel_url(url):
        return url
    sentinels: Sentinels = pool_options(url)["sentinels"]
    try:
        host, port = sentinels.primary()
    except redis.ConnectionError as error:
        raise RedisUnavailable(f"{error}; name the sentinels that watch it, or the server itself") from error
    return _server_url(_parts(url), f"[{host}]:{port}" if ":" in host else f"{host}:{port}", without=_OF_SENTINELS)


def _server_url(parts: Mapping[str, str], place: str, *, without: tuple[str, ...] = ()) -> str:
    login = f"{parts['login']}@" if parts["login"] else ""
    options = urlencode([pair for pair in parse_qsl(parts["options"]) if pair[0] not in without])
    return f"{parts['scheme']}://{login}{place}/{parts['database'] or 0}" + (f"?{options}" if options else "")


def _parts(url: str) -> dict[str, str]:
    found = _URL.fullmatch(url)
    if found is None:
        raise ConfigurationError(f"the Redis URL names sentinels, but is not of the form {FORM}")
    return found.groupdict(default="")


def _address(text: str) -> Address:
    found = _HOST.fullmatch(text)
    port = int(found["port"] or SENTINEL_PORT) if found else 0
    if not (found and 0 < port < 65_536):
        raise ConfigurationError(f"{text!r} is no host[:port] of a sentinel; write {FORM}")
    return found["literal"] or found["name"], port
