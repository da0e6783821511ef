"""What a producer costs its Redis, what it says of a server that is none, and how long an image will wait."""

from __future__ import annotations

import _thread
import asyncio
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.connection import AbstractConnection

from imagequeue import (
    AsyncProducer,
    ContractError,
    Image,
    Producer,
    RedisRefused,
    RedisUnavailable,
    contract,
)
from imagequeue.bridge import run
from imagequeue.connection import connect
from imagequeue.errors import ConfigurationError
from imagequeue.orders import WINDOW_CHUNKS
from producer_hand import Settle

# --- round trips --------------------------------------------------------------------------------------------


def commands_of(client: redis.Redis, act: Callable[[], object]) -> list[str]:
    """The commands that clients send while it acts; not those that scripts run."""
    with client.monitor() as monitor:
        client.echo("now")
        while "ECHO now" not in monitor.next_command()["command"]:
            pass
        act()
        client.echo("that is all")
        sent = []
        for command in monitor.listen():
            if command["db"] != monitor.connection.db or command["client_type"] == "lua":
                continue
            if command["command"] == "ECHO that is all":
                return sent
            sent.append(command["command"].split()[0].upper())
    raise AssertionError("the monitor ended")


@pytest.fixture
def sends(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows by one each time that a connection sends something and will wait for the answer."""
    noted: list[object] = []
    send = AbstractConnection.send_packed_command

    def noting(self: AbstractConnection, *arguments: Any, **options: Any) -> None:
        noted.append(arguments)
        send(self, *arguments, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", noting)
    return noted


def test_submitting_one_image_is_one_command(producer: Producer, connection: redis.Redis) -> None:
    producer.submit("/first")  # connects, and gives the server the script
    assert commands_of(connection, lambda: producer.submit("/a")) == ["EVALSHA"]


def test_submitting_one_image_is_one_round_trip(producer: Producer, sends: list[object]) -> None:
    producer.submit("/first")
    sends.clear()
    producer.submit("/a")
    assert len(sends) == 1


@pytest.mark.parametrize("chunk", [16, 64])
def test_many_images_cost_few_round_trips(producer: Producer, sends: list[object], chunk: int) -> None:
    producer.submit("/first")
    sends.clear()
    assert producer.submit_many((f"/{number}" for number in range(1000)), chunk=chunk).accepted == 1000
    assert len(sends) <= 0.05 * 1000


def test_reading_a_result_is_one_round_trip(producer: Producer, sends: list[object], settle: Settle) -> None:
    producer.submit("/a", id="a")
    settle("a")
    sends.clear()
    assert producer.result("a") is not None
    assert len(sends) == 1


def test_a_server_that_has_forgotten_the_scripts_gets_them_again(producer: Producer, connection: redis.Redis) -> None:
    producer.submit_many(f"/{number}" for number in range(100))
    connection.script_flush()
    assert producer.submit_many(f"/{number}" for number in range(200)).accepted == 100
    connection.script_flush()
    assert producer.submit("/new").accepted
    assert producer.progress().accepted == 201


# --- windows ------------------------------------------------------------------------------------------------


def test_what_came_before_a_bad_reference_is_submitted(producer: Producer) -> None:
    references = [*(f"/{number}" for number in range(40)), ""]
    with pytest.raises(ContractError, match="empty") as caught:
        producer.submit_many(references)
    assert producer.progress().accepted == 32  # whole chunks
    assert "32 images of this call are accepted" in caught.value.__notes__[0]


def test_what_came_before_a_source_broke_is_submitted(producer: Producer) -> None:
    def references() -> Iterator[str]:
        yield from (f"/{number}" for number in range(40))
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        producer.submit_many(references())
    assert producer.progress().accepted == 32


def test_large_references_do_not_pile_up_in_a_window(producer: Producer, sends: list[object]) -> None:
    producer.submit("/first")
    sends.clear()
    large = "data:" + "x" * (contract.REF_BYTES_MAX - 10)
    producer.submit_many((f"{large}{number}" for number in range(8)), chunk=2)
    assert len(sends) == 2  # of two chunks of 2 MiB each
    assert producer.progress().accepted == 9


def test_chunks_of_a_window_wait_for_room_one_by_one(redis_url: str, connection: redis.Redis, settle: Settle) -> None:
    ids = [f"{number:03d}" for number in range(16 * (WINDOW_CHUNKS + 2))]
    with Producer(redis_url, depth_limit=20) as producer:
        submissions = []
        many = [Image(id_, f"/{id_}") for id_ in ids]
        thread = threading.Thread(target=lambda: submissions.append(producer.submit_many(many)))
        thread.start()
        while thread.is_alive():
            for id_ in connection.hkeys(contract.pending_key("default")):
                settle(id_.decode())
        thread.join()
        for id_ in connection.hkeys(contract.pending_key("default")):
            settle(id_.decode())
        assert (submissions[0].accepted, submissions[0].ids) == (len(ids), tuple(ids))
        assert producer.progress().ok == len(ids)


# --- servers that are none ----------------------------------------------------------------------------------


class Impostor(socketserver.ThreadingTCPServer):
    """A server on 127.0.0.1 that gives one answer to each thing it is sent."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                while request := self.request.recv(65536):
                    self.request.sendall(answer(request))

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.server_address[1]}/0"


