"""The proxy does what its methods say, to a real Redis."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from chaos.tcp_proxy import Moment, Strike, TcpProxy, call_of
from imagequeue.connection import UNAVAILABLE, connect
from imagequeue_worker.embedded_redis import EmbeddedRedis
from ports import free_port

COUNT_UP = "return redis.call('INCR', KEYS[1])"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, redis.Redis]]:
    port = free_port()
    folder: Path = tmp_path_factory.mktemp("proxied")
    with EmbeddedRedis(folder, port=port) as ours, connect(ours.url, resend=False) as direct:
        yield port, direct


@pytest.fixture
def direct(server: tuple[int, redis.Redis]) -> redis.Redis:
    server[1].flushall()
    return server[1]


@pytest.fixture
def proxy(server: tuple[int, redis.Redis]) -> Iterator[TcpProxy]:
    with TcpProxy(server[0]) as ours:
        yield ours


@pytest.fixture
def client(proxy: TcpProxy) -> Iterator[redis.Redis]:
    with connect(proxy.url, resend=False) as ours:
        yield ours


def test_without_a_fault_it_passes_everything_on(client: redis.Redis) -> None:
    client.set("key", b"\x00" * 3_000_000)
    assert client.get("key") == b"\x00" * 3_000_000


def test_a_cut_ends_connections_and_refuses_new_ones_until_healed(client: redis.Redis, proxy: TcpProxy) -> None:
    client.ping()
    proxy.cut()
    for _ in range(3):
        with pytest.raises(UNAVAILABLE):
            client.ping()
    proxy.heal()
    assert client.ping()


def test_what_is_held_arrives_when_healed(client: redis.Redis, direct: redis.Redis, proxy: TcpProxy) -> None:
    client.ping()
    proxy.hold()
    answers: list[int] = []
    caller = threading.Thread(target=lambda: answers.append(client.incr("count")))
    caller.start()
    caller.join(0.2)
    assert caller.is_alive()
    assert direct.get("count") is None
    proxy.heal()
    caller.join(30)
    assert answers == [1]


def test_a_delayed_command_is_answered(client: redis.Redis, proxy: TcpProxy) -> None:
    proxy.delay(0.05)
    assert client.incr("count") >= 1


def test_a_swallowed_reply_is_that_of_a_command_that_ran(
    client: redis.Redis, direct: redis.Redis, proxy: TcpProxy
) -> None:
    client.ping()
    proxy.swallow()
    with pytest.raises(UNAVAILABLE):
        client.incr("count")
    assert direct.get("count") == b"1"
    assert proxy.swallowed == 1


@pytest.mark.parametrize(("moment", "ran"), [(Moment.BEFORE, b"1"), (Moment.AFTER, b"2")])
def test_a_strike_hits_its_call_of_its_script_alone(
    moment: Moment, ran: bytes, client: redis.Redis, direct: redis.Redis, proxy: TcpProxy
) -> None:
    count_up = client.register_script(COUNT_UP)
    direct.script_load(COUNT_UP)
    acts: list[bytes | None] = []
    strike = Strike(call_of(COUNT_UP), moment, lambda: acts.append(direct.get("count")), occurrence=2)
    proxy.strike(strike)
    client.set("other", "1")
    assert count_up(["count"]) == 1
    with pytest.raises(UNAVAILABLE):
        count_up(["count"])
    assert strike.done.wait(30)
    assert acts == [ran]
    assert count_up(["count"]) == int(ran) + 1
