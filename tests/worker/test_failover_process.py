"""A primary is killed, or demoted, under load: the worker finds the next one by itself and goes on; so do producers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from imagequeue import DurabilityUnavailable, ImageQueueError, Producer, Status
from imagequeue.connection import connect
from sentinel_site import SentinelSite
from worker_process import WorkerProcess, run_cli, running_worker, until

BETWEEN = 20  # acknowledged images


@dataclass
class Load:
    """A producer that submits one image after the other, and remembers those that a replica has confirmed."""

    url: str
    picture: Path
    confirmed: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with Producer(self.url, patience=10, depth_limit=100) as producer:
            for number in count():
                while not self.ended.is_set():
                    # Without a replica, or without an answer, it is not acknowledged: sending it again is safe.
                    with suppress(DurabilityUnavailable, ImageQueueError):
                        producer.submit(self.picture, id=str(number), durable=True, replicas=1)
                        self.confirmed.append(str(number))
                        break
                    self.ended.wait(0.05)
                if self.ended.is_set():
                    return

    def goes_on(self, worker: WorkerProcess) -> None:
        """Wait for some more."""
        enough = len(self.confirmed) + BETWEEN
        until(lambda: len(self.confirmed) >= enough, worker)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SentinelSite]:
    with SentinelSite(tmp_path) as ours:
        yield ours


def is_killed(site: SentinelSite) -> None:
    site.kill_primary().start()


def is_demoted(site: SentinelSite) -> None:
    site.demote_primary()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("primary", [is_killed, is_demoted], ids=lambda function: function.__name__)
def test_nothing_that_a_replica_confirmed_is_lost_when_the_primary(
    site: SentinelSite, net_folder: Path, pictures: list[Path], tmp_path: Path,
    primary: Callable[[SentinelSite], None],
) -> None:  # fmt: skip
    load = Load(site.url, pictures[0])
    with (
        connect(site.url, resend=True) as connection,
        running_worker(site.url, connection, net_folder, tmp_path / "log", roots=[pictures[0].parent]) as worker,
    ):
        worker.wait_until_ready()
        thread = threading.Thread(target=load.run)
        thread.start()
        load.goes_on(worker)
        primary(site)
        site.wait_until_replicated()
        load.goes_on(worker)
        load.ended.set()
        thread.join()
        with Producer(site.url) as producer:
            results = producer.wait(load.confirmed, timeout=60)
            assert {result.status for result in results.values()} == {Status.OK}
            assert set(results) == set(load.confirmed)
            until(lambda: producer.progress().pending == 0, worker)
        obeys(worker)
        text = worker.log_text()
        assert text.count("Redis is away") <= 2  # once for each time that it went
        assert "Traceback" not in text
        assert worker.stop() == 0


def obeys(worker: WorkerProcess) -> None:
    """The worker process ends when RQ's shutdown command says so, and another takes its place."""
    (before,) = worker.children()
    (key,) = worker.connection.smembers("rq:workers")
    channel = f"rq:pubsub:{key.decode().removeprefix('rq:worker:')}"
    until(lambda: worker.connection.pubsub_numsub(channel)[0][1], worker)
    worker.connection.publish(channel, b'{"command": "shutdown"}')
    until(lambda: worker.children() not in ([], [before]), worker)


def test_rqs_tools_look_at_the_primary(site: SentinelSite) -> None:
    with Producer(site.url) as producer:
        producer.submit("/x")
    done = run_cli("rq-info", "--redis-url", site.url, "--raw")
    assert "queue classify 1" in done.stdout, done.stderr
