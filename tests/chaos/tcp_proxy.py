"""A TCP proxy that breaks the network on purpose: it cuts, delays, holds half open, and swallows replies.

It runs in a thread of its own and lives on the loopback, between Redis and whoever is given its address. `Strike` aims
at one request: what shall happen before it reaches Redis, or after Redis has run it.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

_READ_BYTES = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST, as a broken path does, not with a polite FIN
START_SECONDS = 60.0


class Moment(StrEnum):
    """When a strike happens."""

    BEFORE = "before"  # Redis never gets the call
    AFTER = "after"  # Redis has run it; nobody hears the reply


@dataclass(slots=True)
class Strike:
    """At the `occurrence`-th request with these bytes: call `act` at that moment, and break that connection."""

    call: bytes
    moment: Moment
    act: Callable[[], object] = lambda: None
    occurrence: int = 1
    done: threading.Event = field(default_factory=threading.Event)


def call_of(script: str) -> bytes:
    """How a call of a script, given by its text, looks on the wire."""
    return b"EVALSHA\r\n$40\r\n" + hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest().encode()


class TcpProxy:
    """A context manager; every method may be called from any thread."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.swallowed = 0
        self._refusing = False
        self._delay_seconds = 0.0
        self._replies_to_swallow = 0
        self._strike: Strike | None = None
        self._connections: set[_Connection] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="tcp-proxy", daemon=True)

    @property
    def url(self) -> str:
        """Redis as seen through the proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(START_SECONDS):
            raise AssertionError("the proxy does not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._end.set)
        self._thread.join(START_SECONDS)

    # --- faults ---------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Reset every connection, and refuse new ones until `heal`."""
        self._refusing = True
        self._call(self._reset_all)

    def delay(self, seconds: float) -> None:
        """Let every piece of data wait so long, in both directions, until `heal`."""
        self._delay_seconds = seconds

    def hold(self) -> None:
        """Keep every connection open and let nothing through until `heal`, which delivers what was held."""
        self._call(self._gate.clear)

    def swallow(self, replies: int = 1) -> None:
        """Lose the next replies, each with its connection, after Redis has run the commands."""
        self._replies_to_swallow = replies

    def strike(self, strike: Strike | None) -> None:
        """Aim at one call of one script; replaces an earlier aim."""
        self._strike = strike

    def heal(self) -> None:
        """End every fault that lasts."""
        self._refusing = False
        self._delay_seconds = 0.0
        self._replies_to_swallow = 0
        self._call(self._gate.set)

    # --- the proxy's thread ---------------------------------------------------------------------------------

    def _call(self, function: Callable[[], None]) -> None:
        """Run it in the proxy's thread, and wait until it has run."""
        ran = threading.Event()

        def run() -> None:
            function()
            ran.set()

        self._loop.call_soon_threadsafe(run)
        ran.wait(START_SECONDS)

    def _reset_all(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._gate, self._end = asyncio.Event(), asyncio.Event()
        self._gate.set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._end.wait()
        server.close()
        self._gate.set()
        self._reset_all()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)
        client = _Side(reader, writer)
        if self._refusing:
            client.reset()
            return
        try:
            redis = _Side(*await asyncio.open_connection("127.0.0.1", self.target_port))
        except OSError:  # Redis is away
            client.reset()
            return
        connection = _Connection(self, client, redis)
        self._connections.add(connection)
        try:
            await asyncio.gather(connection.requests(), connection.replies())
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            connection.reset()
            self._connections.discard(connection)

    async def pass_through(self) -> None:
        """What every piece of data waits for."""
        if self._delay_seconds:
            await asyncio.sleep(self._delay_seconds)
        await self._gate.wait()

    def take_strike(self, request: bytes) -> Strike | None:
        """The strike, if this request is what it aims at."""
        strike = self._strike
        if strike is None or strike.call not in request:
            return None
        strike.occurrence -= 1
        if strike.occurrence > 0:
            return None
        self._strike = None
        return strike

    def take_swallow(self) -> bool:
        """Whether a reply that has come shall be lost."""
        if self._replies_to_swallow <= 0:
            return False
        self._replies_to_swallow -= 1
        self.swallowed += 1
        return True


@dataclass(slots=True, eq=False)
class _Side:
    """One end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def reset(self) -> None:
        channel = self.writer.get_extra_info("socket")
        if channel is not None and channel.fileno() >= 0:
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.writer.transport.abort()


@dataclass(slots=True, eq=False)
class _Connection:
    """A client's connection and the one to Redis behind it."""

    proxy: TcpProxy
    client: _Side
    redis: _Side
    struck: Strike | None = None  # its reply is the one to lose

    def reset(self) -> None:
        self.client.reset()
        self.redis.reset()

    async def requests(self) -> None:
        """From the client to Redis, until one of them ends."""
        while data := await self.client.reader.read(_READ_BYTES):
            await self.proxy.pass_through()
            if strike := self.proxy.take_strike(data):
                if strike.moment is Moment.BEFORE:
                    self._end_with(strike)
                    return
                self.struck = strike
            self.redis.writer.write(data)
            await self.redis.writer.drain()
        self.reset()

    async def replies(self) -> None:
        """From Redis to the client, until one of them ends."""
        while data := await self.redis.reader.read(_READ_BYTES):
            if self.struck:
                self._end_with(self.struck)
                return
            if self.proxy.take_swallow():
                self.reset()
                return
            await self.proxy.pass_through()
            self.client.writer.write(data)
            await self.client.writer.drain()
        self.reset()

    def _end_with(self, strike: Strike) -> None:
        strike.act()
        self.reset()
        strike.done.set()
