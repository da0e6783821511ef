"""Sums up what happens to images before it is written: where metrics would cost, they cost a few additions.

A write goes into a file that the metrics server reads: a microsecond, ten times per publication. So publications that
follow each other fast are written together; the heartbeat writes what is left. A process that is killed takes with it
what it counted in its last moment, at most a quarter of a second.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prometheus_client import Histogram

from imagequeue.contract import Failure, Model, Status
from imagequeue_worker.jobs import Published

if TYPE_CHECKING:
    from imagequeue_worker.metrics import ImageLabels, Metrics

WRITE_EVERY_SECONDS = 0.2


class Spread:
    """Observations that are not written yet."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds  # upper ones, the last of which is infinite
        self.counts = [0] * len(bounds)
        self.total = 0.0

    def add(self, value: float, count: int = 1) -> None:
        """Observe a value so many times."""
        self.counts[bisect_left(self._bounds, value)] += count
        self.total += value * count

    def add_counted(self, values: Sequence[float], counts: Sequence[int]) -> None:
        """Observe each of these so many times."""
        for value, count in zip(values, counts, strict=True):
            self.counts[bisect_left(self._bounds, value)] += count
            self.total += value * count

    def add_all(self, values: Sequence[float]) -> None:
        """Observe each of these."""
        bounds, counts = self._bounds, self.counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self.total += sum(values)


class BatchHistogram(Histogram):
    """Takes many observations at once. Knows how prometheus_client keeps buckets; a test compares it with `observe`."""

    def spread(self) -> Spread:
        """An empty one with this histogram's buckets."""
        return Spread(self._upper_bounds)

    def add(self, spread: Spread) -> None:
        """Observe everything that was added to it, and empty it."""
        for number, count in enumerate(spread.counts):
            if count:
                self._buckets[number].inc(count)
                spread.counts[number] = 0
        if spread.total:
            self._sum.inc(spread.total)
            spread.total = 0.0


class Tally:
    """What has happened to images since the last write. All threads of a worker add to it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._written_at = 0.0
        self._changed = False
        self._in_flight = self._batches = 0
        self._publications: list[tuple[Published, float, float]] = []
        self._images: dict[ImageLabels, int] = {}
        self._queue = metrics.queue_seconds.spread()
        self._fetch = metrics.fetch_seconds.spread()
        self._decode = metrics.decode_seconds.spread()
        self._infer = metrics.infer_seconds.spread()
        self._finish = metrics.finish_seconds.spread()
        self._total = metrics.image_seconds.spread()
        self._batch = metrics.batch_images.spread()

    def in_flight(self, more: int) -> None:
        """So many more images are held; fewer when negative."""
        with self._lock:
            self._in_flight += more
            self._changed = True

    def classified(self, images: int) -> None:
        """A batch of so many images was classified."""
        with self._lock:
            self._batches += 1
            self._batch.add(images)
            self._changed = True

    def published(self, jobs: Published, began: float) -> None:
        """Images have been published just now, by a call that began then (monotonic seconds)."""
        with self._lock:
            self._publications.append((jobs, began, time.monotonic()))
            self._changed = True

    def _add_up(self) -> None:
        """Take the publications since the last write apart: many together cost less than each by itself."""
        publications, self._publications = self._publications, []
        jobs = [job for found, _, _ in publications for job in found]
        taken = [job.taken for job, _ in jobs]
        outcomes = [outcome for _, found in jobs for outcome in found]
        spent = [outcome.seconds for outcome in outcomes]
        counts = [len(found) for _, found in jobs]  # what the images of a job share is observed so many times
        waited = [max(0.0, job.taken_at - job.submitted_at) for job in taken]
        ended = [at for found, _, at in publications for _ in found]
        totals = [wait + at - job.taken_monotonic for wait, at, job in zip(waited, ended, taken, strict=True)]
        finishing = [at - began for found, began, at in publications for _ in found]
        self._count(jobs)
        self._queue.add_counted(waited, counts)
        self._total.add_counted(totals, counts)
        self._finish.add_counted(finishing, counts)
        # 0: the image ended before that stage.
        self._fetch.add_all([seconds.fetch for seconds in spent if seconds.fetch])
        self._decode.add_all([seconds.decode for seconds in spent if seconds.decode])
        self._infer.add_all([seconds.infer for seconds in spent if seconds.infer])

    def _count(self, jobs: Published) -> None:
        """Count images by their labels. Nearly all are `ok`, of one queue, by one net: those are told by identity."""
        queue, model, ok = "", None, 0
        for job, found in jobs:
            if job.taken.lease.queue != queue:
                self._count_as(queue, model, None, ok)
                queue, ok = job.taken.lease.queue, 0
            for outcome in found:
                if outcome.error is not None:
                    self._count_as(queue, outcome.model, outcome.error, 1)
                elif outcome.model is model:
                    ok += 1
                else:
                    self._count_as(queue, model, None, ok)
                    model, ok = outcome.model, 1
        self._count_as(queue, model, None, ok)

    def _count_as(self, queue: str, model: Model | None, error: Failure | None, count: int) -> None:
        if not count:
            return
        status = Status.ERROR if error else Status.OK
        labels = (queue, model.name if model else "", status.value, error.code if error else "")
        self._images[labels] = self._images.get(labels, 0) + count

    def write_if_due(self) -> None:
        """Write it, unless something was written a moment ago."""
        if time.monotonic() - self._written_at >= WRITE_EVERY_SECONDS:
            self.write()

    def write(self) -> None:
        """Write everything."""
        with self._lock:
            if not self._changed:
                return
            self._changed, self._written_at = False, time.monotonic()
            self._add_up()
            metrics = self._metrics
            metrics.images_in_flight.set(self._in_flight)
            if self._batches:
                metrics.batches.inc(self._batches)
            for labels, count in self._images.items():
                if count:
                    metrics.images_with(labels).inc(count)
                    self._images[labels] = 0
            self._batches = 0
            metrics.queue_seconds.add(self._queue)
            metrics.fetch_seconds.add(self._fetch)
            metrics.decode_seconds.add(self._decode)
            metrics.infer_seconds.add(self._infer)
            metrics.finish_seconds.add(self._finish)
            metrics.image_seconds.add(self._total)
            metrics.batch_images.add(self._batch)
