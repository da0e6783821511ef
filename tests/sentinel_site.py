"""A primary, a replica and three sentinels that watch them: real processes, on ports of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from imagequeue_worker.embedded_redis import EmbeddedRedis, _server_binary, _with_parent
from ports import free_port
from programs import until

SERVICE = "ours"
SENTINEL_PASSWORD = "for sentinels/"
_SETTINGS = """\
port {port}
dir {folder}
requirepass "{password}"
sentinel sentinel-pass "{password}"
sentinel monitor {service} 127.0.0.1 {primary} 2
sentinel down-after-milliseconds {service} 500
sentinel failover-timeout {service} 3000
"""


@dataclass
class SentinelSite:
    """A context manager; `primary()` says which server it is at the moment."""

    folder: Path
    servers: list[EmbeddedRedis] = field(default_factory=list)
    sentinels: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{hosts}/{SERVICE}/0?sentinel_password=for%20sentinels%2F"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        first = self._start_server("first")
        self._start_server("second", replicaof=f"127.0.0.1 {port_of(first)}")
        for number in range(3):
            self._start_sentinel(number, port_of(first))
        until(self._is_watched)

    def _start_server(self, name: str, **options: str) -> EmbeddedRedis:
        options["repl-diskless-sync-delay"] = "0"  # not 5 s until a replica is one again
        server = EmbeddedRedis(self.folder / name, port=free_port(), durable=True, options=options)
        server.start()
        self.servers.append(server)
        return server

    def _start_sentinel(self, number: int, primary: int) -> None:
        folder = self.folder / f"sentinel-{number}"
        folder.mkdir()
        port = free_port()
        text = _SETTINGS.format(port=port, folder=folder, service=SERVICE, primary=primary, password=SENTINEL_PASSWORD)
        settings = folder / "sentinel.conf"
        settings.write_text(text)
        with (folder / "log").open("wb") as log:
            command = [*_with_parent(), _server_binary(), str(settings), "--sentinel"]
            self.sentinels.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        self.ports.append(port)

    def _is_watched(self) -> bool:
        """Whether every sentinel knows the replica, which follows, and the two other sentinels."""
        views = [self._view(port) for port in self.ports]
        return all(view.get(b"num-slaves") == b"1" and view.get(b"num-other-sentinels") == b"2" for view in views) and (
            self._replication(self.servers[1]).get("master_link_status") == "up"
        )

    def _view(self, port: int) -> dict[bytes, bytes]:
        with suppress(redis.RedisError), redis.Redis(port=port, password=SENTINEL_PASSWORD, retry=None) as client:
            client.response_callbacks.clear()
            cells = client.execute_command("SENTINEL MASTER", SERVICE)
            return cells if isinstance(cells, dict) else dict(zip(cells[::2], cells[1::2], strict=True))
        return {}

    def _replication(self, server: EmbeddedRedis) -> dict[str, object]:
        with suppress(redis.RedisError), redis.Redis.from_url(server.url, socket_timeout=1.0, retry=None) as client:
            return dict(client.info("replication"))
        return {}

    def primary(self) -> EmbeddedRedis:
        """The one that the sentinels name, and that says so itself."""
        found: list[EmbeddedRedis] = []

        def is_named() -> bool:
            named = self._view(self.ports[0]).get(b"port")
            found[:] = [server for server in self.servers if str(port_of(server)).encode() == named]
            return bool(found) and self._replication(found[0]).get("role") == "master"

        until(is_named)
        return found[0]

    def kill_primary(self) -> EmbeddedRedis:
        """SIGKILL; returns what was killed, to be started again. The other one is the primary when this returns."""
        killed = self.primary()
        os.kill(killed.pid or 0, signal.SIGKILL)
        killed.kill()
        until(lambda: self.primary() is not killed)
        return killed

    def demote_primary(self) -> None:
        """What an operator does before maintenance; a sentinel says NOGOODSLAVE while it knows none that is fresh.

        The old primary takes writes until it is told, a moment after the new one: they are lost.
        """
        before = self.primary()

        def is_begun() -> bool:
            with redis.Redis(port=self.ports[0], password=SENTINEL_PASSWORD) as client:
                client.response_callbacks.clear()
                with suppress(redis.ResponseError):
                    return bool(client.execute_command("SENTINEL FAILOVER", SERVICE))
            return False

        until(is_begun)
        until(lambda: self.primary() is not before)
        until(lambda: self._replication(before).get("role") == "slave")

    def wait_until_replicated(self) -> None:
        """There is a replica again, and it follows."""
        primary = self.primary()
        (other,) = (server for server in self.servers if server is not primary)
        until(lambda: self._replication(other).get("master_link_status") == "up")

    def stop(self) -> None:
        for sentinel in self.sentinels:
            sentinel.terminate()
            sentinel.wait()
        for server in self.servers:
            server.stop()


def port_of(server: EmbeddedRedis) -> int:
    return int(server.url.rpartition(":")[2].partition("/")[0])
