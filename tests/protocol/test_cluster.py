"""A Redis Cluster: all keys in one slot, found by way of any node, and found again when it moves."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from imagequeue import Producer, RedisRefused
from imagequeue.connection import connect
from imagequeue.link import AsyncLink, Link
from imagequeue_worker.connections import own_connection
from imagequeue_worker.embedded_redis import EmbeddedRedis

PREFIXES = {"RQ_KEY_PREFIX": "{rq}", "IMAGEQUEUE_KEY_PREFIX": "{rq}:imagequeue"}
KEY = "{rq}:imagequeue:test"
SLOTS = 16_384
NODE_TIMEOUT_MS = 2_000


class Cluster:
    """Three nodes with a third of the slots each; `owner` is the one with our slot."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[EmbeddedRedis] = []
        for _ in range(3):
            self.add_node()
        step = SLOTS // 3 + 1
        for number, node in enumerate(self.nodes):
            slots = range(number * step, min(SLOTS, (number + 1) * step))
            self.ask(node, "CLUSTER", "ADDSLOTS", *slots)
            self.ask(node, "CLUSTER", "MEET", "127.0.0.1", port_of(self.nodes[0]))
        self.slot = int(self.ask(self.nodes[0], "CLUSTER", "KEYSLOT", KEY))
        self.owner, self.others = self.nodes[self.slot // step], list(self.nodes)
        self.others.remove(self.owner)
        wait_until(lambda: all(self.state(node) == {"cluster_state": "ok", "nodes": 3} for node in self.nodes))

    def add_node(self) -> EmbeddedRedis:
        options = {"cluster-enabled": "yes", "cluster-node-timeout": str(NODE_TIMEOUT_MS)}
        node = EmbeddedRedis(self.folder / f"n{len(self.nodes)}", port=free_bus_port(), options=options)
        node.start()
        self.nodes.append(node)
        return node

    def state(self, node: EmbeddedRedis) -> dict[str, object]:
        info = dict(line.split(":") for line in self.ask(node, "CLUSTER", "INFO").decode().split())
        return {"cluster_state": info["cluster_state"], "nodes": int(info["cluster_known_nodes"])}

    def id_of(self, node: EmbeddedRedis) -> str:
        return self.ask(node, "CLUSTER", "MYID").decode()

    def move_slot(self, target: EmbeddedRedis) -> None:
        """The slot and its keys, as an operator would: with a time in which it is half moved."""
        source_id, target_id = self.id_of(self.owner), self.id_of(target)
        self.ask(target, "CLUSTER", "SETSLOT", self.slot, "IMPORTING", source_id)
        self.ask(self.owner, "CLUSTER", "SETSLOT", self.slot, "MIGRATING", target_id)
        for key in self.ask(self.owner, "CLUSTER", "GETKEYSINSLOT", self.slot, 1000):
            self.ask(self.owner, "MIGRATE", "127.0.0.1", port_of(target), key, 0, 5000)
        for node in (target, self.owner):
            self.ask(node, "CLUSTER", "SETSLOT", self.slot, "NODE", target_id)
        self.owner = target

    def ask(self, node: EmbeddedRedis, *command: object) -> object:
        with redis.Redis.from_url(node.url) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


def port_of(node: EmbeddedRedis) -> int:
    return int(node.url.rpartition(":")[2].partition("/")[0])


def free_bus_port() -> int:
    """A port whose neighbour 10,000 above is free as well: the nodes talk there. The kernel gives out higher ones."""
    while True:
        port = 20_000 + int.from_bytes(os.urandom(2)) % 10_000
        with socket.socket() as listener, socket.socket() as bus, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + 10_000))
            return port


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.05)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    ours = Cluster(tmp_path)
    yield ours
    ours.stop()


# --- finding the slot ---------------------------------------------------------------------------------------


def test_any_node_leads_to_the_slot(cluster: Cluster) -> None:
    for node in cluster.nodes:
        link = Link(node.url, patience=30)
        assert link.call(lambda client: client.incr(KEY)) > 0
        assert link.call(lambda client: client.connection_pool.connection_kwargs["owner"].address)[1] == port_of(
            cluster.owner
        )
        link.close()


def test_pipelines_and_scripts_find_the_slot_too(cluster: Cluster) -> None:
    link = Link(cluster.others[0].url, patience=30)
    script = link.client.register_script("return redis.call('INCR', KEYS[1])")
    assert link.call(lambda _: script(keys=[KEY])) == 1

    def send(client: redis.Redis) -> list[object]:
        transaction = client.pipeline(transaction=True)
        transaction.incr(KEY)
        transaction.get(KEY)
        return transaction.execute()

    again = Link(cluster.others[1].url, patience=30)
    assert again.call(send) == [2, b"2"]
    link.close()
    again.close()


def test_own_connections_of_a_worker_go_where_the_first_was_led(cluster: Cluster) -> None:
    with connect(cluster.others[0].url, resend=False) as client:
        with pytest.raises(redis.ConnectionError, match="the slot of our keys is at"):
            client.incr(KEY)
        with own_connection(client) as own:
            assert own.incr(KEY) == 1


def test_a_slot_that_moves_is_found_again(cluster: Cluster) -> None:
    link = Link(cluster.owner.url, patience=30)
    for target in (*cluster.others, cluster.owner):
        before = link.call(lambda client: client.incr(KEY))
        cluster.move_slot(target)
        assert link.call(lambda client: client.incr(KEY)) == before + 1
    link.close()


