"""The threads of a worker that hold a connection of their own: the listener and the heartbeat, on a real Redis."""

from __future__ import annotations

import time

import redis
from prometheus_client import CollectorRegistry

from imagequeue.contract import QUEUES
from imagequeue_worker.connections import own_connection
from imagequeue_worker.heartbeat import Heartbeat
from imagequeue_worker.listener import Listener
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.outage import Outage
from imagequeue_worker.progress import Progress
from imagequeue_worker.protocol import Protocol
from imagequeue_worker.settings import Settings
from imagequeue_worker.vitals import VitalsBoard
from worker_process import PATIENCE_SECONDS, until


def test_an_outage_that_the_listener_alone_has_met_is_over_when_it_hears_again(connection: redis.Redis) -> None:
    registry = CollectorRegistry()
    listener = Listener(own_connection(connection), "rq:pubsub:w", lambda _: None, Outage(Metrics(registry)))
    listener.start()
    assert listener.wait_until_subscribed(PATIENCE_SECONDS)
    for reconnects in (1, 2):
        connection.client_kill_filter(_type="pubsub")
        until(lambda: registry.get_sample_value("imagequeue_redis_reconnects_total") == reconnects)  # noqa: B023
    listener.stop()
    listener.join(PATIENCE_SECONDS)
    assert not listener.is_alive()


def test_a_beat_that_comes_after_a_worker_has_taken_its_leave_does_not_bring_it_back(connection: redis.Redis) -> None:
    registered: list[float] = []
    metrics = Metrics(CollectorRegistry())
    heartbeat = Heartbeat(
        Protocol(connection, "w", QUEUES, lease_seconds=9.0, result_ttl=60), Settings(), Progress(), metrics,
        Outage(metrics), VitalsBoard(1).rows[0], lambda: registered.append(time.monotonic()), 60,
    )  # fmt: skip
    heartbeat._beat()
    assert len(registered) == 1  # RQ does not know it
    heartbeat.stop()
    heartbeat._beat()
    assert len(registered) == 1
