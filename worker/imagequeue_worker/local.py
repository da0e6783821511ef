"""Files classified in this process: the worker's pipeline without Redis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from imagequeue.contract import IMAGES_PER_JOB_MAX, Image, Outcome, Request, encode_job
from imagequeue.parts import batches
from imagequeue_worker.images import Limits
from imagequeue_worker.jobs import Lease, TakenJob
from imagequeue_worker.loading import Threads
from imagequeue_worker.nets import IMAGES_PER_RUN, Nets
from imagequeue_worker.pipeline import Batch, Pipeline
from imagequeue_worker.references import ImageSources, References

EVERYWHERE = (Path("/"),)  # the user's own files, named by the user


def classify_references(
    refs: Iterable[str], nets: Nets, *, top_k: int, threads: int, limits: Limits
) -> Iterator[Outcome]:
    """The outcome of each reference, in order; the next pictures are decoded while the net runs."""
    references = References(ImageSources(image_roots=EVERYWHERE, image_bytes_max=limits.image_bytes_max))
    pipeline = Pipeline(nets, references, limits, threads=Threads(decoding=threads))
    current: Batch | None = None
    try:
        for request in _requests(refs, top_k):
            upcoming = pipeline.prepare([_job(request)])
            if current:
                yield from _outcomes(pipeline, current)
            current = upcoming
        if current:
            yield from _outcomes(pipeline, current)
    finally:
        pipeline.close()


def _outcomes(pipeline: Pipeline, batch: Batch) -> Iterator[Outcome]:
    for job in pipeline.classify(batch):
        yield from job.outcomes


def _requests(refs: Iterable[str], top_k: int) -> Iterator[Request]:
    """Requests of a few images each; the ids are positions, since a file may be named twice."""
    for part in batches(enumerate(refs), min(IMAGES_PER_RUN, IMAGES_PER_JOB_MAX)):
        yield Request(images=tuple(Image(str(number), ref) for number, ref in part), top_k=top_k)


def _job(request: Request) -> TakenJob:
    """A job as take would return it, had there been a queue."""
    return TakenJob(
        lease=Lease("", "", ""), attempt=1, losses=0, collection=request.collection, submitted_at=0.0, taken_at=0.0,
        forbidden=False, data=encode_job(request), ids=tuple(image.id for image in request.images),
    )  # fmt: skip