@pytest.fixture
def impostor() -> Iterator[Callable[..., str]]:
    servers: list[Impostor] = []

    def start(answer: Callable[[bytes], bytes]) -> str:
        servers.append(Impostor(answer))
        return servers[-1].url

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def http(request: bytes) -> bytes:
    return b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


def redis_of(version: bytes, *unknown: bytes) -> Callable[[bytes], bytes]:
    """Answers as a Redis of that version, which does not know all commands."""
    info = b"# Server\r\nredis_version:%s\r\n" % version

    def answer(request: bytes) -> bytes:
        answers = []
        for command in request.split(b"*")[1:]:
            name = command.split(b"\r\n")[2].upper()
            if name in unknown:
                answers.append(b"-ERR unknown command `%s`\r\n" % name)
            elif name == b"HELLO":
                answers.append(b"%1\r\n$5\r\nproto\r\n:3\r\n")
            else:
                answers.append(b"$%d\r\n%s\r\n" % (len(info), info) if name == b"INFO" else b"+OK\r\n")
        return b"".join(answers)

    return answer


def test_what_is_no_redis_is_said_so(impostor) -> None:
    with pytest.raises((RedisRefused, RedisUnavailable), match=r"no Redis.*--redis-url"):
        Producer(impostor(http), patience=0).submit("/a")


def test_what_is_no_redis_is_said_so_in_an_event_loop(impostor) -> None:
    async def main() -> None:
        async with AsyncProducer(impostor(http), patience=0) as producer:
            await producer.submit("/a")

    with pytest.raises((RedisRefused, RedisUnavailable), match=r"no Redis.*--redis-url"):
        asyncio.run(main())


def test_a_redis_that_is_too_old_is_said_so(impostor) -> None:
    with pytest.raises(RedisRefused, match=r"6\.0\.16; update it to 6\.2"):
        Producer(impostor(redis_of(b"6.0.16")), patience=0).ping()


def test_a_redis_without_our_commands_is_said_so(impostor) -> None:
    with pytest.raises(RedisRefused, match=r"HELLO.*update it to 6\.2"):
        Producer(impostor(redis_of(b"5.0.14", b"HELLO")), patience=0).submit("/a")


def test_a_server_of_today_is_none_of_these(producer: Producer) -> None:
    producer.ping()


def test_a_user_who_may_not_is_told_what_to_do(producer: Producer, connection: redis.Redis, redis_url: str) -> None:
    connection.execute_command("ACL", "SETUSER", "visitor", "on", ">secret", "~*", "-@all", "+@connection")
    try:
        parts = redis_url.split("://")
        url = f"{parts[0]}://visitor:secret@{parts[1]}"
        with pytest.raises(RedisRefused, match="doctor"):
            Producer(url, patience=0).submit("/a")
    finally:
        connection.execute_command("ACL", "DELUSER", "visitor")


