"""Redis is away in every way there is: workers wait, say so once, and go on working and obeying afterwards."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from imagequeue import Producer, Status
from imagequeue.connection import connect
from imagequeue_worker.connections import own_connection
from imagequeue_worker.embedded_redis import EmbeddedRedis
from imagequeue_worker.outage import passes
from ports import free_port
from worker_process import WorkerProcess, running_worker, until


@dataclass
class Site:
    """A worker on a Redis of its own, which is there to be broken."""

    server: EmbeddedRedis
    connection: redis.Redis
    worker: WorkerProcess
    picture: Path

    def command(self, *words: str | int) -> None:
        self.connection.execute_command(*words)

    def drop_connections(self) -> None:
        """All but ours; the worker has to connect anew."""
        for kind in ("normal", "pubsub"):
            self.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def wait_until_noticed(self) -> None:
        until(lambda: "Redis is away" in self.worker.log_text(), self.worker)

    def classifies(self, id_: str) -> bool:
        with Producer(self.server.url) as producer:
            producer.submit(self.picture, id=id_)
            return producer.wait([id_], timeout=60)[id_].status is Status.OK

    def obeys(self) -> None:
        """The worker ends when RQ's shutdown command says so, and another takes its place."""
        (before,) = self.worker.children()
        (key,) = self.connection.smembers("rq:workers")
        channel = f"rq:pubsub:{key.decode().removeprefix('rq:worker:')}"
        until(lambda: self.connection.pubsub_numsub(channel)[0][1], self.worker)
        self.connection.publish(channel, b'{"command": "shutdown"}')
        until(lambda: self.worker.children() not in ([], [before]), self.worker)


@pytest.fixture
def site(tmp_path: Path, net_folder: Path, pictures: list[Path]) -> Iterator[Site]:
    with (
        EmbeddedRedis(tmp_path / "redis", port=free_port(), durable=True) as server,
        connect(server.url, resend=True) as connection,
        running_worker(server.url, connection, net_folder, tmp_path / "log", roots=[pictures[0].parent]) as worker,
    ):
        worker.wait_until_ready()
        yield Site(server, connection, worker, pictures[0])


def restart(site: Site) -> None:
    site.server.restart()


def becomes_a_replica(site: Site) -> None:
    site.command("REPLICAOF", "127.0.0.1", 1)
    site.wait_until_noticed()
    site.command("REPLICAOF", "NO", "ONE")


def wants_a_password(site: Site) -> None:
    site.command("CONFIG", "SET", "requirepass", "secret")
    site.drop_connections()
    site.wait_until_noticed()
    site.command("CONFIG", "SET", "requirepass", "")


def has_no_room_for_clients(site: Site) -> None:
    site.command("CONFIG", "SET", "maxclients", 1)
    site.drop_connections()
    site.wait_until_noticed()
    site.command("CONFIG", "SET", "maxclients", 1000)


def answers_late(site: Site) -> None:
    site.command("CLIENT", "PAUSE", 6000, "ALL")
    site.wait_until_noticed()


def is_loading(site: Site) -> None:
    pipeline = site.connection.pipeline(transaction=False)
    for number in range(3000):
        pipeline.set(f"ballast:{number}", "x")
    pipeline.execute()
    site.command("CONFIG", "SET", "save", "1 1")
    site.command("BGREWRITEAOF")
    until(lambda: not site.connection.info("persistence")["aof_rewrite_in_progress"])
    site.server._options |= {"key-load-delay": "1000", "loading-process-events-interval-bytes": "1024"}
    site.server.restart()


BREAKS: list[Callable[[Site], None]] = [
    restart, becomes_a_replica, wants_a_password, has_no_room_for_clients, answers_late, is_loading,
]  # fmt: skip


@pytest.mark.parametrize("breaks", BREAKS, ids=lambda function: function.__name__)
def test_a_worker_goes_on_after(site: Site, breaks: Callable[[Site], None]) -> None:
    assert site.classifies("before")
    breaks(site)
    assert site.classifies("after")
    site.obeys()
    text = site.worker.log_text()
    assert text.count("Redis is away") <= 2  # once for each time that it went
    assert "Traceback" not in text
    assert site.worker.stop() == 0


