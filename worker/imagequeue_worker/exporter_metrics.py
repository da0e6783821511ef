"""What `imagequeue-worker exporter` shows: the fleet, our queues and collections, and everything of RQ's.

    one scrape ── exporter reads ──> values ──> metrics

Everything is read at the scrape, by plain commands and one read-only script. Redis keeps the counters, so they outlive
every exporter; they go back only where somebody drops a collection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import redis
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from imagequeue.contract import QUEUES
from imagequeue_worker.backlog import Backlog, read_backlog
from imagequeue_worker.fleet_metrics import RedisCollector, backlog_metrics, gauge, redis_metrics
from imagequeue_worker.our_state import OurCollection, OurQueue, queues_with_images, read_collections, read_queues
from imagequeue_worker.redis_state import RedisState, read_redis
from imagequeue_worker.rq_state import RqQueue, RqState, read_rq

T = TypeVar("T")


class ExporterCollector(RedisCollector):
    """Everything, read at each scrape."""

    def __init__(self, connection: redis.Redis, *, collections_max: int) -> None:
        super().__init__()
        self._connection = connection
        self._collections_max = collections_max

    def collect(self) -> Iterator[Metric]:
        """Read and show it, and how long that took."""
        began = time.monotonic()
        yield from list(super().collect())
        yield gauge("exporter_read_seconds", "How long reading took", time.monotonic() - began)

    def read(self) -> Iterator[Metric]:
        """Everything."""
        # Ours by name, too: who scales a fleet from zero needs a number before the first image.
        ours = list(dict.fromkeys([*QUEUES, *queues_with_images(self._connection)]))
        backlog, state = read_backlog(self._connection, ours), read_redis(self._connection)
        yield from backlog_metrics(backlog)
        yield from redis_metrics(state)
        yield from server_metrics(state)
        yield from queue_metrics(read_queues(self._connection, ours, backlog.now), backlog)
        yield from collection_metrics(*read_collections(self._connection, self._collections_max))
        yield from rq_metrics(read_rq(self._connection, backlog.now))


def server_metrics(state: RedisState) -> Iterator[Metric]:
    """What else Redis says of itself."""
    yield gauge("redis_connected_clients", "Clients of Redis", state.connected_clients)
    yield CounterMetricFamily(
        "imagequeue_redis_evicted_keys", "Keys that Redis has thrown away for want of memory", value=state.evicted_keys
    )


def queue_metrics(queues: Sequence[OurQueue], backlog: Backlog) -> Iterator[Metric]:
    """Our queues beyond their backlog."""
    yield by_label(
        "imagequeue_waiting_images", "Images accepted and without a result", "queue", queues,
        lambda queue: queue.name, lambda queue: queue.waiting_images,
    )  # fmt: skip
    yield by_label(
        "imagequeue_queue_paused", "1 while nothing is taken from the queue", "queue", queues,
        lambda queue: queue.name, lambda queue: float(queue.paused),
    )  # fmt: skip
    leases = GaugeMetricFamily(
        "imagequeue_leases", "Jobs that workers hold, and of them those whose time is over", labels=["queue", "state"]
    )
    for queue in queues:
        leases.add_metric([queue.name, "held"], queue.leases - queue.overdue_leases)
        leases.add_metric([queue.name, "overdue"], queue.overdue_leases)
    yield leases
    yield gauge("fleet_images_per_second", "The fleet's measured rate", backlog.images_per_second)


def collection_metrics(count: int, collections: Sequence[OurCollection]) -> Iterator[Metric]:
    """Collections: how many there are, and what the first of them hold."""
    yield gauge("collections", "Collections that have images or results", count)
    shown: list[tuple[str, str, Callable[[OurCollection], float]]] = [
        ("imagequeue_pending_images", "Images of a collection without a result", lambda one: one.pending),
        ("imagequeue_dead_letters", "Errors whose requests are kept", lambda one: one.dead),
    ]
    for name, help_, value in shown:
        yield by_label(name, help_, "collection", collections, lambda one: one.name, value)
    accepted = CounterMetricFamily("imagequeue_accepted_images", "Images accepted", labels=["collection"])
    finished = CounterMetricFamily(
        "imagequeue_finished_images", "Images with a result, whoever wrote it", labels=["collection", "status"]
    )
    for one in collections:
        accepted.add_metric([one.name], one.accepted)
        finished.add_metric([one.name, "ok"], one.ok)
        finished.add_metric([one.name, "error"], one.error)
    yield from (accepted, finished)


def rq_metrics(state: RqState) -> Iterator[Metric]:
    """All queues and workers of RQ's, ours and others'."""
    jobs = GaugeMetricFamily("rq_jobs", "Jobs by status", labels=["queue", "status"])
    for queue in state.queues:
        for status, count in queue.jobs.items():
            jobs.add_metric([queue.name, status], count)
    yield jobs
    shown: list[tuple[str, str, Callable[[RqQueue], float]]] = [
        ("rq_oldest_job_age_seconds", "Age of the job at the head; 0 when the queue is empty",
         lambda one: one.oldest_seconds),
        ("rq_queue_workers", "Workers that serve the queue", lambda one: one.workers),
    ]  # fmt: skip
    for name, help_, value in shown:
        yield by_label(name, help_, "queue", state.queues, lambda one: one.name, value)
    workers = GaugeMetricFamily("rq_workers", "Workers by state", labels=["state"])
    for worker_state, count in state.workers.items():
        workers.add_metric([worker_state], count)
    yield workers
    yield GaugeMetricFamily("rq_suspended", "1 while `rq suspend` holds all workers", value=float(state.suspended))


def by_label(
    name: str, help_: str, label: str, things: Sequence[T], label_of: Callable[[T], str], value_of: Callable[[T], float]
) -> Metric:
    """A gauge with one label."""
    family = GaugeMetricFamily(name, help_, labels=[label])
    for thing in things:
        family.add_metric([label_of(thing)], value_of(thing))
    return family
