"""Every Prometheus metric of a worker process, declared once, with the reason for its buckets."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import accumulate, repeat

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from imagequeue.contract import Outcome
from imagequeue_worker.jobs import TakenJob

# A stage takes from half a millisecond (a small picture on a fast engine) to seconds (a slow network): doubling.
STAGE_BUCKETS = tuple(0.0005 * 2**i for i in range(15))  # 0.5 ms … 8.2 s
# Waiting depends on the backlog: from at once to hours.
WAIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 7200, 21600)
BATCH_BUCKETS = tuple(accumulate(repeat(2, 8), lambda value, factor: value * factor, initial=1))  # 1 … 256


class Metrics:
    """One process's metrics. Made after the fork, when `values.ValueClass` knows the process's slot."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, help_: str, *labels: str) -> Counter:
            return Counter(f"imagequeue_{name}", help_, labels, registry=registry)

        def histogram(name: str, help_: str, buckets: Iterable[float]) -> Histogram:
            return Histogram(f"imagequeue_{name}", help_, buckets=tuple(buckets), registry=registry)

        self.images = counter("images", "Images with a result", "queue", "model", "status", "code")
        self.batches = counter("batches", "Batches classified")
        self.queue_seconds = histogram("queue_seconds", "From submission until a worker took the image", WAIT_BUCKETS)
        self.fetch_seconds = histogram("fetch_seconds", "Getting an image's bytes", STAGE_BUCKETS)
        self.decode_seconds = histogram("decode_seconds", "From bytes to pixels", STAGE_BUCKETS)
        self.infer_seconds = histogram(
            "infer_seconds", "The net's time for one image: its batch's, shared", STAGE_BUCKETS
        )
        self.image_seconds = histogram("image_seconds", "From submission until the result is published", WAIT_BUCKETS)
        self.batch_images = histogram("batch_images", "Images classified at once", BATCH_BUCKETS)
        self.images_in_flight = Gauge(
            "imagequeue_images_in_flight",
            "Images taken and not yet finished",
            multiprocess_mode="sum",
            registry=registry,
        )
        self.recovered_jobs = counter("recovered_jobs", "Jobs taken back from workers that are gone", "reason")
        self.image_retries = counter(
            "image_retries", "Images that got another try after an error that may pass", "code"
        )
        self.leases_lost = counter("leases_lost", "Leases that ended while their jobs were being worked on")
        self.redis_reconnects = counter("redis_reconnects", "Times that Redis was away and came back")
        self.model_info = Gauge(
            "imagequeue_model_info", "1 for each net that is loaded", ("name", "sha256", "engine"),
            multiprocess_mode="max", registry=registry,
        )  # fmt: skip

    def count_image(self, job: TakenJob, outcome: Outcome) -> None:
        """Count one published image, and where its time went."""
        model = outcome.model.name if outcome.model else ""
        code = outcome.error.code if outcome.error else ""
        self.images.labels(queue=job.lease.queue, model=model, status=outcome.status.value, code=code).inc()
        spent = outcome.seconds
        self.queue_seconds.observe(spent.queue)
        self.image_seconds.observe(spent.queue + time.monotonic() - job.taken_monotonic)
        if spent.fetch:
            self.fetch_seconds.observe(spent.fetch)
        if spent.decode:
            self.decode_seconds.observe(spent.decode)
        if spent.infer:
            self.infer_seconds.observe(spent.infer)
