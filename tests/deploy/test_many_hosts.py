"""Horizontal scaling: Redis on one host, workers on two others, added and removed under load; nothing is lost."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hosts import Host, NoNamespaces, network
from imagequeue import Image, Producer
from imagequeue.connection import connect
from imagequeue_worker.embedded_redis import SERVER_VARIABLE, EmbeddedRedis, _server_binary
from processes import running
from programs import until

IMAGES = 1500
SLICE = 150  # images between one change of the fleet and the next


@pytest.fixture
def hosts() -> Iterator[dict[str, Host]]:
    with ExitStack() as stack:
        try:
            made = stack.enter_context(network(["redis", "east", "west"]))
        except NoNamespaces as error:
            pytest.skip(str(error))
        yield made


@pytest.fixture
def redis_on_its_host(
    hosts: dict[str, Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EmbeddedRedis]:
    """A server that the other hosts reach at its address, and we, who are on none of them, by its socket."""
    there = tmp_path / "redis-server-on-its-host"
    words = " ".join(str(word) for word in hosts["redis"].command(_server_binary()))
    there.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    there.chmod(0o755)
    monkeypatch.setenv(SERVER_VARIABLE, str(there))
    options = {"bind": hosts["redis"].address, "port": "6379", "protected-mode": "no"}
    with EmbeddedRedis(tmp_path / "redis", options=options) as server:
        yield server


@pytest.mark.timeout(300)
def test_workers_come_and_go_on_two_hosts_and_nothing_is_lost(
    hosts: dict[str, Host], redis_on_its_host: EmbeddedRedis, net_folder: Path, pictures: list[Path], tmp_path: Path
) -> None:
    def worker(host: str) -> list[str | Path]:
        url = f"redis://{hosts['redis'].address}:6379/0"
        command = ["imagequeue-worker", "run", "--redis-url", url, "--net", net_folder, "--processes", "1"]
        command += ["--image-root", pictures[0].parent, "--metrics-port", "0", "--batch-images", "8"]
        return hosts[host].command(*command, "--lease-seconds", "2")

    def finished() -> int:
        return producer.progress().ok

    with ExitStack() as stack, Producer(redis_on_its_host.url) as producer:
        connection = stack.enter_context(connect(redis_on_its_host.url, resend=False))
        fleet = [stack.enter_context(running(worker("east"), tmp_path / "east-1.log"))]
        images = [Image(f"image-{number}", str(pictures[number % len(pictures)])) for number in range(IMAGES)]
        submission = producer.submit_many(images)
        until(lambda: finished() >= SLICE, "the first worker works")

        fleet.append(stack.enter_context(running(worker("west"), tmp_path / "west-1.log")))
        until(lambda: len(connection.smembers("rq:workers")) >= 2, "a second one joins on the other host")
        until(lambda: finished() >= 2 * SLICE, "work goes on")

        fleet[0].send_signal(signal.SIGTERM)  # scaled down: it drains
        assert fleet[0].wait(60) == 0
        until(lambda: finished() >= 3 * SLICE, "the other host goes on alone")

        fleet.append(stack.enter_context(running(worker("east"), tmp_path / "east-2.log")))
        until(lambda: len(connection.smembers("rq:workers:classify")) >= 2, "scaled up again")
        fleet[1].kill()  # a machine is gone
        results = list(producer.as_completed(submission.ids, timeout=120))

        by_worker = Counter(result.worker for result in results)
        assert {result.id for result in results} == {image.id for image in images}
        assert [result.error for result in results if result.status.value != "ok"] == []
        progress = producer.progress()
        assert (progress.accepted, progress.ok, progress.pending) == (IMAGES, IMAGES, 0)
        assert len(by_worker) == 3, by_worker
