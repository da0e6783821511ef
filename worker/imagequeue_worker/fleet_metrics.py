"""Gauges of the whole fleet, read from Redis at each scrape: they stand on every page, so aggregate them with max."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import redis
import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from imagequeue_worker.backlog import Backlog, read_backlog
from imagequeue_worker.redis_state import RedisState, read_redis

log = structlog.get_logger("imagequeue_worker.fleet_metrics")


class RedisCollector(Collector):
    """Metrics that are read from Redis; `redis_up` alone while it is away: nobody is to act on an old number."""

    def __init__(self) -> None:
        self._was_up = True

    def collect(self) -> Iterator[Metric]:
        """Read and show them."""
        try:
            metrics = list(self.read())
        except redis.RedisError as error:
            if self._was_up:  # once, and not with every scrape
                log.warning("Redis cannot be read for metrics", error=f"{type(error).__name__}: {error}")
            metrics, self._was_up = [], False
        else:
            self._was_up = True
        yield gauge("redis_up", "1, or 0 when Redis did not answer this scrape", float(self._was_up))
        yield from metrics

    def read(self) -> Iterator[Metric]:
        """The metrics; may raise redis.RedisError."""
        raise NotImplementedError


class FleetCollector(RedisCollector):
    """The fleet's gauges."""

    def __init__(self, connection: redis.Redis, queues: Sequence[str]) -> None:
        super().__init__()
        self._connection = connection
        self._queues = queues

    def read(self) -> Iterator[Metric]:
        """Backlog, and what Redis says of itself."""
        yield from backlog_metrics(read_backlog(self._connection, self._queues))
        yield from redis_metrics(read_redis(self._connection))


def backlog_metrics(backlog: Backlog) -> Iterator[Metric]:
    """The backlog; seconds only where a rate was ever measured."""
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


def redis_metrics(state: RedisState) -> Iterator[Metric]:
    """What Redis says of itself that an operator must act on."""
    yield gauge("redis_memory_used_bytes", "Memory that Redis uses", state.memory_used_bytes)
    yield gauge("redis_memory_max_bytes", "Its maxmemory; 0 is no limit", state.memory_max_bytes)
    yield gauge("redis_aof_enabled", "1 when it keeps an append-only file", float(state.aof_enabled))
    yield gauge("redis_aof_last_write_ok", "0 when it could not write that file", float(state.aof_last_write_ok))
    info = GaugeMetricFamily(
        "imagequeue_redis_info", "1, with what it is", labels=["version", "role", "maxmemory_policy"]
    )
    info.add_metric([state.version, state.role, state.maxmemory_policy], 1.0)
    yield info


def gauge(name: str, help_: str, value: float) -> Metric:
    """A gauge without labels."""
    return GaugeMetricFamily(f"imagequeue_{name}", help_, value=value)
