"""A producer outlives lost replies and restarts of Redis, and accepts nothing twice."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from imagequeue import AsyncProducer, Producer
from imagequeue.connection import connect
from imagequeue_worker.embedded_redis import EmbeddedRedis
from producer_hand import settler, wait_for_command
from unix_relay import UnixRelay


class ReplyLoser(UnixRelay):
    """A relay to Redis that hangs up instead of handing over the answer to the next call of a script."""

    def __init__(self, listen: Path, server: Path) -> None:
        self.lost = 0
        self.armed = False
        super().__init__(listen, server)

    def answer(self, request: bytes, upstream: socket.socket) -> bytes | None:
        answer = super().answer(request, upstream)
        if self.armed and b"EVALSHA" in request and answer is not None and not answer.startswith(b"-NOSCRIPT"):
            self.armed = False
            self.lost += 1
            return None
        return answer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A server of its own, since it is restarted."""
    with EmbeddedRedis(tmp_path / "redis", durable=True) as ours:
        yield ours


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with connect(server.url, resend=True) as ours:
        yield ours


def test_a_call_whose_reply_is_lost_accepts_once_and_says_so(tmp_path: Path, server: EmbeddedRedis) -> None:
    relay = ReplyLoser(tmp_path / "relay.sock", server.folder / "redis.sock")
    with Producer(relay.url) as producer:
        producer.submit("/before")  # loads the script
        relay.armed = True
        receipt = producer.submit("/a")
        assert (relay.lost, receipt.accepted, producer.progress().accepted) == (1, True, 2)
    relay.close()


def test_the_same_in_an_event_loop(tmp_path: Path, server: EmbeddedRedis) -> None:
    async def main(url: str) -> None:
        async with AsyncProducer(url) as producer:
            await producer.submit("/before")
            relay.armed = True
            receipt = await producer.submit("/a")
            assert (relay.lost, receipt.accepted, (await producer.progress()).accepted) == (1, True, 2)

    relay = ReplyLoser(tmp_path / "relay.sock", server.folder / "redis.sock")
    asyncio.run(main(relay.url))
    relay.close()


def test_a_window_whose_reply_is_lost_is_accepted_once(tmp_path: Path, server: EmbeddedRedis) -> None:
    relay = ReplyLoser(tmp_path / "relay.sock", server.folder / "redis.sock")
    with Producer(relay.url) as producer:
        producer.submit("/before")
        relay.armed = True
        submission = producer.submit_many(f"/{number}" for number in range(60))
        assert (relay.lost, submission.accepted, submission.known) == (1, 60, 0)
        assert producer.progress().accepted == 61
    relay.close()


def test_submitting_goes_on_after_a_restart(server: EmbeddedRedis) -> None:
    with Producer(server.url) as producer:
        producer.submit("/a")
        server.restart()
        assert producer.submit("/b").accepted
        assert producer.progress().accepted == 2


def test_submitting_waits_for_redis_to_come_back(server: EmbeddedRedis) -> None:
    with Producer(server.url) as producer:
        server.kill()
        receipts = []
        thread = threading.Thread(target=lambda: receipts.append(producer.submit("/a")))
        thread.start()
        server.start()
        thread.join()
        assert receipts[0].accepted


def test_waiting_goes_on_after_a_restart(server: EmbeddedRedis, client: redis.Redis) -> None:
    with Producer(server.url) as producer:
        producer.submit("/a", id="a")
        found = []
        with client.monitor() as monitor:
            thread = threading.Thread(target=lambda: found.append(producer.wait(["a"], timeout=60)))
            thread.start()
            wait_for_command(monitor, "XREAD")
        server.restart()
        settler(client)("a")
        thread.join()
        assert list(found[0]) == ["a"]


def test_waiting_is_not_confused_by_a_server_that_begins_anew(server: EmbeddedRedis, client: redis.Redis) -> None:
    # Given a reader whose last entry is far ahead of what the server will write, as after a failover
    client.xadd("imagequeue:completed:default", {"id": "other", "status": "ok"}, id="99999999999999-0")
    with Producer(server.url) as producer:
        found = []
        with client.monitor() as monitor:
            thread = threading.Thread(target=lambda: found.append(producer.wait(["a"], timeout=60)))
            thread.start()
            wait_for_command(monitor, "XREAD")
        # When the stream begins anew while it waits
        client.flushall()
        producer.submit("/a", id="a")
        settler(client)("a")
        # Then the result is found all the same
        thread.join()
        assert list(found[0]) == ["a"]
