"""References -> bytes -> pixels -> probabilities -> outcomes; one bad image fails alone.

A batch has two halves, so that they overlap: `prepare` hands the pictures of the next batch to threads that fetch and
decode, while `classify` runs the net on the current one. What is in flight is bounded: at most two batches of crops,
and per thread one file with its decoded picture.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol as Interface

import numpy as np
import structlog
from numpy.typing import NDArray

from imagequeue.contract import ClassScore, ErrorCode, Failure, Image, Outcome, Request, StageSeconds, Status
from imagequeue.errors import ContractError
from imagequeue_worker.errors import ImageError
from imagequeue_worker.images import Limits, Preprocessing, preprocess
from imagequeue_worker.jobs import FinishedJob, TakenJob, failed_outcome
from imagequeue_worker.nets import IMAGES_PER_RUN, LoadedNet, Nets

log = structlog.get_logger("imagequeue_worker.pipeline")

Decode = Callable[[bytes, Preprocessing, Limits], NDArray[np.uint8]]


class Fetcher(Interface):
    """Where bytes come from; see `references`."""

    def fetch(self, ref: str) -> bytes:
        """The bytes that a reference names; raise ImageError when they cannot be had."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """What fetching and decoding gave: pixels, or the failure instead; and the seconds they took."""

    pixels: NDArray[np.uint8] | None = None
    failure: Failure | None = None
    fetch_seconds: float = 0.0
    decode_seconds: float = 0.0


@dataclass(slots=True)
class Picture:
    """One image on its way through a batch."""

    image: Image
    request: Request
    net: LoadedNet | None
    pixels: Future[Pixels]


@dataclass(slots=True)
class PreparingJob:
    """A job whose pictures are being fetched and decoded, or that could not be read."""

    taken: TakenJob
    request: Request | None = None
    failure: Failure | None = None
    pictures: list[Picture] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """The jobs that are classified together."""

    jobs: list[PreparingJob]

    @property
    def images(self) -> int:
        """How many images its jobs own."""
        return sum(len(job.taken.ids) for job in self.jobs)

    def cancel(self) -> None:
        """Forget what has not been begun."""
        for job in self.jobs:
            for picture in job.pictures:
                picture.pixels.cancel()


class Pipeline:
    """What a process does with images; made once, after the fork."""

    def __init__(
        self,
        nets: Nets,
        references: Fetcher,
        limits: Limits,
        *,
        threads: int,
        worker: str = "",
        decode: Decode = preprocess,
        on_advance: Callable[[], None] = lambda: None,
    ) -> None:
        self._nets = nets
        self._references = references
        self._limits = limits
        self._worker = worker
        self._decode = decode
        self._advance = on_advance
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def prepare(self, jobs: Sequence[TakenJob]) -> Batch:
        """Begin to fetch and decode what these jobs own; returns at once."""
        return Batch([self._prepare_job(job) for job in jobs])

    def classify(self, batch: Batch) -> list[FinishedJob]:
        """Wait for a batch's pixels and classify them; an outcome for every image that its jobs own."""
        outcomes: dict[int, Outcome] = {}
        for net, group in self._groups(batch):
            outcomes.update(self._run(net, group))
        return [self._finished(job, outcomes) for job in batch.jobs]

    def close(self) -> None:
        """Let the threads end; what they are at is left to them."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    # --- fetch and decode ----------------------------------------------------------------------------------------

    def _prepare_job(self, taken: TakenJob) -> PreparingJob:
        try:
            request = taken.request()
        except ContractError as error:
            return PreparingJob(taken, failure=Failure(error.code, str(error)))
        job = PreparingJob(taken, request)
        mine = set(taken.ids)
        job.pictures = [self._prepare_picture(image, request) for image in request.images if image.id in mine]
        return job

    def _prepare_picture(self, image: Image, request: Request) -> Picture:
        try:
            net = self._nets.choose(request.model)
        except ImageError as error:
            failed: Future[Pixels] = Future()
            failed.set_result(Pixels(failure=Failure(error.code.value, str(error))))
            return Picture(image, request, None, failed)
        return Picture(image, request, net, self._threads.submit(self._load, image, net.description.preprocessing))

    def _load(self, image: Image, spec: Preprocessing) -> Pixels:
        """Fetch and decode one image; runs in a thread, and gives every failure as a value."""
        started = fetched = time.perf_counter()
        try:
            data = self._references.fetch(image.ref)
            fetched = time.perf_counter()
            self._advance()
            pixels = self._decode(data, spec, self._limits)
            return Pixels(pixels, None, fetched - started, time.perf_counter() - fetched)
        except ImageError as error:
            return Pixels(failure=Failure(error.code.value, str(error)), fetch_seconds=fetched - started)
        except Exception as error:
            log.exception("defect while loading an image", id=image.id, ref=image.ref[:200])
            return Pixels(failure=_internal(error), fetch_seconds=fetched - started)
        finally:
            self._advance()

    # --- classify ------------------------------------------------------------------------------------------------

    def _groups(self, batch: Batch) -> Iterator[tuple[LoadedNet | None, list[tuple[TakenJob, Picture]]]]:
        """The pictures of a batch by net: failures first, as soon as their pixels are known."""
        groups: dict[str, tuple[LoadedNet | None, list[tuple[TakenJob, Picture]]]] = {}
        for job in batch.jobs:
            for picture in job.pictures:
                net = picture.net if picture.pixels.result().pixels is not None else None
                name = net.model.name if net else ""
                groups.setdefault(name, (net, []))[1].append((job.taken, picture))
        yield from groups.values()

    def _run(self, net: LoadedNet | None, group: list[tuple[TakenJob, Picture]]) -> Iterator[tuple[int, Outcome]]:
        if net is None:
            for taken, picture in group:
                yield id(picture), self._outcome(taken, picture, picture.pixels.result())
            return
        for start in range(0, len(group), IMAGES_PER_RUN):
            yield from self._run_slice(net, group[start : start + IMAGES_PER_RUN])
            self._advance()

    def _run_slice(self, net: LoadedNet, group: list[tuple[TakenJob, Picture]]) -> Iterator[tuple[int, Outcome]]:
        loaded = [picture.pixels.result() for _, picture in group]
        started = time.perf_counter()
        try:
            probabilities = net.probabilities(np.stack([one.pixels for one in loaded if one.pixels is not None]))
        except Exception as error:
            log.exception("defect while running the net", net=net.model.name)
            for (taken, picture), one in zip(group, loaded, strict=True):
                yield id(picture), self._outcome(taken, picture, replace(one, failure=_internal(error)))
            return
        seconds = (time.perf_counter() - started) / len(group)
        for (taken, picture), one, row in zip(group, loaded, probabilities, strict=True):
            classes = net.best_classes(row, picture.request.top_k)
            yield id(picture), self._outcome(taken, picture, one, seconds, classes)

    # --- outcomes ------------------------------------------------------------------------------------------------

    def _outcome(
        self,
        taken: TakenJob,
        picture: Picture,
        loaded: Pixels,
        infer_seconds: float = 0.0,
        classes: tuple[ClassScore, ...] = (),
    ) -> Outcome:
        seconds = StageSeconds(
            queue=max(0.0, taken.taken_at - taken.submitted_at),
            fetch=loaded.fetch_seconds,
            decode=loaded.decode_seconds,
            infer=infer_seconds,
        )
        return Outcome(
            id=picture.image.id,
            ref=picture.image.ref,
            status=Status.ERROR if loaded.failure else Status.OK,
            classes=classes,
            error=loaded.failure,
            model=picture.net.model if picture.net else None,
            worker=self._worker,
            attempt=taken.attempt,
            submitted_at=taken.submitted_at,
            seconds=seconds,
        )

    def _finished(self, job: PreparingJob, outcomes: dict[int, Outcome]) -> FinishedJob:
        if job.failure:
            failed = [failed_outcome(job.taken, id_, "", job.failure, self._worker) for id_ in job.taken.ids]
            return FinishedJob(job.taken, failed, failure=f"{job.failure.code}: {job.failure.message}")
        return FinishedJob(job.taken, [outcomes[id(picture)] for picture in job.pictures], job.request)


def _internal(error: Exception) -> Failure:
    return Failure(
        ErrorCode.INTERNAL.value, f"{type(error).__name__}: a defect of the worker; its log has the traceback"
    )