def test_an_event_loop_finds_the_slot_and_follows_it(cluster: Cluster) -> None:
    async def main() -> None:
        link = AsyncLink(cluster.others[0].url, patience=30, connections=2)

        def send(client: redis.asyncio.Redis) -> object:
            transaction = client.pipeline(transaction=True)
            transaction.incr(KEY)
            transaction.get(KEY)
            return transaction.execute()

        assert await link.ask(send) == [1, b"1"]
        cluster.move_slot(cluster.others[1])
        assert await link.ask(send) == [2, b"2"]
        assert await link.ask(lambda client: client.incr(KEY), blocks=True) == 3
        await link.close()

    asyncio.run(main())


def test_calls_during_a_move_wait_for_its_end(cluster: Cluster) -> None:
    target = cluster.others[0]
    link = Link(cluster.owner.url, patience=60)
    link.call(lambda client: client.mset({KEY: 1, f"{KEY}2": 1}))
    cluster.ask(target, "CLUSTER", "SETSLOT", cluster.slot, "IMPORTING", cluster.id_of(cluster.owner))
    cluster.ask(cluster.owner, "CLUSTER", "SETSLOT", cluster.slot, "MIGRATING", cluster.id_of(target))
    cluster.ask(cluster.owner, "MIGRATE", "127.0.0.1", port_of(target), KEY, 0, 5000)
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(link.call(lambda client: client.mget(KEY, f"{KEY}2"))))
    thread.start()
    cluster.move_slot(target)
    thread.join()
    assert answers == [[b"1", b"1"]]
    link.close()


def test_a_replica_that_takes_over_is_found(cluster: Cluster) -> None:
    replica = cluster.add_node()
    cluster.ask(replica, "CLUSTER", "MEET", "127.0.0.1", port_of(cluster.owner))
    wait_until(lambda: all(cluster.state(node)["nodes"] == 4 for node in cluster.nodes))
    cluster.ask(replica, "CLUSTER", "REPLICATE", cluster.id_of(cluster.owner))
    link = Link(cluster.others[0].url, patience=60)
    link.call(lambda client: client.set(KEY, 1))
    with connect(cluster.owner.url, resend=False) as primary:
        wait_until(lambda: primary.wait(1, 1000) == 1)
        primary.set(KEY, 2)
        assert primary.wait(1, 10_000) == 1
    os.kill(cluster.owner.pid or 0, signal.SIGKILL)
    assert link.call(lambda client: client.incr(KEY)) == 3
    link.close()


def test_keys_in_several_slots_are_refused_with_the_remedy(cluster: Cluster) -> None:
    """This process has the prefixes that do not fit a cluster."""
    with (
        Producer(cluster.owner.url) as producer,
        pytest.raises(RedisRefused, match=re.escape("IMAGEQUEUE_KEY_PREFIX={rq}:")),
    ):
        producer.submit("/a")


# --- the whole road -----------------------------------------------------------------------------------------

ROAD = """
import sys
from imagequeue import Producer
with Producer() as producer:
    ids = producer.submit_many(sys.argv[1:]).ids
    print(*[result.status for result in producer.wait(ids, timeout=90).values()])
    producer.submit(sys.argv[1], id="again")
    producer.wait(["again"], timeout=90)
    print(producer.submit(sys.argv[1], id="again", resubmit=True).accepted)
    producer.wait(["again"], timeout=90)
    producer.pause("classify-low")
    print(producer.submit_many(["/x", "/y"], priority="low").accepted, producer.cancel_collection("default"))
    producer.resume("classify-low")
    print(producer.progress())
    print(*[finding for finding in producer.diagnose().findings if not finding.ok])
    producer.drop("default")
    print(producer.progress())
"""


def test_pictures_are_classified_through_a_cluster(cluster: Cluster, net_folder: Path, pictures: list[Path]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEQUEUE_")} | PREFIXES
    worker_environment = environment | {
        "IMAGEQUEUE_REDIS_URL": cluster.others[0].url, "IMAGEQUEUE_NET": str(net_folder),
        "IMAGEQUEUE_IMAGE_ROOT": str(pictures[0].parent), "IMAGEQUEUE_PROCESSES": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", "from imagequeue_worker.cli import main; main()", "run", "--metrics-port", "0"]
    with subprocess.Popen(command, env=worker_environment, stderr=subprocess.PIPE, text=True) as worker:
        road = subprocess.run(
            [sys.executable, "-c", ROAD, *map(str, pictures)],
            env=environment | {"IMAGEQUEUE_REDIS_URL": cluster.others[1].url},
            capture_output=True,
            text=True,
            check=False,
        )
        worker.terminate()
        _, log = worker.communicate(timeout=60)
    assert road.stdout.splitlines() == [
        "ok ok ok",
        "True",
        "2 2",
        "Progress(accepted=7, pending=0, ok=5, error=2)",
        "",
        "Progress(accepted=0, pending=0, ok=0, error=0)",
    ], road.stderr + log
    assert worker.returncode == 0, log
    with connect(cluster.owner.url, resend=False) as client:
        assert client.cluster("COUNTKEYSINSLOT", cluster.slot) == client.dbsize() > 0, "keys are in other slots"
