"""OpenTelemetry spans of a worker, made when images have been published: nothing is traced while they are on their way.

    submit (the producer's) <── image ┬─ queue          one per image of a request that carries a trace
                                      ├─ fetch
                                      ├─ decode
                                      ├─ infer
                                      └─ finish
                                batch ──links──> the images that were published together

Only `start_tracing` imports OpenTelemetry, and only where `--tracing` asks for it. What is on the wire is a W3C
traceparent; whether an image is recorded is decided by its producer's sampling flag, as OpenTelemetry's default has it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata, util
from typing import TYPE_CHECKING, Final

import structlog

from imagequeue.contract import Outcome
from imagequeue_worker.errors import SettingsError
from imagequeue_worker.jobs import FinishedJob, Published, TakenJob, Timing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, SpanContext

log = structlog.get_logger("imagequeue_worker.tracing")

FLUSH_SECONDS: Final = 2.0  # that the last spans may take when a worker ends
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")


class Tracing:
    """Makes spans out of what has been published. Used by the thread that publishes."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("imagequeue_worker", metadata.version("imagequeue"))

    def published(self, jobs: Published, began: float) -> None:
        """Record the images of a publication that began then (monotonic seconds) and has just ended. Never raises."""
        try:
            self._record(jobs, began)
        except Exception:
            log.exception("defect while tracing; the images are published")

    def _record(self, jobs: Published, began: float) -> None:
        publication = _Publication(_Clock.now(), began, time.monotonic())
        images = [
            self._image(parent, job.taken, outcome, job.timings.get(outcome.id, Timing()), publication)
            for job, outcomes in jobs
            if (parent := _parent(job)) is not None
            for outcome in outcomes
        ]
        if recorded := [image for image in images if image.trace_flags.sampled]:
            self._batch(recorded, jobs, publication)

    def close(self) -> None:
        """Send what is left, if that takes a moment only: a collector that is away keeps no worker from ending."""
        flush = threading.Thread(target=self._provider.force_flush, daemon=True)
        flush.start()
        flush.join(FLUSH_SECONDS)

    def _image(
        self, parent: SpanContext, taken: TakenJob, outcome: Outcome, timing: Timing, publication: _Publication
    ) -> SpanContext:
        from opentelemetry.trace import NonRecordingSpan, SpanKind, Status, StatusCode, set_span_in_context

        clock = publication.clock
        submitted = taken.taken_monotonic - max(0.0, taken.taken_at - taken.submitted_at)
        span = self._tracer.start_span(
            "image", set_span_in_context(NonRecordingSpan(parent)), SpanKind.CONSUMER, _attributes(taken, outcome),
            start_time=clock.unix_ns(submitted),
        )  # fmt: skip
        if outcome.error:
            span.set_status(Status(StatusCode.ERROR, outcome.error.code))
        if span.is_recording():
            stages = (
                ("queue", submitted, taken.taken_monotonic),
                ("fetch", timing.fetch_began, timing.fetch_ended),
                ("decode", timing.decode_began, timing.decode_ended),
                ("infer", timing.infer_began, timing.infer_ended),
                ("finish", publication.began, publication.ended),
            )
            for name, began, ended in stages:
                if ended > 0:  # it came so far
                    self._stage(span, name, clock.unix_ns(began), clock.unix_ns(ended))
        span.end(clock.unix_ns(publication.ended))
        return span.get_span_context()

    def _stage(self, image: Span, name: str, began_ns: int, ended_ns: int) -> None:
        from opentelemetry.trace import set_span_in_context

        self._tracer.start_span(name, set_span_in_context(image), start_time=began_ns).end(ended_ns)

    def _batch(self, images: Iterable[SpanContext], jobs: Published, publication: _Publication) -> None:
        """A trace of its own, since its images belong to many."""
        from opentelemetry.context import Context
        from opentelemetry.trace import Link

        began = min(job.taken.taken_monotonic for job, _ in jobs)
        span = self._tracer.start_span(
            "batch", Context(), links=[Link(image) for image in images],
            attributes={"imagequeue.jobs": len(jobs), "imagequeue.images": sum(len(found) for _, found in jobs)},
            start_time=publication.clock.unix_ns(began),
        )  # fmt: skip
        span.end(publication.clock.unix_ns(publication.ended))


@dataclass(frozen=True, slots=True)
class _Clock:
    """What Unix time it was at monotonic 0: stages are timed by a clock that never jumps."""

    offset_seconds: float

    @classmethod
    def now(cls) -> _Clock:
        return cls(time.time() - time.monotonic())

    def unix_ns(self, monotonic: float) -> int:
        return round((self.offset_seconds + monotonic) * 1e9)


@dataclass(frozen=True, slots=True)
class _Publication:
    clock: _Clock
    began: float
    ended: float


def _parent(job: FinishedJob) -> SpanContext | None:
    """The producer's span; None where there is none. What is no traceparent is as if it were not there."""
    from opentelemetry.trace import SpanContext, TraceFlags

    found = _TRACEPARENT.fullmatch(job.request.trace) if job.request and job.request.trace else None
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return context if context.is_valid else None


def _attributes(taken: TakenJob, outcome: Outcome) -> dict[str, str | int]:
    found: dict[str, str | int] = {
        "messaging.system": "imagequeue",
        "messaging.operation.type": "process",
        "messaging.destination.name": taken.lease.queue,
        "messaging.message.id": outcome.id,
        "imagequeue.collection": taken.collection,
        "imagequeue.job": taken.lease.job,
        "imagequeue.attempt": taken.attempt,
        "imagequeue.status": outcome.status.value,
    }
    if outcome.error:
        found["error.type"] = outcome.error.code
    if outcome.model:
        found["imagequeue.model"] = outcome.model.name
    return found


def require_opentelemetry() -> None:
    """Raise SettingsError when `--tracing` cannot be had."""
    for package in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
        try:
            found = util.find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise SettingsError("--tracing needs OpenTelemetry; pip install 'imagequeue[otel]'")


def start_tracing(worker: str) -> Tracing:
    """Spans by OTLP over HTTP, in batches, by a thread of their own: not before a fork.

    OpenTelemetry's own variables hold: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME …
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    own = Resource({"service.name": "imagequeue-worker", "service.instance.id": worker})
    provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)