def test_a_wrong_password_is_said_so(connection: redis.Redis, redis_url: str) -> None:
    parts = redis_url.split("://")
    with pytest.raises(RedisUnavailable, match="refuses the login") as caught:
        Producer(f"{parts[0]}://nobody:wrong@{parts[1]}", patience=0).submit("/a")
    assert "wrong@" not in str(caught.value)


# --- how long an image will wait ----------------------------------------------------------------------------


def add_worker(client: redis.Redis, name: str, queues: str, rate: float | None) -> None:
    key = f"{contract.RQ_KEY_PREFIX}:worker:{name}"
    client.sadd(f"{contract.RQ_KEY_PREFIX}:workers", key)
    client.hset(key, mapping={"queues": queues, "state": "busy"})
    if rate is not None:
        client.hset(contract.RATES_KEY, name, f"{rate} 1")


def test_without_workers_nobody_knows_how_long_an_image_waits(producer: Producer) -> None:
    producer.submit("/a")
    assert producer.waiting_time() is None


def test_a_worker_that_has_not_measured_itself_says_nothing(producer: Producer, connection: redis.Redis) -> None:
    add_worker(connection, "w", "classify", None)
    assert producer.waiting_time() is None


def test_an_image_waits_for_what_is_ahead_of_it(producer: Producer, connection: redis.Redis) -> None:
    add_worker(connection, "v", "classify-high,classify,classify-low", 8)
    add_worker(connection, "w", "classify-high,classify", 2)
    producer.submit_many((f"/{number}" for number in range(20)), priority="high")
    producer.submit_many(f"/n{number}" for number in range(10))
    assert producer.waiting_time("high") == 2.0  # 20 images at 10 a second
    assert producer.waiting_time() == 3.0  # 30 at 10
    assert producer.waiting_time("low") == 30 / 8  # only one worker serves it


def test_an_empty_queue_is_no_wait(producer: Producer, connection: redis.Redis) -> None:
    add_worker(connection, "w", "classify", 5)
    assert producer.waiting_time() == 0.0


def test_from_a_paused_queue_nobody_takes(producer: Producer, connection: redis.Redis) -> None:
    add_worker(connection, "w", "classify-high,classify", 5)
    producer.submit_many(["/a", "/b"], priority="high")
    producer.pause("classify-high")
    assert producer.waiting_time("high") is None
    assert producer.waiting_time("normal") == 0.0  # what is paused is not ahead


def test_a_priority_that_there_is_not_is_refused(producer: Producer) -> None:
    with pytest.raises(ConfigurationError, match="choose high"):
        producer.waiting_time("urgent")


# --- the rest -----------------------------------------------------------------------------------------------


def test_a_coroutine_that_does_not_lead_to_its_link_is_found_out() -> None:
    with pytest.raises(RuntimeError, match="not its link"):
        run(asyncio.sleep(0))


def test_a_producer_works_beneath_a_running_event_loop(producer: Producer, settle: Settle) -> None:
    """It blocks the loop, as any blocking call does, and needs none of its own."""

    async def main() -> list[str]:
        producer.submit("/a", id="a")
        settle("a")
        return [result.id for result in producer.as_completed(["a"])]

    assert asyncio.run(main()) == ["a"]


def test_ctrl_c_leaves_no_answer_to_the_next_call(
    producer: Producer, connection: redis.Redis, redis_url: str, settle: Settle
) -> None:
    producer.submit_many([Image("a", "/a"), Image("b", "/b")])
    settle("b")

    def interrupt() -> None:
        with connect(redis_url, resend=False) as client:
            while not client.info("clients")["blocked_clients"]:
                pass
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        producer.wait(["a"])
    thread.join()
    settle("a")  # what the interrupted call would have been answered now
    assert producer.result("b").id == "b"
    assert list(producer.wait(["a", "b"])) == ["a", "b"]


def test_importing_the_producers_loads_nothing_heavy() -> None:
    code = """
import sys
from imagequeue import AsyncProducer, Producer
print(*[name for name in ('rq', 'rich', 'click', 'numpy', 'PIL', 'torch', 'imagequeue_worker') if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_importing_the_package_loads_no_redis_yet() -> None:
    code = "import imagequeue, sys; print('redis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
