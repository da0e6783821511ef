"""/metrics: one page for a supervisor and all of its worker processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from wsgiref.simple_server import WSGIServer

import redis
import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server, values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from imagequeue_worker.backlog import Backlog, read_backlog

log = structlog.get_logger("imagequeue_worker.metrics_server")


def use_metrics_slot(folder: Path, slot: int) -> None:
    """Let this process's metrics live in files of `folder` that belong to its slot.

    By slot, not by pid: a restarted child goes on where its predecessor stopped, so that counters never go back and
    files do not grow. Call after the fork and before the metrics are made.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: slot)


class BacklogCollector(Collector):
    """Fleet-wide gauges, read from Redis at each scrape; aggregate them with max over workers."""

    def __init__(self, connection: redis.Redis, queues: Sequence[str]) -> None:
        self._connection = connection
        self._queues = queues

    def collect(self) -> Iterator[Metric]:
        """The gauges; none while Redis is away, so that nobody scales on an old number."""
        try:
            backlog = read_backlog(self._connection, self._queues)
        except redis.RedisError as error:
            log.warning("backlog cannot be read", error=str(error))
            return
        yield from backlog_metrics(backlog)


def backlog_metrics(backlog: Backlog) -> Iterator[Metric]:
    """The backlog as gauges; seconds only where a rate was ever measured."""
    images = GaugeMetricFamily("imagequeue_backlog_images", "Images that no worker holds yet", labels=["queue"])
    seconds = GaugeMetricFamily(
        "imagequeue_backlog_seconds", "Backlog over the fleet's measured rate", labels=["queue"]
    )
    age = GaugeMetricFamily(
        "imagequeue_oldest_image_age_seconds", "Age of the oldest image without a result", labels=["queue"]
    )
    for queue in backlog.queues:
        images.add_metric([queue.queue], queue.images)
        if backlog.images_per_second or not queue.images:
            seconds.add_metric([queue.queue], queue.images / (backlog.images_per_second or 1.0))
        oldest = queue.oldest_submitted_at
        age.add_metric([queue.queue], 0.0 if oldest is None else max(0.0, backlog.now - oldest))
    yield from (images, seconds, age)


def serve_metrics(
    host: str, port: int, folder: Path, connection: redis.Redis, queues: Sequence[str], pid: int
) -> WSGIServer:
    """Serve /metrics from a thread of this process; `pid` is the process whose memory and CPU are shown.

    Raises OSError when the address is taken.
    """
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    registry.register(BacklogCollector(connection, queues))
    ProcessCollector(pid=lambda: pid, registry=registry)
    server, _ = start_http_server(port, host, registry)
    return server