def test_a_server_without_memory_is_drained(site: Site) -> None:
    with Producer(site.server.url) as producer:
        site.command("SET", "rq:suspended", 1)
        producer.submit(site.picture, id="x")
        site.command("CONFIG", "SET", "maxmemory", 1)
        site.command("DEL", "rq:suspended")
        assert producer.wait(["x"], timeout=60)["x"].status is Status.OK
    site.command("CONFIG", "SET", "maxmemory", 0)
    site.obeys()


def test_a_worker_begins_as_soon_as_a_server_without_memory_has_some(
    tmp_path: Path, net_folder: Path, pictures: list[Path]
) -> None:
    with (
        EmbeddedRedis(tmp_path / "redis") as server,
        connect(server.url, resend=True) as connection,
        Producer(server.url) as producer,
    ):
        producer.submit(pictures[0], id="x")
        connection.config_set("maxmemory", 1)
        with running_worker(server.url, connection, net_folder, tmp_path / "log", roots=[pictures[0].parent]) as worker:
            until(lambda: "Redis is away" in worker.log_text(), worker)
            connection.config_set("maxmemory", 0)
            assert producer.wait(["x"], timeout=60)["x"].status is Status.OK


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", True),
        ("MISCONF Errors writing to the AOF file: No space left on device", True),
        ("LOADING Redis is loading the dataset in memory", True),
        ("READONLY You can't write against a read only replica.", True),
        ("NOAUTH Authentication required.", True),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", True),
        ("NOREPLICAS Not enough good replicas to write.", True),
        ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", True),
        ("ERR Error running script (call to f_1): @user_script:9: @user_script: 9: -OOM command not allowed", True),
        ("ERR max number of clients reached", True),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", False),
        ("NOPERM this user has no permissions to run the 'evalsha' command", False),
        ("ERR user_script:5: key imagequeue:pending:OOM holds a string, not a hash; nothing was written", False),
        ("NOSCRIPT No matching script. Please use EVAL.", False),
    ],
    ids=lambda value: str(value).split()[0],
)
def test_which_answers_pass_by_themselves(connection: redis.Redis, answer: str, expected: bool) -> None:
    with pytest.raises(redis.RedisError) as refused:
        connection.eval("return redis.error_reply(ARGV[1])", 0, answer)
    assert passes(refused.value) is expected


class DropsAnswers(threading.Thread):
    """A proxy that passes one connection's commands on and, from the first with this word on, none of the answers."""

    def __init__(self, port: int, word: bytes) -> None:
        super().__init__(daemon=True)
        self._server = port
        self._word = word
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def run(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with client, socket.create_connection(("127.0.0.1", self._server)) as server:
                while command := client.recv(1 << 16):
                    server.sendall(command)
                    answer = server.recv(1 << 16)
                    if self._word in command:
                        break
                    client.sendall(answer)


def test_a_command_whose_answer_is_lost_is_not_sent_again(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis", port=free_port()) as server, connect(server.url, resend=False) as direct:
        assert server.url.startswith("redis://")
        proxy = DropsAnswers(int(server.url.rpartition(":")[2].partition("/")[0]), b"INCR")
        proxy.start()
        with connect(f"redis://127.0.0.1:{proxy.port}/0", resend=True) as resending:
            own = own_connection(resending)
            with pytest.raises(redis.ConnectionError):
                own.incr("count")
            assert direct.get("count") == b"1"
            with pytest.raises(redis.ConnectionError):
                resending.incr("count")
            assert int(direct.get("count")) > 2  # what redis-py does when it is let


def test_a_connection_that_was_replaced_without_a_word_is_known_to_be_new(connection: redis.Redis) -> None:
    with own_connection(connection) as own:
        first = own.client_id()
        connected_at = own.connected_at
        assert own.client_id() == first
        assert own.connected_at == connected_at
        connection.client_kill_filter(_id=str(first))
        assert own.client_id() != first  # and no call has failed
        assert own.connected_at > connected_at
