"""Spans of a producer, in applications that use OpenTelemetry; elsewhere nothing is imported, and nothing done.

A chunk's span travels in its request as a W3C traceparent (its tracestate does not), and the workers' spans of its
images hang below it.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from msgspec import UNSET, UnsetType

if TYPE_CHECKING:
    from opentelemetry.trace import Span


class SubmissionSpan:
    """The span of one chunk on its way; none where nothing is traced.

    It is not made the current span: chunks overlap, also within one task.
    """

    __slots__ = ("_span",)

    def __init__(self, span: Span | None = None) -> None:
        self._span = span

    @property
    def traceparent(self) -> str | UnsetType:
        """What the request carries; UNSET where nothing is traced."""
        context = self._span.get_span_context() if self._span else None
        if context is None or not context.is_valid:
            return UNSET
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """It was accepted, or failed: the span ends."""
        if self._span is None:
            return
        if kind is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, kind.__name__))
        self._span.end()


_UNTRACED = SubmissionSpan()


def begin_submission(queue: str, collection: str, images: int) -> SubmissionSpan:
    """Begin a span below the application's current one; nothing in one that has not set OpenTelemetry up."""
    if "opentelemetry.trace" not in sys.modules:
        return _UNTRACED
    from opentelemetry import trace

    # redis-py imports OpenTelemetry wherever it is installed: only a provider of the application's means anything.
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return _UNTRACED
    span = trace.get_tracer("imagequeue").start_span(
        "submit", kind=trace.SpanKind.PRODUCER,
        attributes={
            "messaging.system": "imagequeue", "messaging.operation.type": "send", "messaging.destination.name": queue,
            "messaging.batch.message_count": images, "imagequeue.collection": collection,
        },
    )  # fmt: skip
    return SubmissionSpan(span)
