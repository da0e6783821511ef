"""Durable acceptance: given on evidence only, refused with a remedy, and what each level survives."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagequeue import ConfigurationError, DurabilityUnavailable, Producer, contract
from imagequeue.bridge import run
from imagequeue.connection import connect
from imagequeue.durability import probe
from imagequeue_worker.embedded_redis import EmbeddedRedis
from ports import free_port
from unix_relay import UnixRelay

Start = Callable[..., EmbeddedRedis]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers, each on a folder of its own."""
    servers: list[EmbeddedRedis] = []

    def begin(**options: object) -> EmbeddedRedis:
        server = EmbeddedRedis(tmp_path / f"s{len(servers)}", **options)
        server.start()
        servers.append(server)
        return server

    yield begin
    for server in servers:
        server.stop()


@pytest.fixture
def always(start: Start) -> EmbeddedRedis:
    return start(durable=True, port=free_port(), options={"repl-diskless-sync-delay": "0"})


def accepted(server: EmbeddedRedis) -> int:
    with Producer(server.url) as producer:
        return producer.progress().accepted


def replica_of(primary: EmbeddedRedis, start: Start) -> EmbeddedRedis:
    """A replica that is in step."""
    replica = start(durable=True)
    host, port = "127.0.0.1", int(primary.url.rpartition(":")[2].partition("/")[0])
    with connect(replica.url, resend=True) as client, connect(primary.url, resend=False) as source:
        client.replicaof(host, port)
        source.set("in-step", 1)
        while client.get("in-step") is None:
            threading.Event().wait(0.01)
    return replica


# --- evidence -----------------------------------------------------------------------------------------------


def test_a_server_that_syncs_always_accepts_durably(always: EmbeddedRedis) -> None:
    with Producer(always.url) as producer:
        assert producer.submit("/a", id="a", durable=True).accepted


def test_many_are_accepted_durably(always: EmbeddedRedis) -> None:
    with Producer(always.url) as producer:
        assert producer.submit_many([f"/{n}" for n in range(100)], durable=True).accepted == 100


def test_a_chunk_that_is_known_is_confirmed_by_a_write_all_the_same(always: EmbeddedRedis) -> None:
    with Producer(always.url) as producer, connect(always.url, resend=False) as client:
        producer.submit("/a", id="a")
        before = client.info("replication")["master_repl_offset"], client.info("persistence")["aof_current_size"]
        assert not producer.submit("/a", id="a", durable=True).accepted
        after = client.info("replication")["master_repl_offset"], client.info("persistence")["aof_current_size"]
        assert after > before
        assert producer.progress().accepted == 1


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"appendonly": "no"}, "no append-only file"),
        ({"appendfsync": "no"}, "appendfsync no"),
        # Of the servers at hand none waits: Valkey 9.1.2 and Redis 7.4.1 answer at once, older ones lack the command.
        ({"appendfsync": "everysec"}, "WAITAOF does not wait"),
    ],
)
def test_a_server_without_evidence_accepts_nothing_and_the_remedy_is_named(
    start: Start, options: dict[str, str], why: str
) -> None:
    server = start(options=options)
    with Producer(server.url) as producer, pytest.raises(DurabilityUnavailable, match=why) as refusal:
        producer.submit("/a", durable=True)
    assert "imagequeue-worker redis --durable" in str(refusal.value)
    assert accepted(server) == 0


def test_a_server_that_waits_for_its_disk_passes_the_probe_once(start: Start, tmp_path: Path) -> None:
    server = start()
    with connect(server.url, resend=False) as client:
        if client.execute_command("COMMAND INFO", "WAITAOF")[0] is None:
            pytest.skip("no WAITAOF before Redis 7.2")
    relay = WaitsForDisk(tmp_path / "relay.sock", Path(server.url.removeprefix("unix://")))
    with Producer(relay.url) as producer:
        assert producer.submit("/a", durable=True).accepted
        probed = relay.waited
        assert probed >= 3, "one slow answer is no evidence"
        assert producer.submit("/b", durable=True).accepted
        assert relay.waited == probed + 1
        # A server that has been restarted may be another one.
        server.restart()
        assert producer.submit("/c", durable=True).accepted
        assert relay.waited > probed + 3
    relay.close()


def test_a_slow_network_is_no_evidence(start: Start, tmp_path: Path) -> None:
    server = start()
    relay = WaitsForDisk(tmp_path / "relay.sock", Path(server.url.removeprefix("unix://")), slow=b"", seconds=0.02)
    with connect(relay.url, resend=False) as client:
        assert not run(probe(client))
    relay.close()


def test_replicas_need_a_durable_submission(always: EmbeddedRedis) -> None:
    with Producer(always.url) as producer, pytest.raises(ConfigurationError, match="replicas is 1"):
        producer.submit("/a", replicas=1)


def test_replicas_that_are_not_there_are_missed_before_anything_is_accepted(always: EmbeddedRedis) -> None:
    with Producer(always.url) as producer, pytest.raises(DurabilityUnavailable, match="Redis has 0"):
        producer.submit("/a", durable=True, replicas=1)
    assert accepted(always) == 0


def test_a_replica_that_does_not_confirm_is_said_so(always: EmbeddedRedis, start: Start) -> None:
    replica = replica_of(always, start)
    os.kill(replica.pid or 0, signal.SIGSTOP)
    try:
        with (
            Producer(always.url, patience=0.5) as producer,
            pytest.raises(DurabilityUnavailable, match=r"are accepted, but .* 0 of 1 replicas"),
        ):
            producer.submit("/a", durable=True, replicas=1)
    finally:
        os.kill(replica.pid or 0, signal.SIGCONT)
    assert accepted(always) == 1


# --- what each level survives: the README's table -------------------------------------------------------------


@pytest.mark.parametrize("durable", [False, True])
def test_both_levels_survive_the_death_of_the_servers_process(start: Start, durable: bool) -> None:
    server = start(durable=durable)
    with Producer(server.url) as producer:
        producer.submit_many([f"/{n}" for n in range(100)], durable=durable)
        server.kill()
        server.start()
        assert producer.progress().accepted == 100


def test_durable_on_a_replica_survives_the_loss_of_the_primary(always: EmbeddedRedis, start: Start) -> None:
    replica = replica_of(always, start)
    with Producer(always.url) as producer:
        producer.submit_many([f"/{n}" for n in range(100)], durable=True, replicas=1)
    always.kill()
    with connect(replica.url, resend=False) as client:
        client.replicaof("NO", "ONE")
        assert client.hlen(contract.pending_key("default")) == 100


def test_without_replicas_acceptance_does_not_wait_for_them(always: EmbeddedRedis, start: Start) -> None:
    """So what is plain or durable may be lost with the primary's disk."""
    replica = replica_of(always, start)
    os.kill(replica.pid or 0, signal.SIGSTOP)
    try:
        with Producer(always.url) as producer:
            assert producer.submit("/a", durable=True).accepted
            assert producer.submit("/b").accepted
    finally:
        os.kill(replica.pid or 0, signal.SIGCONT)


class WaitsForDisk(UnixRelay):
    """A relay to a server that acknowledges without syncing; it holds the answers back as an honest one would."""

    def __init__(self, listen: Path, server: Path, *, slow: bytes = b"WAITAOF", seconds: float = 0.6) -> None:
        self.waited = 0
        self._slow, self._seconds = slow, seconds
        super().__init__(listen, server)

    def answer(self, request: bytes, upstream: socket.socket) -> bytes | None:
        if self._slow in request:
            self.waited += 1
            threading.Event().wait(self._seconds)
        return super().answer(request, upstream)
