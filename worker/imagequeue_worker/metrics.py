"""Every Prometheus metric that a command writes itself, declared once, with the reason for its buckets.

What happens with every batch is summed up first (tally.py). What is read from Redis at each scrape stands in
fleet_metrics.py and exporter_metrics.py. prometheus_client keeps neither exemplars nor native histograms for several
processes, so there are none: these buckets are what there is.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from itertools import accumulate, repeat

from prometheus_client import CollectorRegistry, Counter, Gauge

from imagequeue_worker.tally import BatchHistogram, Tally

# A stage takes from half a millisecond (a small picture on a fast engine) to seconds (a slow network): doubling.
STAGE_BUCKETS = tuple(0.0005 * 2**i for i in range(15))  # 0.5 ms … 8.2 s
# Waiting depends on the backlog: from at once to hours.
WAIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 7200, 21600)
BATCH_BUCKETS = tuple(accumulate(repeat(2, 8), lambda value, factor: value * factor, initial=1))  # 1 … 256

RECOVERED_JOBS = ("imagequeue_recovered_jobs", "Jobs taken back from workers that are gone", ("reason",))

ImageLabels = tuple[str, str, str, str]
"""Queue, model, status, code."""


class Metrics:
    """One process's metrics. Made after the fork, when `values.ValueClass` knows the process's slot."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, help_: str, *labels: str) -> Counter:
            return Counter(f"imagequeue_{name}", help_, labels, registry=registry)

        def histogram(name: str, help_: str, buckets: Iterable[float]) -> BatchHistogram:
            return BatchHistogram(f"imagequeue_{name}", help_, buckets=tuple(buckets), registry=registry)

        self.images = counter("images", "Images with a result", "queue", "model", "status", "code")
        self._images_by: dict[ImageLabels, Counter] = {}
        self.batches = counter("batches", "Batches classified")
        self.queue_seconds = histogram("queue_seconds", "From submission until a worker took the image", WAIT_BUCKETS)
        self.fetch_seconds = histogram("fetch_seconds", "Getting an image's bytes", STAGE_BUCKETS)
        self.decode_seconds = histogram("decode_seconds", "From bytes to pixels", STAGE_BUCKETS)
        self.infer_seconds = histogram(
            "infer_seconds", "The net's time for one image: its batch's, shared", STAGE_BUCKETS
        )
        self.finish_seconds = histogram(
            "finish_seconds", "Publishing, once for each image of the publication", STAGE_BUCKETS
        )
        self.image_seconds = histogram("image_seconds", "From submission until the result is published", WAIT_BUCKETS)
        self.batch_images = histogram("batch_images", "Images classified at once", BATCH_BUCKETS)
        self.images_in_flight = Gauge(
            "imagequeue_images_in_flight",
            "Images taken and not yet finished",
            multiprocess_mode="sum",
            registry=registry,
        )
        self.recovered_jobs = Counter(*RECOVERED_JOBS, registry=registry)
        # What never happened is 0, and not missing: only then does an alert see the first time.
        for reason in ("requeued", "worker_lost"):
            self.recovered_jobs.labels(reason)
        self.image_retries = counter(
            "image_retries", "Images that got another try after an error that may pass", "code"
        )
        self.leases_lost = counter("leases_lost", "Leases that ended while their jobs were being worked on")
        self.redis_reconnects = counter("redis_reconnects", "Times that Redis was away and came back")
        self.model_info = Gauge(
            "imagequeue_model_info", "1 for each net that is loaded", ("name", "sha256", "engine"),
            multiprocess_mode="max", registry=registry,
        )  # fmt: skip

        self.tally = Tally(self)

    def images_with(self, labels: ImageLabels) -> Counter:
        """The counter of images with these labels, bound once."""
        found = self._images_by.get(labels)
        if found is None:
            found = self._images_by[labels] = self.images.labels(*labels)
        return found


class SupervisorMetrics:
    """What a supervisor knows and no worker process lives to tell."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.recovered_jobs = Counter(*RECOVERED_JOBS, registry=registry)
        self.recovered_jobs.labels("dead_child_requeued")
        self.process_restarts = Counter(
            "imagequeue_process_restarts", "Worker processes that ended and were replaced", ("reason",),
            registry=registry,
        )  # fmt: skip
        for reason in ("replaced", "killed", "failed"):
            self.process_restarts.labels(reason)
        build = Gauge(
            "imagequeue_build_info", "1, with the version that runs", ("version",), multiprocess_mode="max",
            registry=registry,
        )  # fmt: skip
        build.labels(metadata.version("imagequeue")).set(1)

    def count_end(self, code: int) -> None:
        """Note that a worker process ended: with an exit code, or by a signal (negative)."""
        self.process_restarts.labels("killed" if code < 0 else "failed" if code else "replaced").inc()
