"""urllib3's connections, held to a policy: what is connected to is what was checked, and every read ends in time.

The seam is `_new_conn`, where urllib3 resolves a name and connects. Here the name is resolved once, every address that
it has is checked, and one of those very addresses is connected to: there is no second look-up that could answer
otherwise, and no way to a socket that goes around. Environment proxies and `.netrc` are no part of urllib3.

Imported by the first `http:` reference only: urllib3 and ssl cost 14 MB and a tenth of a second.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references.addresses import AddressPolicy
from imagequeue_worker.references.sources import Resolve, SocketAddress

_HOSTS_MAX: Final = 256  # whose idle connections are kept
_RESOLVING_MAX: Final = 8  # look-ups at once

_now = threading.local()  # `clock` of the fetch that this thread is at: how many seconds it has left


@contextmanager
def time_limit(clock: Callable[[], float]) -> Iterator[None]:
    """Let every connection that this thread uses end its reads and connects when the clock says 0."""
    _now.clock = clock
    try:
        yield
    finally:
        del _now.clock


def _seconds_left() -> float:
    left: float = _now.clock()
    if left <= 0:
        raise TimeoutError("time is up")
    return left


class _Socket(socket.socket):
    """Timeouts of sockets hold for one read: a server that drips a byte a second would never meet one."""

    def recv_into(self, *arguments: Any, **options: Any) -> int:  # noqa: ANN401  socket's signature
        self.settimeout(_seconds_left())
        return super().recv_into(*arguments, **options)


class _TLSSocket(ssl.SSLSocket):
    """The same inside TLS."""

    def recv_into(self, *arguments: Any, **options: Any) -> int:  # noqa: ANN401
        self.settimeout(_seconds_left())
        return super().recv_into(*arguments, **options)


def _system_resolve(host: str, port: int) -> list[tuple[int, SocketAddress]]:
    """What the system's resolver answers."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(int(family), address) for family, _, _, _, address in found]


class Guard:
    """Resolves names and connects to what the policy permits; shared by all connections."""

    def __init__(self, policy: AddressPolicy, resolve: Resolve | None = None) -> None:
        self._policy = policy
        self._resolve = resolve or _system_resolve
        # The system's resolver knows no time limit: a look-up that hangs is left behind in its thread.
        self._threads = ThreadPoolExecutor(_RESOLVING_MAX, thread_name_prefix="resolve")

    def connect(self, host: str, port: int) -> socket.socket:
        """A connection to one of the addresses of a host, all of which are permitted.

        Raises ImageError `forbidden`, socket.gaierror, TimeoutError, OSError.
        """
        found = self._threads.submit(self._resolve, host, port).result(_seconds_left())
        for _, address in found:
            # One that is not permitted is enough: honest names have none, and which one is taken is chance.
            if not self._policy.permits(str(address[0])):
                raise ImageError(
                    ErrorCode.FORBIDDEN,
                    f"{host[:200]!r} has the address {address[0]}, which is not public; "
                    "a network that workers may fetch from is named with --allow-network",
                )
        error: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
        for family, address in found:
            try:
                return _connect(family, address)
            except TimeoutError:
                raise
            except OSError as refused:
                error = refused
        raise error


def _connect(family: int, address: SocketAddress) -> socket.socket:
    connection = _Socket(family, socket.SOCK_STREAM)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(_seconds_left())
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _new_connection(guard: Guard, connection: HTTPConnection) -> socket.socket:
    """What urllib3's `_new_conn` does, with the guard's connect in it."""
    host, port = connection._dns_host, connection.port or connection.default_port
    try:
        return guard.connect(host.removeprefix("[").removesuffix("]"), port)
    except (socket.gaierror, UnicodeError) as error:
        raise NameResolutionError(connection.host, connection, socket.gaierror(str(error))) from error
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, f"no connection to {connection.host} in time") from error
    except OSError as error:
        raise NewConnectionError(connection, f"no connection: {error}") from error


def make_manager(guard: Guard, per_host_max: int) -> urllib3.PoolManager:
    """A pool of kept connections, at most so many per host, every one of them made by `guard`."""

    class Connection(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _new_connection(guard, self)

    class TLSConnection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _new_connection(guard, self)

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    @cache
    def tls_context() -> ssl.SSLContext:
        context = ssl.create_default_context()  # reads the system's certificates: not before they are needed
        context.sslsocket_class = _TLSSocket
        return context

    class TLSPool(HTTPSConnectionPool):
        ConnectionCls = TLSConnection

        def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  urllib3's signature
            super().__init__(*arguments, ssl_context=tls_context(), **options)

    manager = urllib3.PoolManager(_HOSTS_MAX, maxsize=per_host_max, block=True)
    manager.pool_classes_by_scheme = {"http": Pool, "https": TLSPool}
    return manager
